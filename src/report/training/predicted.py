"""Of the section on training, the part on shapes not measured: what is predicted, and how that was tested."""

from html import escape

import pandas as pd

from src.regimes.training import FEWEST, Pays, Predicted, predicted_steps
from src.regimes.trials import FAR, Trial
from src.report.graphics.markup import Cell, number_cell, table, text_cell

_TESTED = ["Left out", "Predicted by", "Steps", f"Right of those > {FAR:.0%} from 1", "Wrong", "Median error",
           "Interval holds"]  # fmt: skip
_PAYS = ["Device", "Compile", "Dtype", "Recipe", "K×N", "Predicted to pay from"]
_MOST_ROWS = 100
_NOTE = (
    "Costs of the same form as for inference, fitted to whole steps. Test: a shape, or a K×N, was left out of every "
    "fit, predicted, and compared with what was measured. Powers of two of M were asked."
)


def predicted_html(runs: pd.DataFrame, margin: float) -> str:
    """A test and a table, or why there is none; nothing where no step of a Linear was compared.

    Args:
        runs: standing rows of trainings.
        margin: a speedup within it is neutral, relative.
    """
    found = predicted_steps(runs, margin)
    if found is None:
        return ""
    if not found.trials:
        return f'<p class="note">{escape(_too_few(found))}</p>'
    tested = table(_TESTED, [_trial(each) for each in found.trials])
    rows = [
        [text_cell(text) for text in (*_place(each), each.recipe, f"{each.k}×{each.n}", each.says)]
        for each in found.pays[:_MOST_ROWS]
    ]
    return f'<h3>Predicted</h3><p class="note">{escape(_NOTE)}</p>{tested}{table(_PAYS, rows)}'


def _too_few(found: Predicted) -> str:
    return (
        f"Nothing is predicted of steps of other shapes: that needs {FEWEST} shapes of a recipe on one device, so "
        f"that it can be tested; there are {found.shapes} at most."
    )


def _place(each: Pays) -> tuple[str, str, str]:
    return each.place.device, each.place.compile, each.place.dtype


def _trial(each: Trial) -> list[Cell]:
    shares = (each.right, each.wrong, each.error, each.covered)
    return [
        *map(text_cell, (each.left_out, each.way)),
        number_cell(f"{each.cells} ({each.far})", each.cells),
        *(number_cell(f"{value:.0%}" if pd.notna(value) else "", value) for value in shares),
    ]
