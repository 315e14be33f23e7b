"""A whole pipeline through diffusers: written down part by part, and loaded with a PipelineQuantizationConfig."""

import inspect
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.config.schema.model import VAE
from src.context import RunContext
from src.treatments.applied import Choices
from src.treatments.layers import LayerRow
from src.treatments.routes.torchao_configs import torchao_config
from src.workloads.hooks import linears
from src.workloads.model import build_model, weights_made_on
from src.workloads.pipeline import ImagePipeline, pipeline_parts, tokenizers
from src.workloads.recipe import switch_on
from src.workloads.workload import Workload


@contextmanager
def saved_pipeline(baseline: Workload, run: RunContext) -> Iterator[Path]:
    """A temporary folder that the pipeline's from_pretrained reads, with the baseline's weights once more.

    One part after another is built and written, so that the device holds one of them at most.
    """
    cfg, device = run.cfg, run.device.torch
    dtype, made_on = getattr(torch, cfg.dtype), weights_made_on(cfg)
    with tempfile.TemporaryDirectory(prefix="quantpay-weights-") as name:
        folder = Path(name)
        with run.phase("save"):
            pipeline = _without_tokenizers(baseline, run)
            pipeline.save_config(folder)
            pipeline.scheduler.save_pretrained(folder / "scheduler")
            for part_name, part in pipeline_parts(cfg).items():
                part_model: Any = build_model(part.conf, device, dtype, part.seed, part.where, made_on)
                part_model.save_pretrained(folder / part_name)
                del part_model
            if device.type == "cuda":
                torch.cuda.empty_cache()
        yield folder


def load_pipeline(
    folder: Path, choices: Choices, baseline: Workload, rows: list[LayerRow], run: RunContext
) -> ImagePipeline:
    """The pipeline of a folder; each part that has chosen layers is quantized while it loads."""
    from diffusers import PipelineQuantizationConfig

    cfg, device = run.cfg, run.device
    modules = dict(baseline.module.named_children())
    loading: dict[str, Any] = {}
    if mapping := _mapping(choices, modules, rows):
        loading["quantization_config"] = PipelineQuantizationConfig(quant_mapping=mapping)
    if device.kind != "cpu" and cfg.quant.where != "cpu":
        loading["device_map"] = device.kind
    bare = _without_tokenizers(baseline, run)
    absent = {name: None for name, component in bare.components.items() if component is None}
    given = absent | tokenizers(cfg, modules)
    pipeline = type(bare).from_pretrained(folder, torch_dtype=getattr(torch, cfg.dtype), **given, **loading)
    if VAE in modules:
        switch_on(getattr(pipeline, VAE), cfg.recipe)
    return ImagePipeline(pipeline, cfg).eval().requires_grad_(False)


def _mapping(choices: Choices, modules: dict[str, nn.Module], rows: list[LayerRow]) -> dict[str, Any]:
    """quant_mapping: what the pipeline calls a part -> the TorchAoConfig of diffusers or transformers."""
    chosen: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.fqn in choices:
            chosen[row.fqn.partition(".")[0]].add(row.name)
    config = next((config for _, config in choices.values()), None)
    named = {part: [name for name, _ in linears(modules[part])] for part in chosen}
    return {
        part: torchao_config(type(modules[part]), config, layers, named[part])
        for part, layers in chosen.items()
    }


def _without_tokenizers(baseline: Workload, run: RunContext) -> Any:
    """The baseline's pipeline, of the same modules: what stands for tokenizers cannot be written down."""
    pipeline: Any = baseline.module.pipeline
    stand_ins = tokenizers(run.cfg, dict(baseline.module.named_children()))
    parts, asked = pipeline.components, inspect.signature(type(pipeline)).parameters
    # what is no module, such as Wan's expand_timesteps, stands in the configuration alone
    settings = {
        name: pipeline.config[name] for name in asked if name in pipeline.config and name not in parts
    }
    return type(pipeline)(**(settings | parts | dict.fromkeys(stand_ins)))
