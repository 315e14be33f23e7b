"""The table of schemes: what each stores, what became of its runs by compile mode, what it costs in quality."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.runs.frame import WORKLOAD, model_level
from src.analysis.runs.layer_tables import NAME, read_layers
from src.analysis.verdicts import interval_text, speedup_text, status, workload_text
from src.records.store import run_folder

Run = Mapping[Hashable, Any]  # a row of the frame, plain: of very many runs there are thousands in the tables

TABLE_NAME = "schemes.md"
_EAGER = "none"  # the compile mode
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}  # of an unquantized weight
_FAMILIES = (
    r"(fp\d)_e\dm\d",
    r"(uint)\dwo",
)  # formats that differ in one number, which a short table shows as one
_MEMORY = ("memory/baseline_model_gib", "memory/model_gib")
_NOT_MEASURED = "not measured"
_MOST = 24  # devices and workloads in a file
_VERSIONS = ("torch", "torchao", "diffusers")
_SHOWN = ("quant", "variant", "compile", "device", "outcome", "verdict", "reason", "bits", "left", "speedup/ratio",
          "speedup/ci_low", "speedup/ci_high", "quality/sqnr_db", "quality/max_abs_error")  # fmt: skip
_NOTE = (
    "bits: stored per weight of the quantized layers, scales included. Speedup: against the same model unquantized "
    "in the same compile mode, with its interval. SQNR: of the model's output. emulated: by other means than the "
    "scheme's kernels, for its quality alone."
)


def with_layers(runs: pd.DataFrame, outputs: Path) -> pd.DataFrame:
    """Add to each run what its layer table says: ``bits`` per weight and ``left``, which layers were left alone.

    Args:
        runs: standing rows.
        outputs: the folder that holds the runs' own folders; a run that is not there has neither.
    """
    rows = runs[["run_key", "attempt", "dtype", *_MEMORY]].to_dict("records")
    tables = [_layers(outputs, row) for row in rows]
    bits = [_bits_per_weight(row, table) for row, table in zip(rows, tables, strict=True)]
    return runs.assign(
        bits=pd.Series(bits, index=runs.index, dtype=float), left=[_left_alone(table) for table in tables]
    )


def scheme_tables(
    runs: pd.DataFrame, names: Sequence[str], versions: dict[str, list[str]], *, short: bool = False
) -> str:
    """Markdown: a table per device and workload of whole models, with a row for every scheme.

    Args:
        runs: of `with_layers`.
        names: all schemes there are; one without a run is shown as not measured.
        versions: name -> values met, as in `Provenance`.
        short: families of formats (uint1wo to uint7wo) as one row.
    """
    groups = model_level(runs).groupby(["device", *WORKLOAD], dropna=False, sort=False)
    parts = [
        f"{_caption(group, versions)}\n\n{_table(group, names, short=short)}\n\n{_NOTE}"
        for _, group in groups
    ]
    return "\n\n".join(parts) + "\n" if parts else ""


def write_schemes(
    runs: pd.DataFrame, outputs: Path, names: Sequence[str], versions: dict[str, list[str]], folder: Path
) -> list[Path]:
    """Write ``schemes.md``, where runs of whole models are; returns its path."""
    models = model_level(runs)
    number = models.groupby(["device", *WORKLOAD], dropna=False, sort=False).ngroup()
    text = scheme_tables(with_layers(models[number < _MOST], outputs), names, versions)
    if not text:
        return []
    if (left := number.max() + 1 - _MOST) > 0:
        text += f"\n{left} more workloads are in verdicts.csv.\n"
    path = folder / TABLE_NAME
    path.write_text(text, encoding="utf-8")
    return [path]


def _caption(runs: pd.DataFrame, versions: dict[str, list[str]]) -> str:
    first = runs.iloc[0]
    dates = sorted({f"{moment:%Y-%m-%d}" for moment in runs["started_at"]})
    made_with = ", ".join(f"{name} {'/'.join(versions[name])}" for name in _VERSIONS if name in versions)
    measured = " to ".join((dates[0], dates[-1])[: len(dates)])
    parts = (f"{workload_text(first)} on {first['device']}", made_with, measured)
    return "; ".join(filter(None, parts))


def _table(runs: pd.DataFrame, names: Sequence[str], *, short: bool) -> str:
    modes = sorted(set(runs["compile"]), key=lambda mode: (mode != _EAGER, mode))
    heads = ["scheme", "bits", *("eager" if mode == _EAGER else mode for mode in modes), "SQNR, dB", "why"]
    by_scheme: dict[str, list[Run]] = defaultdict(list)
    for run in runs[[name for name in _SHOWN if name in runs]].to_dict("records"):
        by_scheme[f"{run['quant']} ({run['variant']})" if run["variant"] else str(run["quant"])].append(run)
    keys = sorted({*names} - {*runs["quant"]} | by_scheme.keys())
    rows = [
        _cells(label, [run for name in members for run in by_scheme.get(name, ())], modes)
        for label, members in _families(keys, short)
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _families(names: Sequence[str], short: bool) -> Iterator[tuple[str, list[str]]]:
    """Label and members of each row; of a family in a short table ``uint1wo ... uint7wo``."""

    def family(name: str) -> str:
        found = next((match for pattern in _FAMILIES if (match := re.fullmatch(pattern, name))), None)
        return found[1] if short and found else name

    for _, group in groupby(names, family):
        members = list(group)
        yield f"`{members[0]}`" + (f" … `{members[-1]}`" if len(members) > 1 else ""), members


def _cells(label: str, runs: Sequence[Run], modes: Sequence[str]) -> list[str]:
    by_mode = {mode: [run for run in runs if run["compile"] == mode] for mode in modes}
    return [
        label,
        _span([run["bits"] for run in runs], 2),
        *(_outcome(group) for group in by_mode.values()),
        _quality(by_mode),
        _why(by_mode),
    ]


def _outcome(runs: Sequence[Run]) -> str:
    """``0.94× 0.93–0.96 hurts``; of several runs the span of the speedups and how many say what."""
    if not runs:
        return _NOT_MEASURED
    counts = Counter(map(status, runs))
    told = ", ".join(f"{name} {count}" if len(counts) > 1 else name for name, count in counts.items())
    if len(runs) == 1:
        return " ".join(filter(None, [speedup_text(runs[0]), interval_text(runs[0]), told]))
    span = _span([run["speedup/ratio"] for run in runs if run["verdict"]], 2)
    return f"{span}× {told}" if span else told


def _quality(by_mode: dict[str, list[Run]]) -> str:
    """Of the first mode that has one; ``equal`` when no bit differs."""
    for runs in by_mode.values():
        if any(pd.notna(run["quality/sqnr_db"]) for run in runs):
            return _span([run["quality/sqnr_db"] for run in runs], 1)
    equal = any(run.get("quality/max_abs_error") == 0 for runs in by_mode.values() for run in runs)
    return "equal" if equal else ""


def _why(by_mode: dict[str, list[Run]]) -> str:
    """The runs' reasons, once where all modes have the same, and the layers that were left alone."""
    told = {mode: "; ".join(dict.fromkeys(map(_reason, runs))) for mode, runs in by_mode.items()}
    left = dict.fromkeys(run["left"] for runs in by_mode.values() for run in runs if run["left"])
    if not any(by_mode.values()):
        return "no run in these records"
    if len(set(told.values())) == 1:
        reasons = [*told.values()][:1]
    else:
        reasons = [f"{'eager' if mode == _EAGER else mode}: {text}" for mode, text in told.items() if text]
    return "; ".join(filter(None, [*reasons, *left]))


