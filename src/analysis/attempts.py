"""From the attempts at a run key to one row: what all of them measured, pooled, and what its interval contains."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from src.config.schema import MeasureConf
from src.records.pooled import ESTIMATE
from src.records.record import Outcome
from src.statistics.pooling import Between, Process, between_others, pool

Row = dict[str, Any]
_FEW = 50  # of so many runs, each is left out of what the others tell it


def one_per_key(rows: Iterable[Row]) -> list[Row]:
    """Of doubled runs of a sweep's attempt the first; of a key's attempts one row, with the processes of all.

    The newest attempt with a finding gives the row. Where it measured a speedup, ``each`` holds the processes of all
    attempts that did; attempts whose verdict was withheld only where there are no others.
    """
    ordered = sorted(rows, key=lambda row: (row["started_at"], row["run_id"]))
    attempts: dict[tuple[str, str, int], Row] = {}
    for row in ordered:
        attempts.setdefault((row["run_key"], row["sweep"], row["attempt"]), row)
    keys: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(attempts.values(), key=lambda row: (row["finding"], row["attempt"])):
        keys[row["run_key"]].append(row)
    return [_together(group) for group in keys.values()]


def _together(attempts: Sequence[Row]) -> Row:
    """One row of a key's attempts, the best last."""
    if not processes(attempts[-1]):
        return attempts[-1] | {"each": []}
    measured = [row for row in attempts if processes(row)]
    clean = [row for row in measured if not row["withheld"]]
    counted = clean or measured[-1:]
    return counted[-1] | {"each": [process for row in counted for process in processes(row)]}


def processes(row: Row) -> list[Process]:
    """What each process of an attempt measured; nothing where none has a speedup with its interval."""
    if row["outcome"] != Outcome.OK:
        return []
    own = [float(row.get(name, math.nan)) for name in ESTIMATE]
    told = json.loads(row.get("processes") or "[]")
    found = told if len(told) > 1 else [own]
    good = all(len(each) == 3 and all(math.isfinite(x) and x > 0 for x in each) for each in [own, *found])
    return [Process(*each) for each in found] if good else []


def pool_rows(rows: Sequence[Row]) -> None:
    """Put the pooled speedup and its interval into each row that has processes, and what the interval contains.

    How far processes lie apart comes from a run's own, and from all runs of its device that have several.
    """
    devices: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        row["interval"] = ""
        if row["each"]:
            devices[row["device"]].append(row)
    for members in devices.values():
        several = [row for row in members if len(row["each"]) > 1 and not row["withheld"]]
        everything = _told_by(several, None)
        for row in members:
            apart = len(row["each"]) > 1 and len(several) <= _FEW
            _pool(row, _told_by(several, row) if apart else everything)


def _told_by(several: Sequence[Row], row: Row | None) -> Between | None:
    """What the runs of several processes say of a device to one of its runs."""
    others = [other for other in several if other is not row]
    return (
        between_others([other["each"] for other in others], confidence(row or others[0])) if others else None
    )


def _pool(row: Row, prior: Between | None) -> None:
    found = pool(row["each"], confidence(row), prior)
    row |= {"speedup/within_low": row.get("speedup/within_low", row["speedup/ci_low"])}
    row |= {"speedup/within_high": row.get("speedup/within_high", row["speedup/ci_high"])}
    row |= dict(zip(ESTIMATE, (found.speedup, found.ci_low, found.ci_high), strict=True))
    row |= {"speedup/processes": float(found.processes), "interval": found.interval}
    row["speedup/between_sd"] = math.nan if found.between_sd is None else found.between_sd


def confidence(row: Row) -> float:
    """Of a run's intervals."""
    return float(row["params"].get("measure.confidence", MeasureConf.confidence))
