"""What a run's multiplying takes at least, at the rate that its device reaches."""

import csv
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from src.config.paths import ROOT
from src.config.schema.measure import MeasureConf
from src.config.schema.model import DENOISER, PIPELINE
from src.config.schema.root import RootConf
from src.devices.device import Device
from src.planning.needs.footprint import Footprints
from src.planning.needs.step import of_one_step
from src.planning.needs.trainings import planned_steps
from src.treatments.layers import LayerRow

_CALLS = 4  # of an arm beside its rounds: the first one, for memory, to size a round, to warm up
_CLEAR_PAIRS = 3  # of an arm many times slower
_FLOP = 2  # multiply and add
_PASSES = 3  # of a step, as much work each: forward, the inputs' gradients, the weights'
_LONG_S = (
    10.0  # of Linear layers: from then on attention and convolutions are counted too, which takes a while
)
_TWICE = "twice"  # model.guidance: two calls of the denoiser in each step


def least_of_training_s(cfg: RootConf, tflop_s: float, footprints: Footprints) -> float:
    """Seconds that the products of a training's steps take: forward, and twice as much backward.

    Of `task=training` those of both arms, whose rounds the curves are part of.
    """
    step = of_one_step(cfg)
    flop = _PASSES * linear_flop(footprints.of(step).rows)
    calls = (
        max(planned_steps(cfg), _CALLS + cfg.measure.min_pairs) * 2 if cfg.task.steps else planned_steps(cfg)
    )
    return calls * flop / (tflop_s * 1e12)


def least_s(flop: float, tflop_s: float, measure: MeasureConf) -> float:
    """Seconds that the fewest calls of both arms take, in one process.

    Args:
        flop: of one call.
        tflop_s: what the device reaches in the run's dtype.
        measure: says how many pairs there are at least.
    """
    return 2 * (_CALLS + measure.min_pairs) * flop / (tflop_s * 1e12)


def slower_s(least: float, speedup: float, measure: MeasureConf, call_s: float = 0.0) -> float:
    """Seconds that the treated arm's fewest calls take beyond the baseline's, where it is slower; else 0.

    Args:
        least: seconds of both arms' fewest calls, the treated one as quick as the baseline: `least_s`.
        speedup: that is predicted, or a bound that it stays below: then this is one that the time stays above.
        measure: says how many pairs `least` has. An arm that is much slower is clear after `_CLEAR_PAIRS`.
        call_s: predicted of a call of the baseline, which has more than products.
    """
    if not 0 < speedup < 1:
        return 0.0
    baseline_s = max(least / (2 * (_CALLS + measure.min_pairs)), call_s)
    return (_CALLS + _CLEAR_PAIRS) * baseline_s * (1 / speedup - 1)


def linear_flop(rows: Iterable[LayerRow]) -> int:
    """Of the Linear layers of one call."""
    return sum(_FLOP * row.M * row.K * row.N * row.calls for row in rows)


def least_of_run_s(cfg: RootConf, tflop_s: float, footprints: Footprints) -> float:
    """`least_s` of a run: of its Linear layers; where they take long, with its attention and convolutions.

    A pipeline calls its denoiser in each step, for two prompts twice where its guidance is so.
    """
    footprint = footprints.of(cfg)
    pipeline = cfg.target == PIPELINE
    calls = cfg.model.pipeline.steps * (2 if cfg.model.guidance == _TWICE else 1) if pipeline else 1
    flop = calls * linear_flop(footprint.rows)
    if least_s(flop, tflop_s, cfg.measure) > _LONG_S and not footprint.trouble:
        besides = footprints.besides(replace(cfg, target=DENOISER) if pipeline else cfg)
        flop = max(flop, calls * besides.flop)
    return least_s(flop, tflop_s, cfg.measure)


def rate_tflop_s(device: Device, dtype: str) -> float | None:
    """What the device, opened here, reaches in a dtype by one quick matmul, on all its threads; None: not known."""
    from src.measurement.dtypes import quick_rates

    rate = quick_rates(device).tflop_s.get(dtype)
    return None if rate is None else rate * (device.threads or 1)  # a CPU's is one thread's


@cache
def rate_elsewhere_tflop_s(gpu: str, dtype: str) -> float | None:
    """What a GPU that is not here reaches in a dtype, by layers that were measured on it; None: not known.

    They are in `conf/gpu/NAME.csv`; of a card that has none, those of the fastest one that has.
    """
    rates = {path.stem: _best_tflop_s(path, dtype) for path in (ROOT / "conf" / "gpu").glob("*.csv")}
    return rates.get(gpu) or max(rates.values(), default=0.0) or None


def _best_tflop_s(path: Path, dtype: str) -> float:
    """The highest rate among the unquantized layers of a file; 0: it has none in this dtype."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dtype"] == dtype]
    return max((_FLOP * _product(row) / float(row["baseline_ms"]) / 1e9 for row in rows), default=0.0)


def _product(row: dict[str, str]) -> float:
    return float(row["M"]) * float(row["K"]) * float(row["N"])
