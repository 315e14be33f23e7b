"""What physics says matters for a Linear's speedup, as numbers that a rule can be read from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from src.forecasts.costs import Array
from src.forecasts.unquantized import Unquantized


@dataclass(frozen=True)
class Feature:
    """One of them: what it is called in a sentence, how it is computed from shapes, how its values are written."""

    name: str
    values: Callable[[Array, Unquantized], Array]
    text: Callable[[float], str]


def whole(value: float) -> str:
    """``3,072``."""
    return f"{value:,.0f}"


def millions(value: float) -> str:
    """``14.2 M``."""
    return f"{value / 1e6:.3g} M"


FEATURES = (
    Feature("M", lambda s, _: s[:, 0], whole),
    Feature("K", lambda s, _: s[:, 1], whole),
    Feature("N", lambda s, _: s[:, 2], whole),
    Feature("K×N", lambda s, _: s[:, 1] * s[:, 2], millions),
    Feature("min(K, N)", lambda s, _: np.minimum(s[:, 1], s[:, 2]), whole),
    Feature("multiply-adds", lambda s, _: s.prod(axis=1), lambda v: f"{v / 1e9:.3g} G"),
    Feature("intensity over the ridge", lambda s, c: _intensity(s) / c.ridge, lambda v: f"{v:.2g}"),
    Feature("weights' share of the time", lambda s, c: c.weight_share(s), lambda v: f"{v:.0%}"),
)


PLAIN = 5  # the first of them: what a reader can tell of a layer at a glance


def _intensity(shapes: Array) -> Array:
    """Multiply-adds per element that is moved; of few rows it is M."""
    m, k, n = shapes.T
    return np.asarray(m * k * n / (m * k + k * n + m * n))


def table(shapes: Array, baseline: Unquantized) -> Array:
    """(shapes, features)."""
    return np.column_stack([feature.values(shapes, baseline) for feature in FEATURES])
