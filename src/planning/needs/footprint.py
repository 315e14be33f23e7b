"""What a workload weighs and needs, found without its memory: built and called on torch's fake tensors."""

import contextlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_iter

from src.config.schema.model import PIPELINE, VAE, ComponentConf, ModelConf, WeightsConf
from src.config.schema.recipe import DIFFUSERS, RecipeConf
from src.config.schema.root import RootConf, sizes, sizes_of_call
from src.devices.device import Device
from src.outcomes import RunEndedError
from src.planning.needs.besides import Besides
from src.planning.needs.live import LiveBytes
from src.planning.needs.step import Step, step_of
from src.treatments.layers import LayerRow, capture_layers
from src.workloads.dims import resolve, shape_of
from src.workloads.inputs import make_inputs
from src.workloads.model import empty_model
from src.workloads.pipeline import pipeline_parts
from src.workloads.recipe import SWITCHES, restructured
from src.workloads.weights.parameters import fill, size_bytes, tensor_bytes
from src.workloads.workload import Workload, build_workload

_CPU = Device(kind="cpu", name="fake", memory_gib=math.nan)
_OF_MODEL = ("fused_qkv", "attention")  # what a recipe does to weights or activations of a denoiser
_OF_VAE = tuple(SWITCHES)  # and of a VAE
_WHOLE_SCORES = ("math", f"{DIFFUSERS}_native_math")  # attentions that write their scores to memory


@dataclass(frozen=True)
class Footprint:
    """Bytes of a workload, unquantized and uncompiled, and its Linear layers."""

    weights: int  # of the target, of a pipeline all its modules'
    inputs: int = 0
    activations: int = 0  # the most that one eager call holds at once beside weights and inputs
    step: int = 0  # the most that an eager training step holds beside weights and inputs, with its gradients
    targets: int = 0  # what the output of a training step is compared with
    adapters: int = 0  # that are trained beside the weights
    made: int = 0  # the most that making it takes: of a part of a model, the whole one and its forward
    building: int = 0  # the same, or its call thereafter, which shows the layers
    rows: list[LayerRow] = field(default_factory=list)
    layer_bytes: dict[str, int] = field(default_factory=dict)  # layer name -> of its weight
    trouble: str = ""  # why the rest is not known, where it is not
    built: bool = True  # False: nor are the weights, for something of it could not be built


class Footprints:
    """Footprints of a sweep's workloads; each distinct one is made once."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._models: dict[str, nn.Module] = {}
        self._known: dict[str, Footprint] = {}
        self._besides: dict[str, Besides] = {}

    @staticmethod
    def key(cfg: RootConf) -> str:
        """Equal for runs of equal footprint."""
        lora = cfg.training.lora
        step = (cfg.task.steps, lora if lora.rank else None)
        recipe = _told(cfg.recipe, _OF_MODEL + _OF_VAE)
        return repr((cfg.model, cfg.target, sizes(cfg), cfg.dtype, step, recipe))

    @torch.no_grad()
    def of(self, cfg: RootConf) -> Footprint:
        """The footprint of a run's workload."""
        key = self.key(cfg)
        if key not in self._known:
            self._known[key] = self._made(cfg)
        return self._known[key]

    @torch.no_grad()
    def besides(self, cfg: RootConf) -> Besides:
        """What one call does beside its Linear layers, of a target that `of` could follow."""
        key = self.key(cfg)
        if key not in self._besides:
            self._besides[key] = self._counted(cfg)
        return self._besides[key]

    def _counted(self, cfg: RootConf) -> Besides:
        model = self._model(cfg.model, cfg)
        with self._mode:
            workload = build_workload(cfg, _CPU, model)
            found = Besides()
            with found:
                workload.call()
        return found

    def _made(self, cfg: RootConf) -> Footprint:
        weights, built = 0, False
        try:
            model = self._model(cfg.model, cfg)
            conf = {} if cfg.target != PIPELINE else pipeline_parts(cfg)
            parts = {name: part for name, part in conf.items() if part.conf is not cfg.model}
            made = {name: self._model(part.conf, cfg, part.where) for name, part in parts.items()}
            weights, built = size_bytes(model) + sum(map(size_bytes, made.values())), True
            with self._mode:
                if cfg.target != PIPELINE:
                    return _of_target(cfg, model)
                return _of_pipeline(cfg, model, made.get(VAE), weights)
        except (Exception, SystemExit) as error:  # whatever a model's own code cannot do without values
            said = " ".join(str(error).split())
            text = f"{type(error).__name__}: {said}" if said else type(error).__name__
            return Footprint(weights, building=weights, trouble=text[:200], built=built)

    def _model(self, conf: ModelConf | ComponentConf, cfg: RootConf, where: str = "model") -> nn.Module:
        """The model in the run's dtypes on fake tensors; of local and hub weights only the structure is read.

        Fused projections lie beside those that they take the place of, as diffusers keeps them.
        """
        vae = conf is cfg.model.pipeline.vae
        recipe = _told(cfg.recipe, _OF_MODEL if conf is cfg.model else _OF_VAE if vae else ())
        key = repr((conf.factory, conf.weights, cfg.dtype, recipe))
        if key not in self._models:
            dtype = getattr(torch, cfg.dtype)
            model = empty_model(conf, _CPU.torch, dtype, where)
            with self._mode:
                fill(model, replace(conf, weights=WeightsConf()), _CPU.torch, dtype, cfg.seed)
                for name in _OF_MODEL + _OF_VAE:
                    with contextlib.suppress(RunEndedError):  # it has none: the run is unsupported
                        restructured(model, _told(recipe, (name,)), model if vae else None)
            self._models[key] = model
        return self._models[key]


