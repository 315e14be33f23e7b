"""What a person compares runs by: few plain names, four digits; the exact values stand under their own names."""

import math

from src.records.record import Record

_RATIO, _SMALL, _PLAIN = "speedup/ratio", "memory/model_gib", "memory/baseline_model_gib"
_NAMES = {  # shown first, in this order: metric of the record
    "speedup": _RATIO,
    "low": "speedup/ci_low",
    "high": "speedup/ci_high",
    "pairs": "speedup/pairs",
    "ms": "latency/median_ms",
    "sqnr_db": "quality/sqnr_db",
}


def shown(record: Record) -> dict[str, float]:
    """Speedup and interval, pairs, ms per call, SQNR in dB, weights' memory saved and time gained in percent.

    ``faster_percent`` is 0 where the speedup is 1: bars of it part there to the faster and the slower.
    """
    metrics = record.metrics
    found = {name: metrics[metric] for name, metric in _NAMES.items() if metric in metrics}
    if metrics.get(_PLAIN) and _SMALL in metrics:
        found["saved_percent"] = 100 * (1 - metrics[_SMALL] / metrics[_PLAIN])
    if _RATIO in metrics:
        found["faster_percent"] = 100 * (metrics[_RATIO] - 1)
    return {name: float(f"{value:.4g}") for name, value in found.items() if math.isfinite(value)}
