"""What launching has to do with a run's numbers: metrics, and in words."""

from typing import Any

from src.compilation.inductor import uses_cuda_graphs
from src.config.schema.arms import compiled_as
from src.config.schema.root import CompileConf, RootConf
from src.measurement.rounds import Rounds
from src.statistics.speedup import Verdict
from src.tasks.arms.timing import Timed, is_part
from src.tasks.conclusions.notes import Note
from src.timers.host import HostTime


def host_metrics(timed: Timed) -> dict[str, float]:
    """``latency/host_ms``, ``device_ms`` and ``waiting_share`` of each arm that has them.

    No share where the device stood at its power cap: `wall_ms` is of the clock that it had there, `device_ms`, of
    single calls with pauses between, of a higher one.
    """
    metrics = {}
    for prefix, arm in timed.host.items():
        metrics[f"latency/{prefix}host_ms"] = arm.host_ms
        metrics[f"latency/{prefix}device_ms"] = arm.device_ms
        if timed.blocks is None:
            metrics[f"latency/{prefix}waiting_share"] = arm.waiting_share
    return metrics


def launch_details(timed: Timed) -> dict[str, Any]:
    """For the record's details: how launches were timed, where that failed, and both times of each arm."""
    return {
        "launches": "counted" if timed.rounds.launches else "hidden",
        "late_calls": list(timed.rounds.late_calls),
        "host": {prefix.rstrip("_") or "treated": _told(arm, timed) for prefix, arm in timed.host.items()},
    }


def _told(arm: HostTime, timed: Timed) -> dict[str, Any]:
    without = ("waiting_share",) if timed.blocks else ()  # as above
    return {name: value for name, value in arm.as_dict().items() if name not in without}


def host_bound(timed: Timed) -> bool:
    """Whether the host sets the pace of an arm where its launches count."""
    return timed.rounds.launches and any(arm.bound for arm in timed.host.values())


def launch_notes(timed: Timed, cfg: RootConf) -> list[Note]:
    """What a reader must know of launches: a treated arm that is host-bound, and times that contain waiting."""
    notes = [_late(timed.rounds)]
    treated, baseline = timed.host.get(""), timed.host.get("baseline_")
    if treated and treated.bound and timed.blocks is None:  # times of two clocks say nothing of waiting
        said = _of_a_part(treated) if is_part(cfg) else _of_a_whole(treated, baseline)
        notes.append(Note("host_bound", said, _remedy(compiled_as(cfg))))
        if baseline and not is_part(cfg):
            notes.append(Note("launches_hurt", _hurting(treated, baseline), verdict=Verdict.HURTS))
    return notes


def _of_a_whole(treated: HostTime, baseline: HostTime | None) -> str:
    most, least = ("", "") if treated.ahead else ("at most ", "at least ")
    said = (
        f"the host takes {treated.host_ms:.3g} ms to launch a call that the device computes in "
        f"{most}{treated.device_ms:.3g} ms: the device waits {least}{treated.waiting_share:.0%} of the time"
    )
    return said if baseline is None else f"{said} (baseline: {baseline.waiting_share:.0%})"


def _hurting(treated: HostTime, baseline: HostTime) -> str:
    alone = baseline.device_ms / treated.device_ms
    if alone <= 1 or treated.host_ms <= baseline.host_ms:
        return ""
    return f"quantization hurts here because launches cost more: on the device alone it is {alone:.2f}x"


def _of_a_part(treated: HostTime) -> str:
    return (
        f"the times are the device's own; the host takes {treated.host_ms:.3g} ms to launch a treated call "
        f"that the device computes in {treated.device_ms:.3g} ms: a model of nothing else would have it wait "
        f"{treated.waiting_share:.0%} of the time"
    )


def _remedy(conf: CompileConf) -> str:
    return "" if uses_cuda_graphs(conf) else "CUDA graphs launch a call at once: compile=reduce-overhead"


def _late(rounds: Rounds) -> Note:
    if not any(rounds.late_calls):
        return Note("late_calls", "")
    baseline, treated = rounds.late_calls
    return Note(
        "late_calls",
        f"waiting for the host is in the times: {baseline} calls of the baseline and {treated} of the treated arm "
        "could not be launched ahead of the device (they wait for it, or have more kernels than its queue holds)",
        "CUDA graphs, or a smaller part of the model",
    )
