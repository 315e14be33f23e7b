"""Steps of training predicted by costs of the same form as for inference: whether that holds, where they will pay.

A step of one Linear is three matmuls over the same M, K and N: what is read, written and multiplied grows as in one,
only with constants of its own. So the same form is fitted to whole steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd

from src.analysis.runs.frame import trained
from src.forecasts.evidence.cells import PLACE, SHAPE, evenly, own_cells
from src.forecasts.forecast import UNKNOWN, Forecaster, Place
from src.regimes.trials import FITTED, Trial, trials

FEWEST = 8  # shapes of a recipe in one place, of which each can be left out
_MOST_CELLS, _FOLDS = 300, 8
_LEFT_OUT = ("one shape", "one (K, N)")
_RIVAL = "the scheme's majority"
_ROWS = [2**i for i in range(4, 18)]  # M that are asked


@dataclass(frozen=True)
class Pays:
    """Where steps of one Linear will pay."""

    recipe: str
    place: Place
    k: int
    n: int
    says: str  # ``M = 512 and more``, or why not


@dataclass(frozen=True)
class Predicted:
    """What is known of steps that were not measured."""

    shapes: int  # the most of a recipe in one place
    trials: list[Trial] = field(default_factory=list)  # none: too few shapes
    pays: list[Pays] = field(default_factory=list)


def predicted_steps(runs: pd.DataFrame, margin: float) -> Predicted | None:
    """The test of the forecasts, and these; None where no step of a Linear was compared.

    Args:
        runs: of all kinds.
        margin: a speedup within it is neutral.
    """
    steps = trained(runs)
    cells = own_cells(runs, steps[steps["M"].notna()])
    if cells.empty:
        return None
    counts = cells.groupby([*PLACE, "quant"])["M"].transform("size")
    enough = evenly(cells[counts >= FEWEST].reset_index(drop=True), _MOST_CELLS)
    if enough.empty:
        return Predicted(int(counts.max()))
    tested = trials(enough, margin, _FOLDS, _LEFT_OUT)
    kept = [each for each in tested if each.way in (FITTED, _RIVAL)]
    return Predicted(int(counts.max()), kept, [*_pays(enough, Forecaster(enough, margin))])


def _pays(cells: pd.DataFrame, forecaster: Forecaster) -> Iterator[Pays]:
    """Of each recipe and K x N that was measured, from which M on."""
    sides = cells[[*PLACE, "quant", *SHAPE[1:]]].drop_duplicates()
    for *place, quant, k, n in sides.itertuples(index=False):
        where = Place(*place)
        said = forecaster([where.query((m, int(k), int(n)), quant) for m in _ROWS])["verdict"].tolist()
        yield Pays(quant, where, int(k), int(n), _from(said))


def _from(verdicts: list[str]) -> str:
    """From which M on all that is predicted helps."""
    known = [(m, verdict) for m, verdict in zip(_ROWS, verdicts, strict=True) if verdict != UNKNOWN]
    if not known:
        return UNKNOWN
    first = len(known)
    while first and known[first - 1][1] == "helps":
        first -= 1
    last = known[-1][0]
    if first == len(known):
        return f"at no M up to {last:,}"
    upto = "and more" if last == _ROWS[-1] else f"to {last:,}, beyond {UNKNOWN}"
    return f"M = {known[first][0]:,} {upto}"
