"""A folder of weights, looked at before a run: is it there, has it the files, is it unquantized?"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.config.model_schema import WeightsConf

# What the run sets itself, and what would quantize the baseline: key of from_pretrained -> what to give instead.
_OURS = {
    "torch_dtype": "dtype=...",
    "dtype": "dtype=...",
    "device_map": "gpu=...",
    "local_files_only": "weights.source=local",
    "subfolder": "weights.subfolder=...",
    "variant": "weights.variant=...",
    "revision": "weights.revision=...",
    "quantization_config": "quant=..., for the baseline is unquantized",
}
REMEDY = (
    "an unquantized checkpoint; or task=serialize serialize.load={folder}, which compares this one with what "
    "quant=... makes of unquantized weights"
)
_FILE = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?P<index>\.(safetensors|bin)\.index)?(\.(?P<variant>\w+))?"
    r"(-\d+-of-\d+)?(\.(?P<variant_behind>\w+))?\.(safetensors|bin|json)"
)
_LEAST_HEADER, _MOST_HEADER = 2, 100 * 2**20  # bytes of the header of a safetensors file
# Types of safetensors that no unquantized weight has -> torch's name; whole numbers may also be masks or indices.
_NARROW = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F6_E2M3": "float6_e2m3",
    "F6_E3M2": "float6_e3m2",
    "F4": "float4_e2m1fn_x2",
}
_WHOLE = {"I8": "int8", "U8": "uint8"}


def problems_of_weights(weights: WeightsConf, where: str) -> Iterator[str]:
    """What is wrong with where a model's weights are said to be, one line each.

    Args:
        weights: of a model that the run is going to build.
        where: the key of `weights`.
    """
    for name in weights.arguments.keys() & _OURS.keys():
        yield f"{where}.arguments.{name}: is not given here; {_OURS[name].replace('weights.', f'{where}.')}"
    folder = weights.folder()
    if folder is None:
        return
    if not folder.is_dir():
        yield f"{where}.id={weights.id}: no folder {folder}; {_instead(Path(weights.id or ''), where)}"
    elif not (folder / "config.json").is_file():
        yield f"{where}.id={weights.id}: no config.json in {folder}; {_instead(folder, where)}"
    else:
        yield from _of_variant(weights, folder, where)
        yield from _of_quantized(weights, folder, where)


def _instead(folder: Path, where: str) -> str:
    """What to give: the subfolders that have a model, where there are any."""
    parts = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder.is_dir() else []
    return (
        f"give {where}.subfolder={', '.join(parts)}" if parts else "give a folder that save_pretrained wrote"
    )


def _of_variant(weights: WeightsConf, folder: Path, where: str) -> Iterator[str]:
    """Whether there are files of the variant that is asked for; nothing is known of names that nobody knows."""
    found = {variant_of(path.name) for path in folder.iterdir()} - {None}
    if not found or (weights.variant or "") in found:
        return
    there = ", ".join(sorted(filter(None, found))) or "none"
    if weights.variant is None:
        yield f"{where}.variant=null: {folder} has only files of a variant; give {where}.variant={there}"
    else:
        also = "; or null, for there are files of no variant" if "" in found else ""
        yield f"{where}.variant={weights.variant}: no such files in {folder}; accepted: {there}{also}"


def variant_of(name: str) -> str | None:
    """The variant that a file of weights is of, empty for none; None for other files."""
    match = _FILE.fullmatch(name)
    if match is None or (name.endswith(".json") and match["index"] is None):
        return None
    return match["variant"] or match["variant_behind"] or ""


def _of_quantized(weights: WeightsConf, folder: Path, where: str) -> Iterator[str]:
    method, found = quantized_files(folder, weights.variant)
    if not method and not found:
        return
    said = counted(found) if found else f"its quantization_config says {method}"
    remedy = REMEDY.format(folder=folder)
    yield f"{where}.id={weights.id}: quantized, but a baseline is unquantized: {said}; give {remedy}"


def quantized_files(folder: Path, variant: str | None = None) -> tuple[str, dict[str, str]]:
    """What a checkpoint's own files say of quantization: the method of its config, and the tensors with their class.

    The headers of safetensors files are read: what torchao wrote in parts, and weights in a type of 8 bits or fewer,
    which loading would turn into the run's dtype unseen. Pickled files do not tell without being loaded.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if variant_of(path.name) in (variant or "", None):
            header = _header(path)
            found |= _torchao_tensors(header) or _narrow_tensors(header)
    return method_of(_json(folder / "config.json")), found


def method_of(config: Any) -> str:
    """The quantization method that a model's configuration, a mapping or an object, names; empty for none."""
    asked = _value(config, "quantization_config")
    if not asked:
        return ""
    method = _value(asked, "quant_method")
    return str(getattr(method, "value", method) or type(asked).__name__)


def _value(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def counted(found: Mapping[str, str]) -> str:
    """The first of the quantized parameters and how many there are."""
    name, kind = next(iter(found.items()))
    more = f", the first of {len(found)} such parameters" if len(found) > 1 else ""
    return f"{name} is {kind}{more}"


def _header(path: Path) -> dict[str, Any]:
    """Of a safetensors file; empty if it has none: whether it can be read at all, loading tells."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if _LEAST_HEADER <= size <= _MOST_HEADER else {}
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _torchao_tensors(header: dict[str, Any]) -> dict[str, str]:
    """Name -> class of the tensors that torchao wrote in parts."""
    try:
        metadata = header.get("__metadata__") or {}
        kinds = {name: json.loads(metadata[name])["_type"] for name in json.loads(metadata["tensor_names"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # not torchao's
    return {name: kind for name, kind in kinds.items() if kind != "Tensor"}


def _narrow_tensors(header: dict[str, Any]) -> dict[str, str]:
    """Name -> type of the tensors that are stored in 8 bits or fewer."""
    stored = {name: each.get("dtype") for name, each in header.items() if isinstance(each, dict)}
    return {
        name: _NARROW.get(dtype) or _WHOLE[dtype]
        for name, dtype in stored.items()
        if dtype in _NARROW or (dtype in _WHOLE and is_weight(name))
    }


def is_weight(name: str) -> bool:
    """Whether a tensor of whole numbers can be no mask or index, by its name in a checkpoint."""
    return name.rpartition(".")[2] in ("weight", "bias")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
