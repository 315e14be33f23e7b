"""How near one Linear comes to what its device was measured to copy and multiply at most."""

from src.config.schema.arms import is_usual
from src.config.schema.root import RootConf
from src.devices.device import GIB
from src.records.record import Record
from src.treatments.multiplies import multiplies_in

_WIDTHS = {"float32": 4}  # bytes of an element; of all other dtypes 2
_COPY = "ceiling/copy_gb_s"


def roofline_metrics(record: Record, cfg: RootConf) -> dict[str, float]:
    """``roofline/fraction`` of the treated arm and ``roofline/baseline_fraction``; nothing without ceilings.

    None of an arm that autoquant or the rules chose, which may multiply in anything.

    The share of the roof that is reached: of the copy bandwidth or of the rate at which the arm multiplies, whichever
    allows less. Bytes are the weights as stored, the input and the output, as in the report's roofline. More than 1,
    where copying allows less: the weights came from a cache.
    """
    if not record.shape or not is_usual(cfg):
        return {}
    own = cfg.dtype
    base = str(record.details.get("baseline", {}).get("dtype", own))
    m, k, n = (record.shape[name] for name in "MKN")
    stored = record.metrics.get("memory/model_gib", 0.0) * GIB
    arms: dict[str, tuple[str, float]] = {"baseline_": (base, _width(base) * (k * n + m * (k + n)))}
    if not cfg.quant.candidates:
        arms[""] = multiplies_in(cfg.quant.name, own), stored + _width(own) * m * (k + n)
    found = {prefix: _fraction(record, prefix, 2.0 * m * k * n, *arm) for prefix, arm in arms.items()}
    return {f"roofline/{prefix}fraction": share for prefix, share in found.items() if share is not None}


def _fraction(record: Record, prefix: str, flop: float, multiplies: str, moved: float) -> float | None:
    """Of an arm that moves so many bytes; None: its time or a ceiling is not known."""
    metrics = record.metrics
    unit = "top_s" if multiplies.startswith("int") else "tflop_s"
    needed = [
        metrics.get(name) for name in (f"latency/{prefix}median_ms", _COPY, f"ceiling/{multiplies}_{unit}")
    ]
    if None in needed:
        return None
    ms, gb_s, rate = (value for value in needed if value is not None)
    return flop / ms / 1e9 / min(flop / moved * gb_s / 1e3, rate)


def _width(dtype: str) -> int:
    return _WIDTHS.get(dtype, 2)
