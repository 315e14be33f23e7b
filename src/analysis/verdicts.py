"""The verdict table: workload x treatment x device, what each run says, and the files it is kept in."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from src.analysis.runs.frame import TRAINING, TREATMENT, WORKLOAD, Plain, Row
from src.analysis.runs.tracked.source import SHAPE
from src.config.schema.model import RANDOM_WEIGHTS
from src.statistics.speedup import Verdict

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Table

_FIRST = [
    *("device", *WORKLOAD, *SHAPE, *TREATMENT, "outcome", "verdict"),
    *(
        "speedup/ratio",
        "speedup/ci_low",
        "speedup/ci_high",
        "speedup/processes",
        "interval",
        "latency/baseline_median_ms",
        "latency/median_ms",
    ),
    *("memory/saved", "quality/sqnr_db", "quality/psnr_db", "quality/lpips", "reason", "remedy"),
]
_TINY = 0.095  # a speedup below it, which two digits show as less than 0.10, has three digits that tell
_SORT = ["device", "model", "target", "dtype", "resolution", "frames", "batch", "K", "N", "M"]


def verdict_table(frame: pd.DataFrame) -> pd.DataFrame:
    """All rows by workload, in each the fastest treatment first and those that did not run last."""
    by = [*_SORT, "_ended", "speedup/ratio", *TREATMENT]
    upwards = [name != "speedup/ratio" for name in by]
    ran = frame.assign(_ended=frame["verdict"] == "")
    ordered = ran.sort_values(by, ascending=upwards, na_position="first").drop(columns="_ended")
    return ordered[[*_FIRST, *(c for c in ordered.columns if c not in _FIRST)]].reset_index(drop=True)


def write_tables(frame: pd.DataFrame, breakeven: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``verdicts.csv``, ``verdicts.parquet`` and ``breakeven.csv``; returns their paths."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pandas(verdict_table(frame), preserve_index=False)
    paths = [folder / name for name in ("verdicts.csv", "verdicts.parquet", "breakeven.csv")]
    _write_csv(table, paths[0])
    parquet.write_table(table, paths[1])
    write_csv(breakeven, paths[2])
    return paths


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """A table as pandas writes it, in a tenth of the time: of 100,000 runs it is 110 MB."""
    import pyarrow

    _write_csv(pyarrow.Table.from_pandas(table, preserve_index=False), path)


def _write_csv(table: "Table", path: Path) -> None:
    from pyarrow import csv

    columns = [_as_pandas_writes(column) for column in table.columns]
    named = table.from_arrays(columns, table.column_names)
    csv.write_csv(named, path, csv.WriteOptions(quoting_style="needed"))


def _as_pandas_writes(column: "ChunkedArray") -> "ChunkedArray":
    """A column of truths, moments (UTC) or texts as texts; one of numbers is written alike."""
    from pyarrow import compute, types

    if types.is_boolean(column.type):
        return compute.if_else(column, "True", "False")
    if types.is_timestamp(column.type) and column.type.tz:
        told = compute.strftime(_as_coarse(column), format="%Y-%m-%d %H:%M:%S")
        return compute.binary_join_element_wise(told, "+00:00", "")
    if types.is_string(column.type) or types.is_large_string(column.type):
        return compute.if_else(compute.equal(column, ""), None, column)  # else it writes ""
    return column


def _as_coarse(moments: "ChunkedArray") -> "ChunkedArray":
    """Moments in the coarsest unit that tells each of them: its digits are those of the text."""
    from pyarrow import ArrowInvalid, timestamp

    for unit in ("s", "ms", "us"):
        with suppress(ArrowInvalid):  # it would lose something
            return moments.cast(timestamp(unit))
    return moments.cast(timestamp("ns"))


def workload_text(row: Row | Plain) -> str:
    """``flux-tiny b4 256px``, with target and dtype where they are not the usual ones."""
    target = "" if row["target"] in ("denoiser", "") or pd.notna(row["M"]) else f"/{row['target']}"
    parts = [f"{row['model']}{target}"]
    if pd.notna(row["M"]):
        parts.append(f"{row['M']}×{row['K']}×{row['N']}")
    else:
        parts += [f"b{row['batch']}"] if pd.notna(row["batch"]) else []
        parts += [f"{row['resolution']}px"] if pd.notna(row["resolution"]) and row["resolution"] else []
        frames = row.get("frames")  # of videos
        parts += [f"{frames} frames"] if pd.notna(frames) and frames else []
    parts += [str(row["dtype"])] if row["dtype"] not in ("bfloat16", "") else []
    parts += [TRAINING] if row.get("task") == TRAINING else []
    return " ".join(parts)


def treatment_text(row: Row | Plain) -> str:
    """``int8dq · regional``, with the options that tell it from others."""
    variant = f" ({row['variant']})" if row["variant"] else ""
    return f"{row['quant']}{variant} · {row['compile']}"


def speedup_text(row: Row | Plain) -> str:
    """``1.21×``; empty where nothing was compared."""
    return f"{times(row['speedup/ratio'], _digits(row))}×" if row["verdict"] else ""


def interval_text(row: Row | Plain) -> str:
    """``1.19–1.23``; empty where nothing was compared."""
    if not row["verdict"]:
        return ""
    told = times if row["speedup/ratio"] < _TINY else "{:.{}f}".format  # alike, that one reads them together
    low, high = (told(row[f"speedup/{end}"], _digits(row)) for end in ("ci_low", "ci_high"))
    return f"{low}–{high}"


def times(ratio: float, digits: int = 2) -> str:
    """A speedup with two digits behind the point; a tiny one with three that tell: ``0.00163``."""
    return f"{ratio:.3g}" if 0 < ratio < _TINY else f"{ratio:.{digits}f}"


def _digits(row: Row | Plain) -> int:
    """How many digits behind the point: one more where an end that decides the verdict would read 1.00."""
    end = {Verdict.HELPS: "ci_low", Verdict.HURTS: "ci_high"}.get(row["verdict"])
    return 3 if end and f"{row[f'speedup/{end}']:.2f}" == "1.00" else 2


def milliseconds(value: object) -> str:
    """A time in ms to three digits; empty where there is none."""
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else _whole(value)


def _whole(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and pd.notna(value) else ""


def percent(value: object) -> str:
    """A share as ``45%``; empty where there is none."""
    return f"{value:.0%}" if isinstance(value, float) and pd.notna(value) else ""


def decibels(value: object) -> str:
    """A level in dB to one digit behind the point; empty where there is none."""
    return f"{value:.1f}" if isinstance(value, float) and pd.notna(value) else ""


def distance(value: object) -> str:
    """An LPIPS to three digits behind the point; empty where there is none."""
    return f"{value:.3f}" if isinstance(value, float) and pd.notna(value) else ""


IMAGE_QUALITY = {
    "quality/psnr_db": ("PSNR, dB", decibels),
    "quality/lpips": ("LPIPS", distance),
    "quality/accuracy": ("hits", percent),
}


def random_weights(runs: pd.DataFrame) -> str:
    """Of which models a quality says nothing of how images look; empty where all have real weights."""
    random = runs[(runs["weights"] == "random") & runs["quality/sqnr_db"].notna()]
    named = ", ".join(dict.fromkeys(random["model"]))
    return f"{RANDOM_WEIGHTS}: {named}; their quality says nothing of how images look" if named else ""


def image_metrics(runs: pd.DataFrame) -> list[str]:
    """Which of IMAGE_QUALITY these runs have: pipelines do."""
    return [name for name in IMAGE_QUALITY if runs[name].notna().any()]


def status(row: Row | Plain) -> str:
    """The verdict, else the outcome."""
    return str(row["verdict"] or row["outcome"])


def statuses(frame: pd.DataFrame) -> "pd.Series[str]":
    """`status` of every row."""
    return frame["verdict"].where(frame["verdict"] != "", frame["outcome"])


def not_run(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs without a verdict, those that ended alike in one row: how many, which, why, and the remedy."""
    ended = frame[frame["verdict"] == ""]
    groups = ended.groupby(["device", "quant", "outcome", "reason", "remedy"], dropna=False, sort=True)
    rows = [
        dict(zip(["device", "quant", "outcome", "reason", "remedy"], names, strict=True))
        | {"runs": len(group), "where": _where(group)}
        for names, group in groups
    ]
    return pd.DataFrame(rows, columns=["device", "quant", "outcome", "runs", "where", "reason", "remedy"])


def _where(group: pd.DataFrame) -> str:
    """Models, batches and compile modes of the runs, each once."""
    models = ", ".join(dict.fromkeys(group["model"]))
    modes = ", ".join(dict.fromkeys(group["compile"]))
    batches = ", ".join(str(b) for b in dict.fromkeys(group["batch"].dropna()))
    return f"{models} · batch {batches} · {modes}" if batches else f"{models} · {modes}"
