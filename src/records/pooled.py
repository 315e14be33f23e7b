"""One record for a run that was measured in several processes, from what each left in ``processes/<number>/``.

The first process that measured gives the record; speedup, interval and verdict are pooled from all that count. It is
made from the disk, so that whoever finishes the run (its driver, a node, `src.collect`) makes the same.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.schema.measure import MeasureConf
from src.records.record import EMULATED, RECORD_NAME, Outcome, Record, RecordError, read_record
from src.records.settled import way

if TYPE_CHECKING:
    from src.statistics.process import Process

FOLDER_NAME = "processes"
ESTIMATE = ("speedup/ratio", "speedup/ci_low", "speedup/ci_high")
ERROR, PAIRS = "speedup/error", "speedup/pairs"
POOLED_ERROR = "speedup/pooled_error"  # what the interval is made of; of one process its ERROR
_TOLD = (*ESTIMATE, ERROR, PAIRS, "latency/median_ms", "latency/baseline_median_ms")  # of each process
_UNLIKE = (  # of a process, with its own and the first one's
    "its fastest baseline was unquantized {}, that of process {} {}",
    "its arms were measured {}, those of process {} {}",
    "its speedup comes from {}, that of process {} from {}",
)
_MAY_CHANGE = frozenset({"left_out", "pcie_width", "nvlinks_active"})  # of hardware: the device's own doing


def process_folder(folder: Path, number: int) -> Path:
    """Where the process of a run writes, counted from 1."""
    return folder / FOLDER_NAME / str(number)


def is_measured(record: Record) -> bool:
    """Whether a process measured a speedup, so that others can be pooled with it."""
    found = all(name in record.metrics for name in ESTIMATE)
    return record.outcome is Outcome.OK and record.verdict != EMULATED and found


def manner(record: Record) -> tuple[str, str, str]:
    """What a speedup was measured against and how: the baseline's dtype, the arms' pairing, which rounds count.

    Only what agrees in all three is pooled; an empty text (older records) agrees with any.
    """
    details = record.details
    dtype = details.get("baseline", {}).get("dtype") or record.axes.get("dtype", "")
    return dtype, details.get("pairing", ""), way(details)


def agree(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two manners are the same as far as both are known."""
    return all(a == b or not a or not b for a, b in zip(one, other, strict=True))


def pooled_record(folder: Path, last: Record) -> Record:
    """The record of a run, as far as its processes have one.

    Args:
        last: what is known of the run otherwise: how its last process ended, or who ended it. A process without a
            record is told to have ended so; where no process measured anything, it is the run's record.
    """
    known = dict(_processes(folder))
    if not known:
        return last
    measured = {number: found for number, found in known.items() if found and is_measured(found)}
    clean = {n: found for n, found in measured.items() if not found.details.get("withheld")}
    counted, unlike = _alike(clean or measured)
    told = [_told(number, found or last, counts=number in counted) for number, found in known.items()]
    for process in told:
        process |= {"unlike": unlike[process["process"]]} if process["process"] in unlike else {}
    record = replace(next(iter(counted.values()), last))
    said = {} if "process" in last.details else last.details  # by whoever ended the run, of its job
    record.details = {name: value for name, value in (said | record.details).items() if name != "process"}
    settings: dict[str, Any] = next((found.details["process"] for found in known.values() if found), {})
    record.details["processes"] = {"planned": settings.get("of", len(told)), "each": told}
    if not counted:
        return record
    first = next(found for found in known.values() if found)
    record.started_at = first.started_at
    record.finished_at = max(found.finished_at for found in known.values() if found)
    if changed := next(_changes(counted), ""):
        record.outcome, record.verdict, record.reason = Outcome.FAILED, "", changed
        record.remedy = "a device that stays what it is, then the same command"
        return record
    _conclude(record, list(counted.values()), settings)
    if apart := [process for process in told if not process["counts"]]:
        record.details["warnings"] = [*record.details.get("warnings", ()), *map(_apart, apart)]
    return record


def _processes(folder: Path) -> Iterator[tuple[int, Record | None]]:
    """Number and record of each process that was started; None for one that left none that can be read."""
    parent = folder / FOLDER_NAME
    numbers = (each.name for each in parent.iterdir()) if parent.is_dir() else ()
    for number in sorted(int(name) for name in numbers if name.isdecimal()):
        found = None
        with contextlib.suppress(RecordError):
            found = read_record(process_folder(folder, number) / RECORD_NAME)
        yield number, found


def _told(number: int, record: Record, *, counts: bool) -> dict[str, Any]:
    """What the run's record says of one process."""
    told: dict[str, Any] = {"process": number, "outcome": str(record.outcome), "counts": counts}
    told |= {"reason": record.reason} if record.outcome is not Outcome.OK else {}
    if record.details.get("process", {}).get("number") != number:
        return told
    if is_measured(record):
        told |= {name.partition("/")[2]: record.metrics[name] for name in _TOLD if name in record.metrics}
        told |= {"withheld": record.reason} if record.details.get("withheld") else {}
    with contextlib.suppress(ValueError):
        started, finished = (datetime.fromisoformat(t) for t in (record.started_at, record.finished_at))
        told["seconds"] = round((finished - started).total_seconds(), 3)
    return told


