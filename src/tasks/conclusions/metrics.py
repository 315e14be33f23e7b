"""From what was measured to the record's metrics; their names and units stand in docs/records.md."""

from dataclasses import replace

import numpy as np

from src.compilation.scopes import CompilerCounts, FirstCall
from src.config.schema.root import RootConf
from src.devices.device import GIB, Device
from src.measurement.memory import device_used_gib
from src.measurement.rounds import Rounds, estimate_speedup
from src.statistics.speedup import SpeedupEstimate
from src.tasks.arms.arm import Arm
from src.tasks.arms.timing import Timed

_POWER_MEAN_MS = 2000.0  # a round this long has NVML's mean power to itself


def latency_metrics(rounds: Rounds, estimate: SpeedupEstimate, batch: int) -> dict[str, float]:
    """Latency of both arms in ms per call, the speedup with its interval, and throughput."""
    baseline, treated = rounds.as_arrays()
    metrics = {"speedup/pairs": float(estimate.pairs)}
    for prefix, times in (("baseline_", baseline), ("", treated)):
        p10, median, p90 = np.percentile(times, [10, 50, 90])
        metrics[f"latency/{prefix}p10_ms"] = float(p10)
        metrics[f"latency/{prefix}median_ms"] = float(median)
        metrics[f"latency/{prefix}p90_ms"] = float(p90)
    metrics["speedup/ratio"] = estimate.ratio
    metrics["speedup/ci_low"], metrics["speedup/ci_high"] = estimate.ci_low, estimate.ci_high
    metrics["speedup/error"] = estimate.error
    calls_per_s = 1e3 / metrics["latency/median_ms"]
    metrics["throughput/calls_per_s"] = calls_per_s
    metrics["throughput/samples_per_s"] = calls_per_s * batch
    return metrics


def both_speedups(
    timed: Timed, alternating: SpeedupEstimate, estimate: SpeedupEstimate, cfg: RootConf
) -> dict[str, float]:
    """Where another dtype was measured unquantized: the speedups against the run's own dtype and against the other.

    One of them is `estimate`, against the faster of the two. At the power cap that is of blocks, which the slower one
    has none of: how far the two lie apart is what the alternating rounds of both say, for speedups as for latencies.

    Args:
        alternating: the estimate from the rounds, or those in turn.
        estimate: the one that counts.
    """
    rounds = timed.rounds
    if not rounds.others:
        return {}
    (name, other), own = next(iter(rounds.others.items())), cfg.dtype
    counting, beside = ("speedup_same_dtype", "speedup_other_dtype")[:: -1 if name == own else 1]
    found = {counting: estimate, beside: estimate_speedup(rounds.against(name, "the faster"), cfg.measure)}
    median_ms = {counting: float(np.median(rounds.baseline_ms)), beside: float(np.median(other.ms))}
    if timed.blocks:
        found[beside] = _times(estimate, found[beside].ratio / alternating.ratio)
        clock = float(np.median(timed.counted.baseline_ms)) / median_ms[counting]
        median_ms = {family: ms * clock for family, ms in median_ms.items()}
    metrics = {
        f"{family}/{part}": value
        for family, each in found.items()
        for part, value in (("ratio", each.ratio), ("ci_low", each.ci_low), ("ci_high", each.ci_high))
    }
    for family, ms in median_ms.items():
        metrics[f"latency/baseline_{family.removeprefix('speedup_')}_median_ms"] = ms
    return metrics


def _times(estimate: SpeedupEstimate, factor: float) -> SpeedupEstimate:
    ratio, low, high = (factor * each for each in (estimate.ratio, estimate.ci_low, estimate.ci_high))
    return replace(estimate, ratio=ratio, ci_low=low, ci_high=high)


def device_metrics(timed: Timed, batch: int) -> dict[str, float]:
    """The device's state by arm (medians over the rounds), and joules per sample: an image, for a pipeline.

    NVML's power is a mean over about a second: of rounds shorter than that, and in turn, it is of both arms together.
    """
    metrics, states = {}, timed.counted.state_medians()
    if not _told_apart(timed):
        shared = [states.pop(f"{arm}/power_w", None) for arm in ("baseline", "treated")]
        if known := [watts for watts in shared if watts is not None]:
            metrics["device/both_power_w"] = sum(known) / len(known)
    for name, value in states.items():
        arm, _, state = name.partition("/")
        if arm not in ("baseline", "treated"):
            continue
        metrics[f"device/{'baseline_' if arm == 'baseline' else ''}{state}"] = value
    for prefix, joules in timed.energy_j.items():
        metrics[f"energy/{prefix}per_sample_j"] = joules / batch
    return metrics


def _told_apart(timed: Timed) -> bool:
    """Whether a power reading is of one arm alone."""
    rounds = timed.rounds
    if timed.blocks or not rounds.order:
        return True
    arms = zip(rounds.as_arrays(), rounds.calls_per_round, strict=True)
    return min(float(np.median(times)) * calls for times, calls in arms) > _POWER_MEAN_MS


def memory_metrics(baseline: Arm, treated: Arm, beside_bytes: int, device: Device) -> dict[str, float]:
    """Sizes of both models, the peaks of their calls, and what the device itself says is in use.

    Args:
        baseline: the unquantized arm; it was measured first, alone.
        beside_bytes: what the baseline held while the treated arm was called; taken off its peaks.
    """
    used_gib = device_used_gib(device)
    return (
        {
            "memory/baseline_model_gib": baseline.model_bytes / GIB,
            "memory/model_gib": treated.model_bytes / GIB,
        }
        | baseline.peaks.metrics("baseline_")
        | treated.peaks.less(beside_bytes).metrics("")
        | baseline.compile_peaks.phase_metrics("baseline_compile")
        | treated.compile_peaks.less(beside_bytes).phase_metrics("compile")
        | ({} if used_gib is None else {"memory/device_used_gib": round(used_gib, 4)})
    )


def compile_metrics(
    firsts: dict[str, tuple[FirstCall, FirstCall | None]], counts: CompilerCounts, recompiles: int
) -> dict[str, float]:
    """Cold and warm first calls by arm; one that was not seen is left out.

    Args:
        firsts: metric prefix (``baseline_`` or nothing) -> first call, and the one repeated from the cache.
        counts: of the whole run.
        recompiles: graphs compiled after the first calls.
    """
    metrics = {
        "compile/graph_breaks": float(counts.graph_breaks),
        "compile/recompiles": float(recompiles),
        "compile/cache_hits": float(counts.cache_hits),
        "compile/cache_misses": float(counts.cache_misses),
    }
    for prefix, (first, again) in firsts.items():
        cold_s = first.seconds if first.cold else first.ahead_s
        if cold_s is not None:
            metrics[f"compile/{prefix}cold_s"] = cold_s
        warm = again if first.cold else first
        if warm is not None and warm.from_cache:
            metrics[f"compile/{prefix}warm_s"] = warm.seconds
    return metrics
