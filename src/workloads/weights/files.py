"""What the files of a checkpoint say before any weight is loaded: their variant, whether whole, whether quantized."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "a folder that save_pretrained wrote"
_FILE = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?P<index>\.(safetensors|bin)\.index)?(\.(?P<variant>[\w-]+?))?"
    r"(-\d+-of-\d+)?(\.(?P<variant_behind>[\w-]+))?\.(safetensors|bin|json)"
)
_LEAST_HEADER, _MOST_HEADER = 2, 100 * 2**20  # bytes of the header of a safetensors file
_METADATA = "__metadata__"  # in such a header, beside the tensors
_POINTER = b"version https://git-lfs"  # what git leaves in place of a large file that it did not fetch
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
_WHOLE = {f"{sign[0].upper()}{bits}": f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64)}
# As quantizers call what they store.
_WEIGHT = re.compile(r"(^|\.)(\w*weight(_packed|_q)?|bias|W_q)(\._data)?$")
_CONFIGS = ("quantization_config", "compression_config")  # in a config.json
_BESIDE = {  # a file beside it -> who wrote that
    "quanto_qmap.json": "quanto",
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
}


def variant_of(name: str) -> str | None:
    """The variant that a file of weights is of, empty for none; None for other files."""
    match = _FILE.fullmatch(name)
    if match is None or (name.endswith(".json") and match["index"] is None):
        return None
    return match["variant"] or match["variant_behind"] or ""


def damage(folder: Path, variant: str | None) -> str:
    """Why a folder with a config.json cannot be loaded, with what to do; empty where nothing is wrong with it.

    Raises:
        OSError: a file that may not be read.
    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        return f"config.json in {folder} cannot be read ({error}); give {FOLDER}"
    if not isinstance(content, dict):
        return f"config.json in {folder} is no model's; give {FOLDER}"
    names = [path.name for path in folder.iterdir()]
    if not any(name.endswith((".safetensors", ".bin", ".index.json")) for name in names):
        return f"no weights in {folder}, neither .safetensors nor .bin; give {FOLDER}"
    own = sorted(name for name in names if variant_of(name) == (variant or ""))
    for name in own:
        if name.endswith(".index.json"):
            shards = json_object(folder / name).get("weight_map")
            absent = sorted({*map(str, shards.values())} - {*names}) if isinstance(shards, dict) else []
            if absent:
                return f"{absent[0]}, which {name} names, is not in {folder}; fetch what is missing"
        elif said := _damage_of(folder / name):
            return f"{folder / name} {said}"
    return ""


def _damage_of(path: Path) -> str:
    """Of a file of weights; of a pickled one only what its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        return "is git-lfs's pointer to a file that was not fetched; run git lfs pull there"
    if path.suffix != ".safetensors":
        return "" if start else "is empty; fetch it again"
    header, end = _header(path), 8 + int.from_bytes(start[:8], "little")
    try:
        end += max(
            (int(each["data_offsets"][1]) for name, each in header.items() if name != _METADATA), default=0
        )
    except (LookupError, TypeError, ValueError):
        header = {}
    return "" if header and path.stat().st_size >= end else "is no whole safetensors file; fetch it again"


def quantized_files(folder: Path, variant: str | None = None) -> tuple[str, dict[str, str]]:
    """What a checkpoint's own files say of quantization: the method of its config, and the tensors with their class.

    The headers of safetensors files are read: what torchao wrote in parts, weights of whole numbers, and whatever has
    8 bits or fewer, which loading would turn into the run's dtype unseen. Pickled files do not tell without being
    loaded.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if variant_of(path.name) in (variant or "", None):
            header = _header(path)
            found |= _torchao_tensors(header) or _narrow_tensors(header)
    beside = next((by for name, by in _BESIDE.items() if (folder / name).is_file()), "")
    return method_of(json_object(folder / "config.json")) or beside, found


def method_of(config: Any) -> str:
    """The quantization method that a model's configuration, a mapping or an object, names; empty for none."""
    asked = next(filter(None, (_value(config, name) for name in _CONFIGS)), None)
    if not asked:
        return ""
    method = _value(asked, "quant_method")
    unnamed = "a method without a name" if isinstance(asked, Mapping) else type(asked).__name__
    return str(getattr(method, "value", method) or unnamed)


def _value(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def counted(found: Mapping[str, str]) -> str:
    """The first of the quantized parameters and how many there are."""
    name, kind = next(iter(found.items()))
    more = f", the first of {len(found)} such parameters" if len(found) > 1 else ""
    return f"{name} is {kind}{more}"


def is_weight(name: str) -> bool:
    """Whether a tensor of whole numbers can be no mask or index, by its name in a checkpoint."""
    return _WEIGHT.search(name) is not None


def layer_of(name: str) -> str:
    """The layer that a weight or a bias belongs to, by its name in a checkpoint."""
    return _WEIGHT.sub("", name)


def _header(path: Path) -> dict[str, Any]:
    """Of a safetensors file; empty if it has none."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if _LEAST_HEADER <= size <= _MOST_HEADER else {}
    except (OSError, ValueError):
        return {}
    return (
        header if isinstance(header, dict) and all(isinstance(each, dict) for each in header.values()) else {}
    )


def _torchao_tensors(header: dict[str, Any]) -> dict[str, str]:
    """Name -> class of the tensors that torchao wrote in parts."""
    try:
        metadata = header.get(_METADATA) or {}
        kinds = {name: json.loads(metadata[name])["_type"] for name in json.loads(metadata["tensor_names"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # not torchao's
    return {name: kind for name, kind in kinds.items() if kind != "Tensor"}


def _narrow_tensors(header: dict[str, Any]) -> dict[str, str]:
    """Name -> type of the tensors that are stored in 8 bits or fewer, and of weights of whole numbers."""
    stored = {name: each.get("dtype") for name, each in header.items() if name != _METADATA}
    return {
        name: _NARROW.get(dtype) or _WHOLE[dtype]
        for name, dtype in stored.items()
        if dtype in _NARROW or (dtype in _WHOLE and is_weight(name))
    }


def json_object(path: Path) -> dict[str, Any]:
    """What a file of JSON holds; empty where it cannot be read or is no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
