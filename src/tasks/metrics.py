"""From what was measured to the record's metrics; their names and units stand in docs/records.md."""

import numpy as np

from src.measurement.paired import Rounds
from src.measurement.statistics import SpeedupEstimate
from src.tasks.arm import Arm
from src.treatments.compiling import CompilerCounts, FirstCall
from src.workloads.device import GIB


def latency_metrics(rounds: Rounds, estimate: SpeedupEstimate, batch: int) -> dict[str, float]:
    """Latency of both arms in ms per call, the speedup with its interval, and throughput."""
    baseline, treated = rounds.as_arrays()
    metrics = {"speedup/pairs": float(estimate.pairs)}
    for prefix, times in (("baseline_", baseline), ("", treated)):
        p10, median, p90 = np.percentile(times, [10, 50, 90])
        metrics[f"latency/{prefix}p10_ms"] = float(p10)
        metrics[f"latency/{prefix}median_ms"] = float(median)
        metrics[f"latency/{prefix}p90_ms"] = float(p90)
    metrics["speedup/median"] = estimate.median
    metrics["speedup/ci_low"], metrics["speedup/ci_high"] = estimate.ci_low, estimate.ci_high
    calls_per_s = 1e3 / metrics["latency/median_ms"]
    metrics["throughput/calls_per_s"] = calls_per_s
    metrics["throughput/samples_per_s"] = calls_per_s * batch
    return metrics


def memory_metrics(baseline: Arm, treated: Arm, beside_bytes: int) -> dict[str, float]:
    """Sizes of both models and the peak of a call of each; the baseline is measured first, alone.

    Args:
        baseline: the unquantized arm.
        treated: the treated arm.
        beside_bytes: what the baseline held while the treated arm was called; taken off its peak.
    """
    return (
        {
            "memory/baseline_model_gib": baseline.model_bytes / GIB,
            "memory/model_gib": treated.model_bytes / GIB,
        }
        | baseline.peaks.metrics("baseline_")
        | treated.peaks.less(beside_bytes).metrics("")
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
        if first.cold:
            metrics[f"compile/{prefix}cold_s"] = first.seconds
        warm = again if first.cold else first
        if warm is not None and warm.from_cache:
            metrics[f"compile/{prefix}warm_s"] = warm.seconds
    return metrics
