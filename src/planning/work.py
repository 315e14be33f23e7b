"""What a run's multiplying takes at least: of its Linear layers alone, at the rate that the device reaches."""

from collections.abc import Iterable

from src.config.measure_schema import MeasureConf
from src.devices.device import Device
from src.treatments.layers import LayerRow

_CALLS = 4  # of an arm beside its rounds: the first one, for memory, to size a round, to warm up
_FLOP = 2  # multiply and add


def least_s(rows: Iterable[LayerRow], tflop_s: float, measure: MeasureConf) -> float:
    """Seconds that the fewest calls of both arms take, in one process.

    Args:
        rows: the Linear layers of one call.
        tflop_s: what the device reaches in the run's dtype.
        measure: says how many pairs there are at least.
    """
    flop = sum(_FLOP * row.M * row.K * row.N * row.calls for row in rows)
    return 2 * (_CALLS + measure.min_pairs) * flop / (tflop_s * 1e12)


def rate_tflop_s(device: Device, dtype: str) -> float | None:
    """What the device, opened here, reaches in a dtype by one quick matmul, on all its threads; None: not known."""
    from src.measurement.dtypes import quick_rates

    rate = quick_rates(device).tflop_s.get(dtype)
    return None if rate is None else rate * (device.threads or 1)  # a CPU's is one thread's
