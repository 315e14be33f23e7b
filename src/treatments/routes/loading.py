"""quant.via=diffusers: the treated arm as diffusers' from_pretrained quantizes it while it loads."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from hydra.utils import get_class
from torch import nn

from src.config.errors import ConfigError
from src.config.schema.model import PIPELINE, ModelConf, WeightsConf
from src.config.schema.root import RootConf
from src.context import RunContext
from src.measurement.memory import peak_memory
from src.outcomes import unsupported
from src.treatments.applied import Choices, note_quantized, refusals
from src.treatments.calibrated import CalibratedScheme
from src.treatments.layers import LayerRow
from src.treatments.routes.pipeline_loading import load_pipeline, saved_pipeline
from src.treatments.routes.torchao_configs import torchao_config
from src.workloads.hooks import linears
from src.workloads.model import build_model, seeded, structure, weights_made_on
from src.workloads.pipeline import parts_of
from src.workloads.weights.sources import factory_of, load_pretrained
from src.workloads.workload import Workload, part_of


def check_loading(cfg: RootConf) -> None:
    """Whether diffusers can load the model, of a pipeline each of its parts, with such a scheme.

    Raises:
        RunEndedError: `unsupported`, for static scales.
        ConfigError: one is no model of diffusers, nor of transformers.
    """
    if cfg.quant.via != "diffusers":
        return
    if issubclass(get_class(cfg.quant._target_), CalibratedScheme):
        raise unsupported(
            f"quant.via=diffusers: from_pretrained writes a scheme's config down as JSON, which the scales of "
            f"{cfg.quant.name}, a tensor for each layer, do not fit into",
            "quant.via=direct",
        )
    from diffusers import ModelMixin  # takes seconds
    from transformers import PreTrainedModel

    for part in parts_of(cfg).values():
        cls = factory_of(part.conf, part.where)
        if not (isinstance(cls, type) and issubclass(cls, (ModelMixin, PreTrainedModel))):
            raise ConfigError(
                f"quant.via=diffusers: {cls.__name__} is no model of diffusers; give quant.via=direct"
            )


def load_through_diffusers(
    choices: Choices, baseline: Workload, rows: list[LayerRow], run: RunContext
) -> Workload:
    """Load the model, or the whole pipeline; what the choices leave alone is named in modules_to_not_convert.

    Random weights, and the parts of any pipeline, are written to a temporary folder first. diffusers quantizes each
    weight where it lands: on the device, or on the host with ``quant.where=cpu``.
    """
    target: nn.Module
    if run.cfg.target == PIPELINE:
        with saved_pipeline(baseline, run) as folder:
            target = _loaded(lambda: load_pipeline(folder, choices, baseline, rows, run), choices, run)
    else:
        with _loadable(run) as conf:
            target = part_of(_loaded(lambda: _load_model(conf, choices, rows, run), choices, run), run.cfg)
    note_quantized(target, choices, rows, "diffusers")
    return Workload(target, baseline.args, baseline.kwargs, baseline.path)


def _loaded(load: Callable[[], nn.Module], choices: Choices, run: RunContext) -> nn.Module:
    """What `load` gives, on the device; its time and peak are those of quantizing."""
    with run.phase("quantize"), peak_memory(run.device) as peaks, refusals(choices, "diffusers"):
        module = load().to(run.device.torch)
        run.device.synchronize()
    run.record.metrics["quantize/time_s"] = run.record.phases_s["quantize"]
    run.record.metrics |= peaks.phase_metrics("quantize")
    return module


def _load_model(conf: ModelConf, choices: Choices, rows: list[LayerRow], run: RunContext) -> nn.Module:
    cfg, device = run.cfg, run.device
    cls, loading = factory_of(conf, "model"), dict[str, Any]()
    if choices:
        chosen = {row.name for row in rows if row.fqn in choices}
        _, config = next(iter(choices.values()))
        named = (name for name, _ in linears(structure(conf, "model")))
        loading["quantization_config"] = torchao_config(cls, config, chosen, named)
    if device.kind != "cpu" and cfg.quant.where != "cpu":
        loading["device_map"] = {"": device.torch}
    with seeded(cfg.seed):
        return load_pretrained(conf, cls, getattr(torch, cfg.dtype), "model", **loading)


@contextmanager
def _loadable(run: RunContext) -> Iterator[ModelConf]:
    """The model's configuration with weights that from_pretrained can read; a folder made for them is deleted."""
    cfg = run.cfg
    if cfg.model.weights.source != "random":
        yield cfg.model
        return
    with tempfile.TemporaryDirectory(prefix="quantpay-weights-") as folder:
        with run.phase("save"):
            _save(run, folder)
        yield replace(cfg.model, weights=WeightsConf(source="local", id=folder))


def _save(run: RunContext, folder: str) -> None:
    """Write the baseline's weights once more: made on the same device from the same seed."""
    cfg, device = run.cfg, run.device.torch
    model: Any = build_model(
        cfg.model, device, getattr(torch, cfg.dtype), cfg.seed, "model", weights_made_on(cfg)
    )
    model.save_pretrained(folder)
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()
