"""Where a training recipe pays, by shape: steps of one Linear, whose three matmuls a recipe computes its own way."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from src.analysis.runs.frame import PLACE, newest_of_shapes, trained
from src.analysis.runs.tracked.source import SHAPE
from src.analysis.verdicts import statuses, treatment_text
from src.records.record import EMULATED
from src.statistics.speedup import Verdict

_FLOP = 2  # multiply and add
_GIGA = 1e9


@dataclass(frozen=True)
class Regime:
    """What was measured of one recipe in one place."""

    recipe: str
    device: str
    counts: dict[str, int]  # shapes by verdict, or by outcome where there is none
    pays_from_gflop: float | None  # per matmul; None: there is no such size

    @property
    def text(self) -> str:
        """In one sentence."""
        shapes = sum(self.counts.values())
        several = f"{shapes} shape{'s' * (shapes > 1)}"
        if set(self.counts) == {EMULATED}:
            return f"{self.recipe} on {self.device}: {several}, emulated: no speed."
        told = ", ".join(f"{name} at {count}" for name, count in self.counts.items())
        found = f"{self.recipe} on {self.device}: of {several} {told}"
        if self.pays_from_gflop is None:
            return f"{found}."
        size = f"{self.pays_from_gflop:.3g} GFLOP per matmul on"
        return f"{found}; all that was measured undisturbed from {size} pays."


def training_shapes(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of the steps of one Linear by a recipe."""
    found = trained(runs)
    return found[found["M"].notna() & (found["quant"] != "none")].reset_index(drop=True)


def regimes(shapes: pd.DataFrame) -> Iterator[Regime]:
    """Of each recipe, device, dtype and compile mode among runs of `training_shapes`."""
    for _, rows in newest_of_shapes(shapes).groupby(PLACE, dropna=False, sort=True):
        said = statuses(rows)
        counts = {str(name): int(count) for name, count in said.value_counts().items()}
        first = rows.iloc[0]
        recipe = f"{treatment_text(first)}, {first['dtype']}"
        yield Regime(recipe, str(first["device"]), counts, _pays_from(rows))


def _pays_from(rows: pd.DataFrame) -> float | None:
    """GFLOP of the smallest shape from which on all helped that have a finding; a verdict withheld counts as none."""
    found = rows[rows["finding"] & ~rows["withheld"]]
    helps = found["verdict"] == Verdict.HELPS
    flop = _FLOP * found[[*SHAPE]].astype(float).prod(axis=1)
    paying = flop[helps & ~(flop <= flop[~helps].max())]  # where all helped, there is no maximum to be above
    return float(paying.min()) / _GIGA if len(paying) else None