def _told(recipe: RecipeConf, names: tuple[str, ...]) -> RecipeConf:
    """The recipe with these keys alone, and of attentions those alone that write their scores to memory."""
    kept = {name: getattr(recipe, name) for name in names}
    if kept.get("attention") not in _WHOLE_SCORES:
        kept.pop("attention", None)
    return RecipeConf(**kept)


def _of_target(cfg: RootConf, model: nn.Module) -> Footprint:
    with LiveBytes() as building:
        workload = build_workload(cfg, _CPU, model)
    seen = _seen(workload)
    step = step_of(workload, cfg) if cfg.task.steps else Step()
    own = size_bytes(workload.module) + seen.inputs
    made = max(own, size_bytes(model) + building.peak if workload.path else 0)
    return Footprint(
        weights=size_bytes(workload.module),
        inputs=seen.inputs,
        activations=seen.activations,
        step=step.peak,
        targets=step.targets,
        adapters=step.adapters,
        made=made,
        building=max(own + seen.activations, made),
        rows=seen.rows,
        layer_bytes=seen.layer_bytes,
    )


def _of_pipeline(cfg: RootConf, model: nn.Module, vae: nn.Module | None, weights: int) -> Footprint:
    """A pipeline's steps one after another need the larger of what a denoising step and the decoding need.

    Encoding a prompt, and what else its further parts do, is taken to need less.
    """
    dims = resolve(cfg.model.dims, sizes_of_call(cfg), "model.dims")
    inputs = make_inputs(cfg.model, dims, _CPU.torch, getattr(torch, cfg.dtype), cfg.seed + 1)
    step = _seen(Workload(model, (), inputs))
    parts = [step] if vae is None else [step, _of_decoding(vae, cfg)]
    activations = max(part.activations for part in parts)
    return Footprint(
        weights=weights,
        inputs=step.inputs,
        activations=activations,
        made=weights + step.inputs,
        building=weights + step.inputs + activations,
        rows=[row for part in parts for row in part.rows],
        layer_bytes={name: each for part in parts for name, each in part.layer_bytes.items()},
    )


def _of_decoding(vae: nn.Module, cfg: RootConf) -> "_Seen":
    given = torch.empty(latents_shape(cfg, vae), device=_CPU.torch, dtype=getattr(torch, cfg.dtype))
    end = _seen(Workload(_Decoder(vae), (given,), {}))
    for row in end.rows:
        row.component, row.name = VAE, row.name.removeprefix(f"{VAE}.")
    return end


class _Decoder(nn.Module):
    """A VAE called as a pipeline does at its end."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> Any:
        decode: Any = self.vae.decode
        return decode(latents, return_dict=False)


def latents_shape(cfg: RootConf, vae: Any) -> list[int]:
    """What a pipeline's VAE decodes: as the model's file says, else [batch, channels, side, side].

    That is of square images, whose side each of the VAE's blocks but one halves.
    """
    if cfg.model.pipeline.latents:
        dims = resolve(cfg.model.dims, sizes(cfg), "model.dims")
        return shape_of(cfg.model.pipeline.latents, dims, "model.pipeline.latents")
    side = cfg.resolution // 2 ** (len(vae.config.block_out_channels) - 1)
    return [cfg.batch, vae.config.latent_channels, side, side]


@dataclass(frozen=True)
class _Seen:
    """What one call shows, in bytes."""

    inputs: int
    activations: int
    rows: list[LayerRow]
    layer_bytes: dict[str, int]


def _seen(workload: Workload) -> _Seen:
    with LiveBytes() as call:
        rows, _ = capture_layers(workload, keep=False)
    weights = {row.fqn: workload.module.get_submodule(row.fqn).weight for row in rows}
    layer_bytes = {name: _bytes(weight) for name, weight in weights.items()}
    return _Seen(_bytes((workload.args, workload.kwargs)), call.peak, rows, layer_bytes)


def _bytes(tree: Any) -> int:
    return sum(tensor_bytes(leaf) for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor))
