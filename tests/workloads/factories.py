"""Functions that make models, as a YAML may name them; checkpoints as people have them."""

from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import TorchAoConfig, WanTransformer3DModel
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_

CONF = Path(__file__).parent / "conf"
SEARCHED = f"hydra.searchpath=[file://{CONF}]"
INT8 = Int8WeightOnlyConfig(set_inductor_config=False)


def wan(**arguments: Any) -> WanTransformer3DModel:
    """As the class itself."""
    return WanTransformer3DModel(**arguments)


def two_linears(width: int) -> nn.Module:
    """What a function may return."""
    return nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))


def quantized_linears(width: int) -> nn.Module:
    """A model of which one layer is another library's."""
    model = two_linears(width)
    model[0].__class__ = type("Linear8bit", (nn.Linear,), {"__module__": "bitsandbytes.nn.modules"})
    return model


def no_model(width: int) -> int:
    """A function that makes something else."""
    return width


def save_checkpoints(folder: Path) -> None:
    """model=tiny-wan: plain, of a variant only, in shards, quantized by diffusers whole and in part, pickled."""
    factory = yaml.safe_load((CONF / "model" / "tiny-wan.yaml").read_text())["factory"]
    torch.manual_seed(0)
    model = WanTransformer3DModel(**{name: factory[name] for name in factory.keys() - {"_target_"}})
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder / "plain")
    model.save_pretrained(folder / "fp16", variant="fp16")
    model.save_pretrained(folder / "shards", variant="fp16", max_shard_size="40KB")
    model.save_pretrained(folder / "pipeline" / "transformer")
    for name, left in (("int8", None), ("partly_int8", ["blocks.0", "proj_out", "condition_embedder"])):
        config = TorchAoConfig(INT8, modules_to_not_convert=left)
        loaded = WanTransformer3DModel.from_pretrained(
            folder / "plain", quantization_config=config, torch_dtype=torch.bfloat16
        )
        loaded.save_pretrained(folder / name)
    quantize_(model, INT8)
    model.save_pretrained(folder / "pickled", safe_serialization=False)
