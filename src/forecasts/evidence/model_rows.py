"""Published times of whole models as speedups: each against the unquantized row that differs in nothing else."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from src.forecasts.evidence.csv_rows import RefusedError, Row, Table

COLUMNS = ["file", "source", "hardware", "model", "batch", "resolution", "compile", "fuse_qkv", "quant", "called",
           "speedup", "samples", "baseline_s", "time_s", "against"]  # fmt: skip
_KEY = ("hardware", "model", "batch", "steps", "resolution", "compile")  # alike in both rows of a ratio
_LINE = re.compile(r",? lines? \d+(-\d+)?$")  # of a source: tables of one document are one source
_RESOLUTION = ("resolution", "resolution/frames")
_DIFFERS = ("fuse_qkv", "notes")  # what may differ between them, and is then said
_NONE = "none"


def model_rows(table: Table, names: Mapping[str, str]) -> tuple[list[dict[str, object]], list[str]]:
    """The speedups of a table of models, and a sentence for each row that gives none.

    A row's baseline is the unquantized one of the same source, hardware, model, batch, steps, resolution and compile
    mode; of several the fastest with the same fused projections and notes, else with the same projections, else the
    fastest, which `against` then says. Rows of one scheme that agree in all of that are samples of one speedup:
    their median time counts.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    refused = []
    for row in table.rows:
        try:
            found = _row(row, names)
            place = _LINE.sub("", str(found["source"])), *(str(found[name]) for name in _KEY)
            groups[place].append(found)
        except RefusedError as reason:
            refused.append(table.told(row.line, reason))
    taken: list[dict[str, object]] = []
    for rows in groups.values():
        bases = [row for row in rows if row["quant"] == _NONE]
        for sample in _samples(row for row in rows if row["quant"] != _NONE):
            if bases:
                taken.append(_speedup(sample, bases) | {"file": table.path.name})
            else:
                line, key = sample[0]["line"], "hardware, model, batch, resolution and compile mode"
                refused.append(
                    table.told(line, f"{sample[0]['called']}: no unquantized row of the same {key}")
                )
    return taken, refused


def _row(row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    called = row.values.get("quant", "").strip()
    if not row.values.get("time_s", "").strip():
        raise RefusedError("time_s is empty; rates and speedups in other columns are not read")
    resolution = next((row.values[name] for name in _RESOLUTION if name in row.values), "")
    texts = {name: row.values.get(name, "").strip() for name in ("source", *_KEY, *_DIFFERS)}
    for name in ("source", "hardware", "model"):
        row.text(name)
    return texts | {
        "line": row.line,
        "resolution": resolution.strip(),
        "quant": names.get(called, called),
        "called": called,
        "time_s": row.number("time_s"),
    }


def _samples(rows: Any) -> list[list[dict[str, Any]]]:
    """Rows by scheme, fused projections and notes: samples of one time."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["called"], *(row[name] for name in _DIFFERS)].append(row)
    return list(found.values())


def _speedup(sample: list[dict[str, Any]], bases: list[dict[str, Any]]) -> dict[str, object]:
    first, times = sample[0], sorted(row["time_s"] for row in sample)
    alike = [row for row in bases if row["fuse_qkv"] == first["fuse_qkv"]]
    noted = [row for row in alike if row["notes"] == first["notes"]]
    bases = noted or alike or bases
    base = min(bases, key=lambda row: row["time_s"])
    time_s = math.sqrt(times[(len(times) - 1) // 2] * times[len(times) // 2])
    against = "" if alike else f"unquantized with fuse_qkv={base['fuse_qkv'] or 'unknown'}"
    several = f"fastest of {len(bases)} unquantized rows" if len(bases) > 1 else ""
    differs = "" if base["notes"] == first["notes"] else "its notes differ"
    against = "; ".join(filter(None, [against, several, differs]))
    kept = {name: first[name] for name in COLUMNS if name in first}
    return kept | {
        "speedup": base["time_s"] / time_s,
        "samples": len(times),
        "baseline_s": base["time_s"],
        "time_s": time_s,
        "against": against,
    }
