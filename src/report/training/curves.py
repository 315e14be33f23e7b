"""Loss curves of trainings as figures: the losses, and beside them how far each recipe's is from the unquantized."""

from html import escape

from src.analysis.trainings import Curves
from src.report.graphics.described import Figure
from src.report.graphics.markup import legend
from src.report.graphics.palette import Line, scheme_lines
from src.report.runs.sections import grid, panel
from src.statistics.curves import Points, beside, few_points

_INK, _HEIGHT = "#30343a", 260
_WIDTH = 420  # px
_LOG_FROM = 5.0  # the highest loss over the lowest: from here on their axis is logarithmic
_END = 9  # px, of the mark where a curve ends


def curves_html(found: Curves) -> str:
    """A legend and two figures of trainings of one seed and data; the second where one of them is unquantized."""
    lines = _lines(found)
    told = f"{found.told}{_of_means(found)}"
    panels = [panel("Loss", told, _losses(found, lines), width=_WIDTH)]
    if any(curve.baseline for curve in found.by_recipe.values()):
        panels.append(panel(f"Distance from {found.name}", "", _distances(found, lines), width=_WIDTH))
    return legend(lines, lines) + grid(panels, "broad")


def _lines(found: Curves) -> dict[str, Line]:
    first = {found.name: Line(_INK, "circle", "solid")} if found.unquantized else {}
    return first | scheme_lines(found.by_recipe)


def _of_means(found: Curves) -> str:
    longest = max([found.unquantized, *(curve.losses for curve in found.by_recipe.values())], key=len)
    width = few_points(longest).width
    return f"; each point the mean of {width} steps" if width > 1 else ""


def _losses(found: Curves, lines: dict[str, Line]) -> Figure:
    figure = Figure(_HEIGHT)
    every = {found.name: found.unquantized} if found.unquantized else {}
    every |= {name: curve.losses for name, curve in found.by_recipe.items()}
    for name, losses in every.items():
        drawn = few_points(losses)
        said = f"{name}: {drawn.values[0]:.3g} at first, {drawn.values[-1]:.3g} after {len(losses)} steps"
        _add(figure, name, drawn, lines[name], said)
    values = [loss for losses in every.values() for loss in losses]
    log = min(values) > 0 and max(values) > _LOG_FROM * min(values)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss", type="log" if log else "linear")
    return figure


def _distances(found: Curves, lines: dict[str, Line]) -> Figure:
    """How much higher each loss is than the unquantized one of its step, in %."""
    figure = Figure(_HEIGHT)
    figure.add_hline(0, line={"color": _INK, "width": 1})
    for name, curve in found.by_recipe.items():
        drawn = beside(curve.baseline, curve.losses)
        if drawn.values:
            said = f"{name}: {drawn.values[-1]:+.2g} % at the end; over all steps {curve.apart} apart"
            _add(figure, name, drawn, lines[name], said)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss beside unquantized", ticksuffix=" %")
    return figure


def _add(figure: Figure, name: str, drawn: Points, line: Line, said: str) -> None:
    """A curve, and a mark at its end, which says what it comes to."""
    figure.add_scatter(
        x=drawn.steps, y=drawn.values, mode="lines", name=escape(name),
        line={"color": line.colour, "dash": line.dash, "width": 2},
    )  # fmt: skip
    figure.add_scatter(
        x=drawn.steps[-1:], y=drawn.values[-1:], mode="markers", name=escape(name),
        marker={"color": line.colour, "symbol": line.symbol, "size": _END},
        customdata=[escape(said)],
    )  # fmt: skip
