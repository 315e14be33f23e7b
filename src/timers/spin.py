"""CUDA's spin kernel: it keeps the device busy for so many cycles of its clock and touches no memory."""

import statistics

import torch

_SHORT_CYCLES, _LONG_CYCLES = 1_000_000, 5_000_000


def cycles_per_ms(repetitions: int = 7) -> float:
    """Cycles per ms at the device's present clock: the slope between two lengths, so launching does not count."""
    lengths = (_SHORT_CYCLES, _LONG_CYCLES)
    short, long = (statistics.median(_spun_ms(cycles) for _ in range(repetitions)) for cycles in lengths)
    return (_LONG_CYCLES - _SHORT_CYCLES) / (long - short)


def spin(cycles: float) -> None:
    """Send the spin kernel to the current stream."""
    torch.cuda._sleep(max(1, round(cycles)))


def _spun_ms(cycles: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    spin(cycles)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))