def _reason(run: Run) -> str:
    """Without what the row and the caption say already: the scheme's name and the device's."""
    text = str(run["reason"]).removeprefix(f"{run['quant']} ").replace(f"; {run['quant']} needs", "; needs")
    return text.partition(f"; this is {run['device']}")[0]


def _span(values: Iterable[float], digits: int) -> str:
    known = [value for value in values if pd.notna(value)]
    shown = [f"{value:.{digits}f}" for value in (min(known), max(known))] if known else []
    return " to ".join(dict.fromkeys(shown))


def _layers(outputs: Path, row: Run) -> list[dict[str, object]]:
    return read_layers(run_folder(outputs, str(row["run_key"]), int(row["attempt"])) / NAME)


def _bits_per_weight(row: Run, layers: list[dict[str, object]]) -> float:
    """By the bytes that quantizing took off the model."""
    weights = sum(int(str(layer["K"])) * int(str(layer["N"])) for layer in layers if layer["scheme"])
    if not weights or row["dtype"] not in _BYTES:
        return math.nan
    saved_bytes = (row[_MEMORY[0]] - row[_MEMORY[1]]) * 2**30
    return float(8 * (_BYTES[row["dtype"]] - saved_bytes / weights))


def _left_alone(layers: list[dict[str, object]]) -> str:
    """``1 of 62 layers left alone (K=64 is not a multiple of 128)``; nothing where no layer was taken."""
    left = Counter(str(layer["reason"]) for layer in layers if not layer["scheme"])
    if not left or left.total() == len(layers):
        return ""
    return f"{left.total()} of {len(layers)} layers left alone ({'; '.join(left)})"
