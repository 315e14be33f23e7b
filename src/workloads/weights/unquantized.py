"""Whether a model is what a baseline needs: unquantized, in every parameter."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from src.config.schema.model import ComponentConf, ModelConf, WeightsConf
from src.outcomes import RunEndedError, unsupported
from src.workloads.weights.files import counted, is_weight, method_of, quantized_files, variant_of
from src.workloads.weights.places import REMEDY
from src.workloads.weights.sources import factory_of, pretrained_config

# Packages whose modules and tensors hold quantized weights: what a quantization_config can make.
_QUANTIZERS = (
    "torchao", "bitsandbytes", "optimum.quanto", "diffusers.quantizers", "transformers.integrations", "gptqmodel",
    "auto_gptq", "awq", "auto_round", "compressed_tensors", "hqq", "aqlm", "eetq", "vptq", "spqr_quant", "quark",
    "modelopt", "sdnq", "nunchaku",
)  # fmt: skip


def refuse_quantized_files(conf: ModelConf | ComponentConf, where: str) -> None:
    """Look at what lies beside the weights, before any of them is loaded and anything is measured.

    Raises:
        ConfigError: there is no such folder or class.
        RunEndedError: as `refuse_quantized`.
    """
    weights, cls = conf.weights, factory_of(conf, where)
    folder = weights.folder()
    if folder is not None:
        method, found = quantized_files(folder, weights.variant)
        found = found or pickled_tensors(folder, weights.variant)
    elif weights.source != "random" and (hasattr(cls, "load_config") or hasattr(cls, "config_class")):
        method, found = method_of(pretrained_config(cls, conf, where)), {}
    else:
        return
    if method or found:
        raise _refusal(method, found, conf, where)


def pickled_tensors(folder: Path, variant: str | None) -> dict[str, str]:
    """Name and class of the quantized tensors in pickled files of weights, none of whose values are read."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.bin")):
        if variant_of(path.name) != (variant or ""):
            continue
        try:
            state = torch.load(path, map_location="meta", mmap=True, weights_only=True)
        except Exception:  # noqa: S112 - whether it can be read at all, loading tells
            continue
        if isinstance(state, dict):
            kinds = {
                name: _kind(name, each) for name, each in state.items() if isinstance(each, torch.Tensor)
            }
            found |= {name: kind for name, kind in kinds.items() if kind}
    return found


def refuse_quantized(model: nn.Module, conf: ModelConf | ComponentConf, where: str) -> None:
    """Look at every parameter and buffer, and at ``config.quantization_config``.

    Args:
        model: before anything of it was measured.
        conf: what it was made of.
        where: in the configuration.

    Raises:
        RunEndedError: `unsupported`, some of it is quantized: the first parameter, how many there are, what to do.
    """
    found, method = dict(quantized_tensors(model)), method_of(getattr(model, "config", None))
    fetched = _fetched(conf.weights)
    if fetched is not None and not found:
        _, found = quantized_files(fetched, conf.weights.variant)
    if found or method:
        raise _refusal(method, found, conf, where)


def _fetched(weights: WeightsConf) -> Path | None:
    """Where the files of a hub's weights lie once they are loaded: loading has cast what they hold."""
    if weights.source != "hub":
        return None
    from huggingface_hub import try_to_load_from_cache

    config = "/".join(filter(None, (weights.subfolder, "config.json")))
    cache = weights.arguments.get("cache_dir")
    path = try_to_load_from_cache(str(weights.id), config, cache_dir=cache, revision=weights.revision)
    return Path(path).parent if isinstance(path, str) else None


def _refusal(
    method: str, found: dict[str, str], conf: ModelConf | ComponentConf, where: str
) -> RunEndedError:
    said = counted(found) if found else f"its quantization_config says {method}"
    weights = conf.weights
    if weights.source == "random":
        made = f"{where}.factory._target_={conf.factory.get('_target_')} makes a quantized model"
        remedy = "a factory that quantizes nothing; quant=... does it in the treated arm"
        return unsupported(f"{made}, and a baseline is unquantized: {said}", remedy)
    return unsupported(
        f"{where}.weights.id={weights.id} is a quantized checkpoint, and a baseline is unquantized: {said}",
        REMEDY.format(folder=weights.folder() or weights.id),
    )


def quantized_tensors(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Name and class of each parameter and buffer that is quantized: its own class, or that of its module."""
    for path, module in model.named_modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            kind = _quantized_kind(name, tensor, module)
            if kind:
                yield f"{path}.{name}".lstrip("."), kind


def _quantized_kind(name: str, tensor: torch.Tensor, module: nn.Module) -> str:
    kind = _kind(name, tensor)
    return kind or (type(module).__name__ if _made_by_a_quantizer(type(module)) else "")


def _kind(name: str, tensor: torch.Tensor) -> str:
    """The class of a quantized tensor; of a plain one in 8 bits or fewer, or a weight of whole numbers, its type."""
    if is_traceable_wrapper_subclass(tensor) or _made_by_a_quantizer(type(tensor)):
        return type(tensor).__name__
    dtype = tensor.dtype
    whole = not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)
    narrow = dtype.is_floating_point and dtype.itemsize == 1
    return str(dtype).removeprefix("torch.") if narrow or (whole and is_weight(name)) else ""


def _made_by_a_quantizer(kind: type) -> bool:
    return any(kind.__module__ == each or kind.__module__.startswith(f"{each}.") for each in _QUANTIZERS)
