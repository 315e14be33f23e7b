"""Which kernels a call consists of, by kind: read from the trace that torch's profiler wrote.

Kinds come from names: `RULES` is the whole of it, docs/profiling.md says what it cannot tell.
"""

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

KINDS = ("matmul", "attention", "quantize", "quantize_fused", "other")

# Inductor's elementwise kernels and reductions, named after the ops in them; its templates are matmuls.
_FUSED = r"^(?:graph_\d+_)?(?:triton_[a-z]{3}|cpp)_fused(?<!tem_fused)"
_NARROW = r"signed char|unsigned char|Float8|Float4"
_CASTS = rf"(?:_to_copy|_(?:a?max|a?min|aminmax|round|clamp)(?=_|\()|quantize|qparams|scale_float8|\(.*(?:{_NARROW}))"
_GLUE = (  # what quantizing, dequantizing and scaling consist of, and views
    "_to_copy|convert_element_type|abs|add|addmm|amax|amin|aminmax|bmm|clamp|clamp_max|clamp_min|clone|div|expand|"
    "full|full_like|linear|max|maximum|min|minimum|mm|_int_mm|_scaled_mm|mul|neg|ones_like|permute|reciprocal|reshape|round|"
    "select|slice|split|split_with_sizes|squeeze|sub|sum|t|transpose|unbind|unsqueeze|_unsafe_view|view|where|zeros_like|"
    "[a-z_]*(?:quantize_affine|qparams|scale_float8)[a-z0-9_]*"
)


@dataclass(frozen=True)
class Rule:
    """A kind and the kernels it holds: a regular expression searched in ``name(input types)``."""

    kind: str
    pattern: str
    only_new: bool = False  # only kernels of the treated arm that the baseline has not


RULES = (  # the first that fits
    Rule("quantize", rf"{_FUSED}(?=.*{_CASTS})(?:_(?:{_GLUE}))+\(", only_new=True),
    Rule("quantize_fused", rf"{_FUSED}.*{_CASTS}", only_new=True),
    Rule("other", _FUSED),
    Rule("attention", r"scaled_dot_product|flash|fmha|sdpa|attention|attn"),
    Rule(
        "matmul",
        r"gemm|gemv|cutlass|cublas|nvjet|xmma|wgmma|splitk|tinygemm|_pack_?mm|_tem_fused|triton_\w*mm",
    ),
    Rule("matmul", r"::_?(?:\w+_)?(?:mm|addmm|bmm|baddbmm|matmul|linear|int[48]pack_mm)(?:_\w+)?\("),
    Rule("matmul", r"::q?linear_\w+|::_linear_pointwise|conv(?:olution|\d|_)"),
    Rule("quantize", rf"quantize|qparams|scale_float8|\(.*(?:{_NARROW})"),
    Rule("quantize", r"^aten::(?:to|_to_copy|copy_|amax|amin|round|clamp\w*)\(", only_new=True),
)
_OP = re.compile(
    r"^\w+::\w|^(?:graph_\d+_)?(?:triton|cpp)_"
)  # what else a CPU's trace holds is the runtime's
_NUMBERS = re.compile(r"^graph_\d+_|_\d+$")  # inductor counts its graphs and kernels
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_NOT_TENSORS = ("", "Scalar", "ScalarList")


@dataclass(frozen=True)
class Kernel:
    """One execution: its name without inductor's counters, the op that started it, when and how long."""

    name: str
    types: str  # element types of the op's input tensors
    op: str
    start_us: float
    self_us: float  # without what it called


@dataclass
class KernelRow:
    """A line of ``kernels.csv``: all executions of one kernel in one call."""

    arm: str
    kind: str
    kernel: str
    types: str
    calls: int
    self_ms: float
    share: float  # of the arm's time in kernels


@dataclass
class CallProfile:
    """The kernels of one call, and the call itself."""

    kernels: list[Kernel]
    idle_share: float  # of the call's duration, in which no kernel ran


