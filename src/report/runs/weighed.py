"""The report's section on layers=sensitive: quality over speedup, and which layers to leave alone next."""

from collections.abc import Iterable, Sequence
from html import escape
from math import isnan

from src.analysis.verdicts import treatment_text, workload_text
from src.analysis.weighed import Point, Weighed, kinds_text
from src.report.graphics.described import Figure
from src.report.graphics.palette import look
from src.report.runs.figures import speedup_axis
from src.report.runs.sections import panel, section

_INK, _SOFT = "#30343A", "#8A8F98"
_WIDTH, _HEIGHT = 640, 380  # px
_MOST_LABELS = 12  # of points of a curve
_WIDEST = 34  # characters of a label
_NOTE = (
    "The line is predicted: it begins where every layer is quantized, and at each point one more kind of layers "
    "is left unquantized, the one first that costs the most quality per millisecond. Noise powers were measured kind "
    "by kind and are added up. The ring is what was applied, as predicted; filled marks were measured, with "
    "intervals. The dotted line is the target."
)


def weighed_section(found: Sequence[Weighed]) -> str:
    """A figure per run; nothing where there are none."""
    return section("Layers by their worth", _NOTE, "".join(_one(each) for each in found)) if found else ""


def _one(found: Weighed) -> str:
    row = found.row
    left = f"left alone: {kinds_text(found.left)}" if found.left else "nothing needs to be left alone"
    beside = f"{row['device']}, {treatment_text(row)}; target {found.min_sqnr_db:g} dB: {left}"
    return panel(workload_text(row), beside, weighed_figure(found), width=_WIDTH)


def weighed_figure(found: Weighed) -> Figure:
    """From left to right the speedup, from bottom to top the SQNR in dB."""
    figure = Figure(_HEIGHT)
    points = found.points
    figure.add_scatter(
        x=[each.speedup for each in points], y=[each.sqnr_db for each in points], mode="lines+markers+text",
        line={"color": _SOFT, "width": 1.5}, marker={"color": _SOFT, "size": 5},
        text=_labels(points), textposition="middle right",
        customdata=[f"without {escape(each.left)}" if each.left else "every layer" for each in points],
        hovertemplate="%{customdata}: %{y:.1f} dB, predicted %{x:.3f}×",
    )  # fmt: skip
    if found.chosen:
        figure.add_scatter(
            x=[found.chosen.speedup], y=[found.chosen.sqnr_db], mode="markers",
            marker={"color": _INK, "symbol": "circle-open", "size": 13, "line": {"width": 2}},
            hovertemplate="applied, as predicted: %{y:.1f} dB, %{x:.3f}×",
        )  # fmt: skip
    _add_measured(figure, found)
    figure.add_hline(found.min_sqnr_db, line={"color": _INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(**speedup_axis(_span(found)), title="speedup over the baseline")
    figure.update_yaxes(title="SQNR of the output, dB")
    return figure


def _add_measured(figure: Figure, found: Weighed) -> None:
    for preset, row in found.measured.items():
        if isnan(row["quality/sqnr_db"]):
            continue
        style = look(row["verdict"])
        figure.add_scatter(
            x=[row["speedup/ratio"]], y=[row["quality/sqnr_db"]], mode="markers+text",
            text=[f"<b>{escape(preset)}</b>"], textposition="top center",
            marker={"color": style.ink, "symbol": style.symbol, "size": 10},
            error_x={"low": [row["speedup/ci_low"]], "high": [row["speedup/ci_high"]], "color": style.ink},
            hovertemplate=f"layers={escape(preset)}, measured: %{{y:.1f}} dB, %{{x:.3f}}×",
        )  # fmt: skip


def _labels(points: Iterable[Point]) -> list[str]:
    """A curve of many points has labels at its first ones: those that matter most."""
    texts = [f"− {_short(each.left)}" if each.left else "every layer" for each in points]
    return [escape(text) if n < _MOST_LABELS else "" for n, text in enumerate(texts)]


def _short(kind: str) -> str:
    """The end of a long name, which tells it from others."""
    return kind if len(kind) <= _WIDEST else f"…{kind[1 - _WIDEST :]}"


def _span(found: Weighed) -> tuple[float, float]:
    ends = [each.speedup for each in found.points]
    ends += [row[f"speedup/{end}"] for row in found.measured.values() for end in ("ci_low", "ci_high")]
    air = (max(ends) / min(ends)) ** 0.06
    return min(ends) / air, max(ends) * air**4  # labels stand on the right
