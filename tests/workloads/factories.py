"""Functions that make models, as a YAML may name them; checkpoints as people have them."""

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import TorchAoConfig, WanTransformer3DModel
from safetensors.torch import save_file
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


def quantizing(width: int) -> nn.Module:
    """A model that its function quantizes by torchao."""
    model = two_linears(width)
    quantize_(model[1], INT8)
    return model


def narrow(width: int) -> nn.Module:
    """A model of which one weight is plain numbers of 8 bits."""
    model = two_linears(width)
    model[1].weight = nn.Parameter(model[1].weight.to(torch.float8_e4m3fn), requires_grad=False)
    return model


def packed(width: int) -> nn.Module:
    """A model of which one weight is whole numbers, several in each."""
    model = two_linears(width)
    del model[1].weight
    model[1].register_buffer("qweight", torch.zeros(width, width // 8, dtype=torch.int32))
    return model


def chain(*layers: nn.Module, also: list[nn.Module], named: dict[str, nn.Module]) -> nn.Module:
    """A model of layers that a YAML names in a list, in a mapping and by their places."""
    return nn.Sequential(*layers, *also, *named.values())


class Fourier(nn.Module):
    """Random features: no checkpoint holds their frequencies, which the constructor draws."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(width), persistent=False)
        self.linear = nn.Linear(width, width)

    def forward(self, input: torch.Tensor) -> Any:
        """[rows, width] to the same."""
        return self.linear(torch.cos(input * self.frequencies))


class Tied(nn.Module):
    """Two layers with one weight, tied as they are made and by no method; two more get theirs from outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.later = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.Linear(width, width, bias=False),
            nn.Linear(width, width, bias=False),
        )
        self.later[0].weight = self.first.weight
        weight = nn.Parameter(torch.empty(width, width))
        self.later[2].weight = weight
        self.later[3].weight = weight

    def forward(self, input: torch.Tensor) -> Any:
        """[rows, width] to the same."""
        return self.later(torch.relu(self.first(input)))


def no_model(width: int) -> int:
    """A function that makes something else."""
    return width


def save_checkpoints(folder: Path) -> None:
    """model=tiny-wan: plain, of a variant, in shards, by diffusers quantized whole and in part, pickled, float8."""
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
    narrowed = {name: _narrowed(name, each) for name, each in model.state_dict().items()}
    shutil.copytree(folder / "plain", folder / "float8")
    save_file(narrowed, folder / "float8" / "diffusion_pytorch_model.safetensors")
    quantize_(model, INT8)
    model.save_pretrained(folder / "pickled", safe_serialization=False)


def _narrowed(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """As checkpoints are passed around that are half as large: the blocks' matrices in float8, nothing else said."""
    return tensor.to(torch.float8_e4m3fn) if name.startswith("blocks.") and tensor.dim() == 2 else tensor
