"""What a forecast has to beat: four ways of saying whether quantization pays that need no model of costs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.forecasts.arms import shapes_of
from src.forecasts.costs import Array
from src.forecasts.evidence.kernels import roofline
from src.regimes.boxes import verdicts_of

SIDE = 1024  # torchao's benchmarks skip a layer with a shorter side
Words = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Said:
    """Per cell a verdict, and a speedup where the way has one (else nan)."""

    verdict: Words
    speedup: Array


def neutral(train: pd.DataFrame, test: pd.DataFrame, margin: float) -> Said:
    """Always neutral."""
    return Said(np.full(len(test), "neutral"), np.ones(len(test)))


def majority(train: pd.DataFrame, test: pd.DataFrame, margin: float) -> Said:
    """The scheme's usual verdict, neutral where several are; and its median speedup on the device, else anywhere."""
    logs = np.log(train["speedup"])
    anywhere, here = (
        logs.groupby(train["quant"]).median(),
        logs.groupby([train["device"], train["quant"]]).median(),
    )
    usual = [
        float(here.get((device, quant), anywhere.get(quant, 0.0)))
        for device, quant in zip(test["device"], test["quant"], strict=True)
    ]
    said = train.assign(said=verdicts_of(logs.to_numpy(), margin))
    most = said.groupby("quant")["said"].agg(_most_frequent)
    return Said(
        np.array([str(most.get(quant, "neutral")) for quant in test["quant"]]), np.exp(np.array(usual))
    )


def _most_frequent(words: "pd.Series[str]") -> str:
    """Of as many helps as hurts none is the majority."""
    most = words.mode()
    return str(most.iloc[0]) if len(most) == 1 else "neutral"


def long_sides(train: pd.DataFrame, test: pd.DataFrame, margin: float) -> Said:
    """torchao's: a layer with a side under 1,024 is left alone, any other is quantized, for it helps."""
    long = test[["K", "N"]].min(axis=1).to_numpy() >= SIDE
    return Said(np.where(long, "helps", "neutral"), np.full(len(test), np.nan))


def roofline_alone(train: pd.DataFrame, test: pd.DataFrame, margin: float) -> Said:
    """Bytes at the highest bandwidth seen, operations at the highest rate seen, whichever takes longer."""
    logs = np.zeros(len(test))
    timed = train[train["baseline_ms"].notna()]
    for device, rows in test.reset_index(drop=True).groupby("device"):
        seen = timed[timed["device"] == device] if (timed["device"] == device).any() else timed
        if len(seen):
            logs[rows.index] = _by_roofline(seen, rows)
    return Said(verdicts_of(logs, margin), np.exp(logs))


RIVALS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, float], Said]] = {
    "always neutral": neutral,
    "the scheme's majority": majority,
    "torchao's side < 1,024": long_sides,
    "roofline alone": roofline_alone,
}


def _by_roofline(seen: pd.DataFrame, rows: pd.DataFrame) -> Array:
    """Log speedups: activations are read and written in 16 bits, weights in the scheme's."""
    shapes, times = shapes_of(seen), seen["baseline_ms"].to_numpy()
    per_byte = float(np.min(times / _bytes(shapes, np.full(len(shapes), 16.0))))
    per_operation = float(np.min(times / shapes.prod(axis=1)))
    asked = shapes_of(rows)
    bits, rate = np.array([roofline(str(quant)) for quant in rows["quant"]]).T

    def time(weight_bits: Array, times_faster: Array) -> Array:
        moved, computed = (
            _bytes(asked, weight_bits) * per_byte,
            asked.prod(axis=1) * per_operation / times_faster,
        )
        return np.asarray(np.maximum(moved, computed))

    return np.asarray(np.log(time(np.full(len(asked), 16.0), np.ones(len(asked))) / time(bits, rate)))


def _bytes(shapes: Array, weight_bits: Array) -> Array:
    m, k, n = shapes.T
    return np.asarray(2 * m * k + 2 * m * n + k * n * weight_bits / 8)
