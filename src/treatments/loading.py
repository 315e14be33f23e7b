"""quant.via=diffusers: the treated arm as diffusers' from_pretrained quantizes it while it loads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import init_empty_weights
from hydra.utils import get_class
from torch import nn

from src.config.errors import ConfigError
from src.config.schema import ModelConf, RootConf, WeightsConf
from src.measurement.memory import peak_memory
from src.tasks.context import RunContext
from src.treatments.layers import LayerRow
from src.treatments.scheme import Choices, note_quantized, refusals
from src.workloads.model import build_model, load_pretrained, weights_made_on
from src.workloads.workload import Workload, part_of


def check_loading(cfg: RootConf) -> None:
    """Whether diffusers can load the model.

    Raises:
        ConfigError: it is no diffusers model.
    """
    if cfg.quant.via != "diffusers":
        return
    from diffusers import ModelMixin  # takes seconds

    cls = get_class(cfg.model.factory["_target_"])
    if not issubclass(cls, ModelMixin):
        raise ConfigError(
            f"quant.via=diffusers: {cls.__name__} is no model of diffusers; give quant.via=direct"
        )


def load_through_diffusers(
    choices: Choices, baseline: Workload, rows: list[LayerRow], run: RunContext
) -> Workload:
    """Load the model with a TorchAoConfig; what the choices leave alone is named in modules_to_not_convert.

    Random weights are written to a temporary folder first. diffusers quantizes each weight where it lands: on the
    device, or on the host with ``quant.where=cpu``.
    """
    cfg, device = run.cfg, run.device
    cls, dtype = get_class(cfg.model.factory["_target_"]), getattr(torch, cfg.dtype)
    with _loadable(run) as conf:
        loading: dict[str, Any] = (
            {"quantization_config": _torchao_config(choices, rows, conf)} if choices else {}
        )
        if device.kind != "cpu" and cfg.quant.where != "cpu":
            loading["device_map"] = {"": device.torch}
        with run.phase("quantize"), peak_memory(run.device) as peaks, refusals(choices, "diffusers"):
            model = load_pretrained(conf, cls, dtype, "model", **loading).to(device.torch)
            device.synchronize()
    run.record.metrics["quantize/time_s"] = run.record.phases_s["quantize"]
    run.record.metrics |= peaks.phase_metrics("quantize")
    target = part_of(model, cfg)
    note_quantized(target, choices, rows, "diffusers")
    return Workload(target, baseline.args, baseline.kwargs, baseline.path)


def _torchao_config(choices: Choices, rows: list[LayerRow], conf: ModelConf) -> Any:
    """diffusers' TorchAoConfig: one scheme for the chosen layers, all others by their weights' names.

    A weight's whole name matches itself alone; a layer's name would also match what ends so.
    """
    from diffusers import TorchAoConfig

    config = next(config for _, config in choices.values())
    chosen = {row.name for row in rows if row.fqn in choices}
    others = (name for name, m in _shapes(conf).named_modules() if isinstance(m, nn.Linear))
    return TorchAoConfig(config, modules_to_not_convert=[f"{n}.weight" for n in others if n not in chosen])


def _shapes(conf: ModelConf) -> nn.Module:
    """The model without weights, as its checkpoint describes it."""
    cls: Any = get_class(conf.factory["_target_"])
    offline = conf.weights.source == "local"
    place = {} if conf.weights.subfolder is None else {"subfolder": conf.weights.subfolder}
    with init_empty_weights():
        model = cls.from_config(cls.load_config(conf.weights.id, local_files_only=offline, **place))
    assert isinstance(model, nn.Module)
    return model


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