def _alike(measured: dict[int, Record]) -> tuple[dict[int, Record], dict[int, str]]:
    """Those that were measured in the first one's manner; of the others in words what is another."""
    manners = {number: manner(found) for number, found in measured.items()}
    first = next(iter(measured), 0)
    unlike = {
        number: next(
            text.format(own, first, reference)
            for text, own, reference in zip(_UNLIKE, told, manners[first], strict=True)
            if not agree([own], [reference])
        )
        for number, told in manners.items()
        if not agree(told, manners[first])
    }
    return {number: found for number, found in measured.items() if number not in unlike}, unlike


def _apart(process: dict[str, Any]) -> str:
    ended = " ".join(filter(None, [process["outcome"], process.get("reason")]))
    why = process.get("withheld") or process.get("unlike") or ended
    return f"process {process['process']} does not count: {why}"


def _conclude(record: Record, counted: Sequence[Record], settings: dict[str, Any]) -> None:
    """Fill in the pooled speedup, its interval, and what they say."""
    from src.statistics.pooling import pool  # scipy takes a second, and few runs come here
    from src.statistics.speedup import SpeedupEstimate, Verdict, margin_text, verdict

    confidence, margin = settings["confidence"], settings["margin"]
    drift = settings.get("in_turn_drift", MeasureConf.in_turn_drift)
    each = [_measured(one, confidence, drift) for one in counted]
    found, pairs = pool(each, confidence), int(sum(one.metrics.get(PAIRS, 0) for one in counted))
    record.metrics = record.metrics | dict(
        zip(ESTIMATE, (found.speedup, found.ci_low, found.ci_high), strict=True)
    )
    record.metrics["speedup/processes"] = float(found.processes)
    record.metrics |= {"speedup/within_low": each[0].ci_low, "speedup/within_high": each[0].ci_high}
    if found.between_sd is not None:
        record.metrics["speedup/between_sd"] = found.between_sd
    record.details["interval"] = found.interval
    if len(counted) > 1:
        record.metrics[PAIRS] = float(pairs)
        record.metrics.pop(ERROR, None)  # of the first alone
        record.metrics[POOLED_ERROR] = found.error
    if len(counted) == 1 or record.details.get("withheld"):
        return  # its own verdict and reason stand
    estimate = SpeedupEstimate(found.speedup, found.ci_low, found.ci_high, pairs, block_length=1)
    record.verdict, record.reason, record.remedy = verdict(estimate, margin), "", ""
    if record.verdict == Verdict.INCONCLUSIVE:
        record.reason = (
            f"the interval {found.ci_low:.3f}-{found.ci_high:.3f} from {found.processes} processes crosses the "
            f"margin of {margin_text(margin)}"
        )
        record.remedy = "a larger measure.processes"
    notes = _notes(counted)
    told = [note for note in notes if note["verdict"] in ("", record.verdict)]
    reasons = [record.details.get("fell_back"), record.reason, *(note["reason"] for note in told)]
    record.reason = "; ".join(filter(None, reasons))
    record.remedy = "; ".join(
        dict.fromkeys(filter(None, [record.remedy, *(note["remedy"] for note in told)]))
    )
    record.details |= {"notes": notes} if notes else {}


def _notes(counted: Sequence[Record]) -> list[dict[str, Any]]:
    """What the processes say beside their verdicts: of each kind once, in the words of the first that says it."""
    found: dict[str, dict[str, Any]] = {}
    for note in (note for one in counted for note in one.details.get("notes", ())):
        found.setdefault(note["kind"], note)
    return list(found.values())


def _measured(one: Record, confidence: float, drift: float) -> "Process":
    from src.statistics.process import Process

    metrics, shared = one.metrics, drift if one.details.get("pairing") == "in_turn" else 0.0
    estimate = [metrics[name] for name in ESTIMATE]
    return Process.of(
        estimate, metrics.get(ERROR, math.nan), metrics.get(PAIRS, math.nan), confidence, shared
    )


def _changes(counted: dict[int, Record]) -> Iterator[str]:
    """What differs of the device between processes, a sentence each."""
    (first, reference), *others = counted.items()
    before = _device(reference)
    for number, found in others:
        now = _device(found)
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != now.get(name):
                yield (
                    f"the device changed between processes {first} and {number}: {name} was "
                    f"{before.get(name, 'absent')}, then {now.get(name, 'absent')}"
                )


def _device(record: Record) -> dict[str, Any]:
    """All that is known of the device and its host, flat."""
    return dict(_flat("", record.device | {"hardware": record.environment.get("hardware", {})}))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, inner in value.items():
        if name not in _MAY_CHANGE:
            yield from _flat(f"{path}.{name}".lstrip("."), inner)
