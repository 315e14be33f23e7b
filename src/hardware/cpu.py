"""A CPU as what it can do: what tells two of them apart, and a name that a person can tell apart.

What ATen and oneDNN were told to use counts like the hardware: a CPU held to AVX2 is another device.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from src.hardware.host import ROOT, cache_bytes, cores_of, cpu_model, cpuinfo, last_level_cache_mib

_NAMES = Path(__file__).with_name("microarchitectures.yaml")
_FLAGS = frozenset(  # of /proc/cpuinfo, those that decide how fast a matmul is
    {
        "avx",
        "avx2",
        "avx_vnni",
        "avx_vnni_int8",
        "avx_ne_convert",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512_vnni",
    }
    | {"avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"}
    | {"asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16", "svei8mm", "sme"}
)
_ONEDNN = {  # its names of limits, upwards, with the flags that each one adds (oneDNN, "CPU Dispatcher Control")
    "sse41": "",
    "avx": "avx",
    "avx2": "avx2",
    "avx2_vnni": "avx_vnni",
    "avx2_vnni_2": "avx_vnni_int8 avx_ne_convert",
    "avx512_core": "avx512f avx512bw avx512vl",
    "avx512_core_vnni": "avx512_vnni",
    "avx512_core_bf16": "avx512_bf16",
    "avx512_core_fp16": "avx512_fp16",
    "avx512_core_amx": "amx_tile amx_int8 amx_bf16",
    "avx512_core_amx_fp16": "amx_fp16",
}
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sve": "SVE", "asimd": "NEON"}
_UNITS = {  # beside the vectors
    "AMX": {"amx_tile"},
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "i8mm": {"i8mm"},
}
_IMPLIED = {"VNNI": "bf16", "i8mm": "bf16"}  # not named beside the other
_ATEN = {"AVX512": "AVX-512", "DEFAULT": "its default"}  # torch's word -> ours


def cpu_identity(
    threads: int, aten: str, root: Path = ROOT, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Everything that tells this CPU from another one, as values for JSON.

    Args:
        aten: the instruction set that torch's own kernels dispatch to, as torch names it.
        root: where proc and sys are.
        environ: what oneDNN was told.

    Returns:
        ``vendor family model stepping brand``, ``instruction_sets`` (of the hardware), ``aten``, ``onednn`` (its
        limit; null: none), ``caches`` (bytes of one, by level), ``cache_mib`` (of the last level, all), ``threads``
        and ``cores`` (that the threads are bound to).
    """
    info = cpuinfo(root)
    flags = {*info.get("flags", "").split(), *info.get("Features", "").split()} & _FLAGS
    return {
        "kind": "cpu",
        "vendor": info.get("vendor_id") or info.get("CPU implementer"),
        "family": _integer(info.get("cpu family")),
        "model": _integer(info.get("model") or info.get("CPU part")),
        "stepping": _integer(info.get("stepping") or info.get("CPU revision")),
        "brand": cpu_model(root),
        "instruction_sets": sorted(flags),
        "aten": aten,
        "onednn": _onednn_limit(flags, environ),
        "caches": cache_bytes(root),
        "cache_mib": last_level_cache_mib(root),
        "threads": threads,
        "cores": min(threads, cores_of(root) or threads),
    }


def cpu_name(identity: Mapping[str, Any]) -> str:
    """``AMD EPYC (Zen 4, AVX-512, bf16), 2 threads``; a CPU that was told to use less says so."""
    threads, cores = identity["threads"], identity["cores"]
    found = ", ".join(filter(None, [_microarchitecture(identity), *_held(identity)]))
    where = f" on {cores} core{'s' * (cores > 1)}" if cores < threads else ""
    return f"{_short(identity['brand'])} ({found}), {threads} thread{'s' * (threads > 1)}{where}"


def _held(identity: Mapping[str, Any]) -> list[str]:
    """The units, and what holds them back; in one word where ATen and oneDNN are held to the same."""
    flags = set(identity["instruction_sets"])
    own, limit = _units(flags), identity["onednn"]
    left = _units(flags & _left_by(limit)) if limit else own
    aten = _ATEN.get(identity["aten"], identity["aten"])
    aten_held = own[:1] in (["AVX-512"], ["AVX2"]) and aten != own[0]
    if aten_held and left[:1] == [aten]:
        return [*left, f"held down from {own[0]}"]
    told = [f"ATen held to {aten}"] if aten_held else []
    return [*own, *told, *([f"oneDNN held to {', '.join(left) or limit}"] if left != own else [])]


def _units(flags: set[str]) -> list[str]:
    """The widest vectors, then what multiplies narrow numbers."""
    vectors = next((name for flag, name in _VECTORS.items() if flag in flags), None)
    units = [name for name, any_of in _UNITS.items() if any_of & flags]
    return [*filter(None, [vectors]), *(name for name in units if _IMPLIED.get(name) not in units)]


def _onednn_limit(flags: set[str], environ: Mapping[str, str]) -> str | None:
    """What oneDNN was told, where that takes anything away; it passes over words that it does not know."""
    told = (environ.get("ONEDNN_MAX_CPU_ISA") or environ.get("DNNL_MAX_CPU_ISA") or "").lower()
    return told if told in _ONEDNN and flags - _left_by(told) else None


def _left_by(limit: str) -> set[str]:
    allowed: set[str] = set()
    for name, flags in _ONEDNN.items():
        allowed.update(flags.split())
        if name == limit:
            break
    return allowed


def _microarchitecture(identity: Mapping[str, Any]) -> str | None:
    for entry in _microarchitectures():
        same = str(entry["vendor"]) == str(identity["vendor"]) and entry.get("family") in (
            None,
            identity["family"],
        )
        within = (_within(identity[key], entry.get(f"{key}s")) for key in ("model", "stepping"))
        if same and all(within):
            return str(entry["name"])
    return None


@cache
def _microarchitectures() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.load(_NAMES.read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506
    return [entry | ({"family": int(entry["family"])} if "family" in entry else {}) for entry in entries]


def _within(value: int | None, ranges: list[str] | None) -> bool:
    """Whether a number lies in one of the ranges, ``0x10-0x1f`` or ``0x55``, ends included; no ranges: anywhere."""
    if ranges is None:
        return True
    ends = ([int(end, 0) for end in text.split("-")] for text in ranges)
    return value is not None and any(each[0] <= value <= each[-1] for each in ends)


def _integer(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _short(brand: str) -> str:
    """The maker's name without its trade marks, clock and number of cores."""
    text = re.sub(
        r"\((R|TM|r|tm)\)|\s+(CPU\s*)?@.*|\s+\d+-Core Processor|\s+(CPU|Processor)$|\s+CPU(?= \w*\d)",
        "",
        brand,
    )
    return " ".join(text.split())