def read_profile(trace: Path, on_device: bool) -> CallProfile:
    """The kernels of the one step in a trace of torch's profiler (gzipped chrome trace).

    Args:
        on_device: a device's kernels; else the CPU's ops and inductor's C++ kernels, each without what it called.

    Raises:
        ValueError: there is no step or no kernel in it.
    """
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        events = [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
    steps = [e for e in events if e.get("cat") == "user_annotation" and e["name"].startswith("ProfilerStep#")]
    kernels = _device_kernels(events) if on_device else _cpu_kernels(events)
    if not kernels or not steps:
        raise ValueError(f"{trace.name} holds no kernels: the profiler saw none")
    spans = [(k.start_us, k.start_us + k.self_us) for k in kernels] if on_device else _ops_spans(events)
    return CallProfile(kernels, max(0.0, 1 - _covered_us(spans) / steps[-1]["dur"]))


def kernel_table(arms: dict[str, CallProfile]) -> list[KernelRow]:
    """One row per arm and kernel, longest first.

    Args:
        arms: ``baseline`` and ``treated``.
    """
    known = {(k.name, k.types) for k in arms["baseline"].kernels}
    rows: list[KernelRow] = []
    for arm, profile in arms.items():
        grouped: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for kernel in profile.kernels:
            kind = kind_of(kernel, new=(kernel.name, kernel.types) not in known)
            grouped[kind, kernel.name, kernel.types].append(kernel.self_us / 1e3)
        total_ms = sum(sum(times) for times in grouped.values())
        found = [KernelRow(arm, *key, len(ms), sum(ms), sum(ms) / total_ms) for key, ms in grouped.items()]
        rows += sorted(found, key=lambda row: -row.self_ms)
    return rows


def dominant_kernel(rows: Iterable[KernelRow], share: float = 0.3) -> str:
    """The treated arm's longest kernel that the baseline does not have, in words; empty below this share."""
    listed = list(rows)
    known = {(row.kernel, row.types) for row in listed if row.arm == "baseline"}
    new = [row for row in listed if row.arm == "treated" and (row.kernel, row.types) not in known]
    longest = max(new, key=lambda row: row.self_ms, default=None)
    if longest is None or longest.share < share:
        return ""
    return (
        f"{longest.kernel} takes {longest.share:.0%} of the time in kernels, {longest.self_ms:.3g} ms a call"
    )


def kind_of(kernel: Kernel, *, new: bool) -> str:
    """The kind by the kernel's name, else by the op that started it, else ``other``."""
    for name in (kernel.name, kernel.op):
        text = f"{name}({kernel.types})"
        for rule in RULES:
            if (new or not rule.only_new) and re.search(rule.pattern, text):
                return rule.kind
    return "other"


def write_table(path: Path, rows: Iterable[KernelRow]) -> None:
    """Write ``kernels.csv``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(KernelRow)])
        writer.writeheader()
        writer.writerows(
            asdict(row) | {"self_ms": round(row.self_ms, 6), "share": round(row.share, 6)} for row in rows
        )


def kernel_metrics(rows: Iterable[KernelRow], arms: dict[str, CallProfile]) -> dict[str, float]:
    """Milliseconds of each kind in the one call that was profiled, and the share of it without a kernel."""
    metrics: dict[str, float] = {}
    for arm, profile in arms.items():
        prefix = "profile/baseline_" if arm == "baseline" else "profile/"
        metrics |= {f"{prefix}{name}_ms": 0.0 for name in (*KINDS, "total")}
        metrics[f"{prefix}idle_share"] = profile.idle_share
    for row in rows:
        prefix = "profile/baseline_" if row.arm == "baseline" else "profile/"
        metrics[f"{prefix}{row.kind}_ms"] += row.self_ms
        metrics[f"{prefix}total_ms"] += row.self_ms
    return {name: round(value, 6) for name, value in metrics.items()}


def _device_kernels(events: list[dict[str, Any]]) -> list[Kernel]:
    ops = {
        op["args"]["External id"]: op for op in events if "External id" in op.get("args", {}) and _is_op(op)
    }
    found = []
    for event in events:
        if event.get("cat") in _ON_DEVICE:
            op = ops.get(event.get("args", {}).get("External id"), {"name": ""})
            found.append(_kernel(event["name"], op, event["ts"], event["dur"]))
    return found


def _cpu_kernels(events: list[dict[str, Any]]) -> list[Kernel]:
    """The ops of each thread, their duration less that of the ops inside."""
    found: list[Kernel] = []
    for ops in _threads(events):
        inside_us = [0.0] * len(ops)
        open_ops: list[int] = []
        for index, op in enumerate(ops):
            while open_ops and _end(ops[open_ops[-1]]) <= op["ts"]:
                open_ops.pop()
            if open_ops:
                inside_us[open_ops[-1]] += op["dur"]
            open_ops.append(index)
        for op, inner_us in zip(ops, inside_us, strict=True):
            if _OP.search(op["name"]):
                found.append(_kernel(op["name"], op, op["ts"], max(0.0, op["dur"] - inner_us)))
    return found


def _threads(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    threads: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in sorted(filter(_is_op, events), key=lambda e: (e["ts"], -e["dur"])):
        threads[event["tid"]].append(event)
    return list(threads.values())


def _ops_spans(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    return [(op["ts"], _end(op)) for op in events if _is_op(op) and _OP.search(op["name"])]


def _kernel(name: str, op: dict[str, Any], start_us: float, self_us: float) -> Kernel:
    types = (str(t) for t in op.get("args", {}).get("Input type", ()) if t not in _NOT_TENSORS)
    plain = ", ".join(t.removeprefix("c10::") for t in types)
    return Kernel(_NUMBERS.sub("", name), plain, op["name"], start_us, self_us)


def _is_op(event: dict[str, Any]) -> bool:
    return event.get("cat") == "cpu_op"


def _end(event: dict[str, Any]) -> float:
    return float(event["ts"] + event["dur"])


def _covered_us(spans: list[tuple[float, float]]) -> float:
    """Length of the union."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered
