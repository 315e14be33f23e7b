"""How long an arm's call took on one side of a comparison, over all processes that measured it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri, stdtrit

from src.analysis.runs.frame import Row
from src.analysis.runs.typed import MANNER
from src.records.mlflow.content import identity_text
from src.records.pooled import PAIRS, agree, is_measured, manner, process_folder
from src.records.record import RECORD_NAME, Record, RecordError, read_record
from src.statistics.pooling import pool
from src.statistics.process import Process

Runs = list[tuple[Record, Path]]
_TENTHS = float(ndtri(0.9) - ndtri(0.1))  # standard deviations between the 10th and the 90th percentile
_OF_A_MEDIAN = math.sqrt(math.pi / 2)  # its error over that of a mean


@dataclass(frozen=True)
class Latency:
    """A call's time and the half width of the interval of its logarithm."""

    ms: float
    half: float


def by_key(records: Iterable[tuple[Record, Path]]) -> dict[str, Runs]:
    """The runs that count for times, by run key: those that measured a speedup that nothing put in doubt."""
    found: dict[str, Runs] = defaultdict(list)
    for record, folder in records:
        if is_measured(record) and not record.details.get("withheld"):
            found[record.run_key].append((record, folder))
    return found


def runs_of(row: Row, found: dict[str, Runs]) -> Runs:
    """The runs of a row's key that were measured on its device and in its manner."""
    device, how = (row["device_name"], row["device_identity"]), [str(row[name]) for name in MANNER]
    return [
        (record, folder)
        for record, folder in found.get(str(row["run_key"]).partition("/")[2], [])
        if (record.device.get("name", ""), identity_text(record.device)) == device
        and agree(manner(record), how)
    ]


def latency(runs: Runs, arm: str, between: float, confidence: float) -> Latency | None:
    """The time of an arm over all processes of a key's runs; None where it is not known.

    Args:
        runs: of one run key.
        arm: ``baseline_``, or nothing for the quantized one.
        between: relative standard deviation between processes, for where there is only one.
        confidence: of the interval.
    """
    medians = [ms for record, folder in runs for ms in _medians(record, folder, arm)]
    if not medians:
        return None
    if len(medians) > 1:
        found = pool([Process(ms, ms, ms, 0.0) for ms in medians], confidence)
        return Latency(found.speedup, math.log(found.ci_high / found.speedup))
    upper = (1 + confidence) / 2
    half = math.hypot(_of_rounds(runs[0][0], arm, upper), float(ndtri(upper)) * between)
    return Latency(medians[0], half) if math.isfinite(half) else None


def _medians(record: Record, folder: Path, arm: str) -> list[float]:
    """Of each process that counts, ms; where only the record's own is known, that one."""
    told = [each for each in record.details.get("processes", {}).get("each", ()) if each["counts"]]
    own = [
        each.get(f"{arm}median_ms") or _left(process_folder(folder, each["process"]), arm) for each in told
    ]
    known = [ms for ms in own if ms is not None]
    alone = record.metrics.get(f"latency/{arm}median_ms")
    return [*_usable(known)] if known and len(known) == len(told) else [*_usable([alone])]


def _left(folder: Path, arm: str) -> float | None:
    """What a process' own record says, of runs whose record does not tell it."""
    try:
        return read_record(folder / RECORD_NAME).metrics.get(f"latency/{arm}median_ms")
    except (RecordError, OSError):
        return None


def _usable(times: Sequence[float | None]) -> Iterator[float]:
    yield from (ms for ms in times if ms is not None and math.isfinite(ms) and ms > 0)


def _of_rounds(record: Record, arm: str, upper: float) -> float:
    """How far the logarithm of one process' median may be off, by Student's t; not a number: it is not known."""
    low, high, pairs = (
        record.metrics.get(name, math.nan) for name in (f"latency/{arm}p10_ms", f"latency/{arm}p90_ms", PAIRS)
    )
    rounds = max(pairs / max(record.metrics.get("speedup/processes", 1.0), 1.0), 1.0)
    if not (0 < low <= high < math.inf and math.isfinite(rounds)):
        return math.nan
    error = _OF_A_MEDIAN * np.log(high / low) / _TENTHS / math.sqrt(rounds)
    return float(error * stdtrit(max(rounds - 1, 1), upper))
