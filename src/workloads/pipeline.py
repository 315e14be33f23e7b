"""A whole diffusers pipeline as one module: the prompt's encoding, every denoising step, and the VAE's decoding."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from hydra.utils import get_object, instantiate
from torch import nn

from src.config.errors import ConfigError, accepted
from src.config.schema.model import PIPELINE, VAE, ComponentConf, ModelConf
from src.config.schema.root import RootConf, sizes
from src.workloads.dims import resolve, resolved
from src.workloads.inputs import make_inputs
from src.workloads.model import build_model, weights_made_on
from src.workloads.recipe import restructured
from src.workloads.tokens import PROMPT, TokenIds
from src.workloads.weights.saved import Saved, refuse_cut
from src.workloads.weights.unquantized import refuse_quantized_files

_WHERE = "model.pipeline"


class Part(NamedTuple):
    """How a module of a pipeline is made."""

    conf: ModelConf | ComponentConf
    seed: int
    where: str  # in the configuration


def pipeline_parts(cfg: RootConf) -> dict[str, Part]:
    """The modules of the run's pipeline, by its names: denoiser, VAE if any, the text encoders it uses, others."""
    conf = cfg.model.pipeline
    vae = {VAE: Part(conf.vae, cfg.seed + 2, f"{_WHERE}.vae")} if conf.vae.factory else {}
    found = {conf.denoiser: Part(cfg.model, cfg.seed, "model"), **vae}
    others: list[tuple[str, str, ComponentConf]] = [
        ("text_encoders", name, encoder) for name, encoder in conf.encoders().items()
    ]
    others += [("parts", name, part) for name, part in conf.parts.items()]
    return found | {
        name: Part(part, cfg.seed + 4 + index, f"{_WHERE}.{place}.{name}")
        for index, (place, name, part) in enumerate(others)
    }


def parts_of(cfg: RootConf) -> dict[str, Part]:
    """The models that a run builds: those of its pipeline, or the one that its target is part of."""
    return pipeline_parts(cfg) if cfg.target == PIPELINE else {"": Part(cfg.model, cfg.seed, "model")}


def check_weights(cfg: RootConf) -> None:
    """Refuse weights whose files say that they are quantized, before anything is measured.

    Raises:
        ConfigError: a class or a folder is not there.
        RunEndedError: `unsupported`, a model of the run is quantized.
    """
    for part in parts_of(cfg).values():
        refuse_quantized_files(part.conf, part.where)


class ImagePipeline(nn.Module):
    """A diffusers pipeline whose forward generates images or videos, from the same initial latents at each call.

    Its modules are submodules under the names that the pipeline gives them.

    Args:
        pipeline: a DiffusionPipeline from text to images or videos.
        cfg: says which modules it has, what it calls its denoiser, and the seed of the initial latents and of
            whatever else the scheduler draws.
    """

    def __init__(self, pipeline: Any, cfg: RootConf) -> None:
        super().__init__()
        self.pipeline, self.denoiser_name, self.seed = pipeline, cfg.model.pipeline.denoiser, cfg.seed + 3
        for name in pipeline_parts(cfg):
            self.add_module(name, pipeline.components[name])
        pipeline.set_progress_bar_config(disable=True)

    @property
    def denoiser(self) -> nn.Module:
        """The module that is called at every step."""
        return self.get_submodule(self.denoiser_name)

    def forward(self, **arguments: Any) -> torch.Tensor:
        """Images [batch, 3, height, width] or videos [batch, frames, 3, height, width] in [0, 1], float32.

        A scheduler starts afresh at every call: pipelines set its timesteps first.
        """
        device = self.pipeline._execution_device  # with offloading its modules are elsewhere
        generator = torch.Generator(device=device).manual_seed(self.seed)
        own = {name: [*each] if isinstance(each, list) else each for name, each in arguments.items()}
        # lists of its own, for ZImagePipeline writes into that of the prompts
        images = self.pipeline(**own, generator=generator, output_type="pt", return_dict=False)[0]
        assert isinstance(images, torch.Tensor)
        return images.float()


def build_pipeline(
    cfg: RootConf, denoiser: nn.Module, dims: Mapping[str, int], device: torch.device
) -> tuple[ImagePipeline, tuple[()], dict[str, Any]]:
    """The pipeline around a denoiser, and the arguments of one call to it.

    Raises:
        ConfigError: the class has no such component, or weights or shapes don't resolve.
        RunEndedError: `unsupported`, a recipe that the models cannot have.
    """
    conf, dtype = cfg.model.pipeline, getattr(torch, cfg.dtype)
    modules = {conf.denoiser: denoiser}
    for name, part in pipeline_parts(cfg).items():
        if name not in modules:
            modules[name] = build_model(part.conf, device, dtype, part.seed, part.where, weights_made_on(cfg))
    restructured(denoiser, cfg.recipe, modules.get(VAE))
    if conf.encodes():
        given = resolved(conf.call | conf.call_with_tokens, dims, f"{_WHERE}.call")
        prompt = {"prompt": prompts(cfg)} | given
    else:
        prompt = make_inputs(conf, dims, device, dtype, cfg.seed + 1, _WHERE)
    arguments = {
        "num_inference_steps": conf.steps,
        "guidance_scale": conf.guidance,
        "height": cfg.resolution,
        "width": cfg.resolution,
    } | prompt
    return assemble(cfg, modules), (), arguments


def prompts(cfg: RootConf) -> list[str]:
    """The text of each sample of the batch; one for all, where there is one."""
    texts = cfg.model.pipeline.prompts or [PROMPT]
    return [texts[row % len(texts)] for row in range(cfg.batch)]


def assemble(cfg: RootConf, modules: Mapping[str, nn.Module]) -> ImagePipeline:
    """The pipeline of its modules; what its class requires beside them and has no use for here is None.

    Raises:
        ConfigError: the class has no such component; a prompt that no text encoder takes.
    """
    conf = cfg.model.pipeline
    cls = get_object(conf._target_)
    known = inspect.signature(cls).parameters
    if conf.weights.source == "random":
        settings, scheduler = conf.arguments, instantiate(conf.scheduler, _convert_="all")
    else:
        saved = Saved(conf.weights)
        settings = conf.arguments | {name: each for name, each in saved.settings().items() if name in known}
        scheduler = saved.part("scheduler")
    given = {**settings, **modules, "scheduler": scheduler, **tokenizers(cfg, modules)}
    for name in given.keys() - known.keys():
        raise ConfigError(f"{_WHERE}: {cls.__name__} has no component {name}; {accepted(name, known)}")
    absent = {name: None for name, p in known.items() if p.default is p.empty and name not in given}
    return ImagePipeline(cls(**absent, **given), cfg)


def tokenizers(cfg: RootConf, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The tokenizers of the text encoders among the modules, or what stands for them, by what the class calls them.

    Raises:
        ConfigError: a prompt is longer than each of them takes.
    """
    conf, found = cfg.model.pipeline, {}
    if conf.prompts:
        saved = Saved(conf.weights)
        read = {encoder.tokenizer: saved.part(encoder.tokenizer) for encoder in conf.encoders().values()}
        dims = resolve(cfg.model.dims, sizes(cfg), "model.dims")
        refuse_cut(conf, read, resolved(conf.call | conf.call_with_tokens, dims, _WHERE), f"{_WHERE}.prompts")
        return read
    for name, part in pipeline_parts(cfg).items():
        if (encoder := conf.encoders().get(name)) is not None:
            config: Any = modules[name].config
            found[encoder.tokenizer] = TokenIds(
                encoder, config.get_text_config().vocab_size, cfg.batch, part.seed
            )
    return found
