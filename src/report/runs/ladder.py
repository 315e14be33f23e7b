"""Ladders in the report and on the terminal: a figure of steps, each from where the one before ended."""

import re
from collections.abc import Iterator
from html import escape
from textwrap import shorten, wrap

import pandas as pd

from src.analysis.ladder import NONE, Estimate, Ladder, Step, ladders, others
from src.analysis.verdicts import decibels, milliseconds, treatment_text, workload_text
from src.report.graphics.described import Figure
from src.report.graphics.markup import Cell, chip, number_cell, table, text_cell
from src.report.graphics.palette import Look, look
from src.report.runs.figures import speedup_axis
from src.report.runs.sections import panel, section

_INK, _SOFT = "#30343A", "#8A8F98"
_ALL = Look(_INK, "#D3D6DB", "", "circle")  # of what all steps give together
_WIDTH, _ROW, _THICK = 620, 48, 13  # px
_PHONE, _PHONE_ROW = 360, 66  # px: a phone's width, with each label above its bar
_WIDEST = 38  # characters beside a step
_EAGER, _TOGETHER = "eager", "together"  # the rows around the steps
_NAMED = ("quant", "compile")  # keys of a treatment whose values name what they add
_OF_ONE = r"(?:recipe\.\w+[ =:]|quant: )[^;]*"  # as `recipe_check` says of each why
_LEFT_OUT = re.compile(rf"(?:^|; )left out in both arms: ({_OF_ONE}(?:; {_OF_ONE})*)")  # in a reason
_KEY = re.compile(r"^recipe\.\w+: ")  # a reason begins with the key of what it is about
_NOTE = (
    "One thing is added after the other. Each step is measured against the one before it. "
    "Its bar begins where the step before ended, on a scale of how many times as fast as at the start. The thin "
    "line is its own interval. The last row is what the steps give together, their product; its interval "
    "holds the errors of all. What device or model cannot have (unsupported) has no bar, and the later steps do "
    "without it. Where a step ended otherwise without a speedup, was disturbed or was not run, the later ones have "
    "it in both arms: from there on each says what it gives itself, and nothing what all give together."
)


def ladder_section(rows: pd.DataFrame, margin: float) -> str:
    """All ladders, each with its figure and its table, then the runs with another treatment that are on none."""
    found, alone = ladders(rows), others(rows)
    parts = [_ladder(each, margin) for each in found]
    if len(alone):
        parts.append(f"<h3>Other treatments than quantizing</h3>{_others(alone)}")
    return section("Step by step", _NOTE if found else "", "".join(parts)) if parts else ""


def ladder_in_words(rows: pd.DataFrame) -> Iterator[str]:
    """A few lines on the terminal for each ladder."""
    for ladder in ladders(rows):
        of = f", {ladder.quant} ({ladder.variant})," if ladder.variant else ""
        yield f"ladder of {workload_text(ladder.first)}{of} on {ladder.first['device']}:"
        for step in ladder.steps:
            told = _interval(step.own) if step.own else step.reason
            so_far = f"; {_so_far(step)}" if step.own else ""
            yield f"  {step.name}: {step.verdict} {told}{so_far}"


def _ladder(ladder: Ladder, margin: float) -> str:
    done = [name for name in (ladder.quant, ladder.compile) if name != NONE]
    beside = ", ".join([*done, *filter(None, [ladder.variant]), str(ladder.first["device"])])
    title, names = workload_text(ladder.first), ("desk", "phone")
    figures = [
        panel(title, beside, ladder_figure(ladder, margin, phone=phone), width=_PHONE if phone else _WIDTH)
        for phone in (False, True)
    ]
    drawn = [f'<div class="{name}">{each}</div>' for name, each in zip(names, figures, strict=True)]
    return "".join(drawn) + _table(ladder) + _left_out(ladder)


def _together(ladder: Ladder) -> Step | None:
    """What the steps give together, up to the last one that this is known of, as a row of the figure."""
    if (reached := ladder.reached) is None:
        return None
    name = _TOGETHER if ladder.total else f"{_TOGETHER} up to {reached.name}"
    return Step(name, ladder.first, reached.total, reached.total)


def _so_far(step: Step) -> str:
    if step.total:
        return f"together {step.total.ratio:.2f}× ({step.total.low:.2f}–{step.total.high:.2f})"
    return f"no total, as {step.missing} is in both arms and what it gives is not known"


def ladder_figure(ladder: Ladder, margin: float, *, phone: bool = False) -> Figure:
    """From top to bottom a row per step; from left to right how many times as fast as at the start.

    Args:
        ladder: its steps.
        margin: a speedup within it is neutral.
        phone: narrow, with each label above its bar.
    """
    labels = {_EAGER: _start(ladder)}
    labels |= {step.name: _label(step, _added(step, ladder)) for step in ladder.steps}
    if together := _together(ladder):
        labels[_TOGETHER] = _label(together)
    figure = Figure(70 + (_PHONE_ROW if phone else _ROW) * len(labels))
    span = _span(ladder, margin)
    before, place = Estimate(), labels[_EAGER]
    figure.add_scatter(
        x=[1.0], y=[place], mode="markers", marker={"color": _INK, "symbol": "circle", "size": 9}
    )
    for step in ladder.steps:
        here = labels[step.name]
        figure.add_scatter(
            x=[before.ratio] * 2, y=[place, here], mode="lines", line={"color": _SOFT, "width": 1, "dash": "dot"},
        )  # fmt: skip
        _add_step(figure, step, before.ratio, here)
        before, place = step.total or before, here
    if together:
        _add_step(figure, together, 1.0, labels[_TOGETHER], _ALL)
    figure.update_yaxes(
        categoryarray=[*labels.values()][::-1],
        showgrid=False,
        ticklabelposition="inside top" if phone else "outside",
    )
    figure.update_xaxes(**speedup_axis(span), title="times as fast as at the start")
    return figure


def _add_step(figure: Figure, step: Step, begins: float, place: str, style: Look | None = None) -> None:
    style = style or look(step.verdict)
    if step.own is None or step.total is None:
        said = f"{_interval(step.own)} against the step before; {_so_far(step)}" if step.own else step.reason
        figure.add_scatter(
            x=[begins], y=[place], mode="markers",
            marker={"color": style.ink, "symbol": style.symbol, "size": 8},
            customdata=[f"{escape(step.name)}: {escape(said)}"],
        )  # fmt: skip
        return
    figure.add_scatter(
        x=[begins, step.total.ratio], y=[place] * 2, mode="lines",
        line={"color": style.tint, "width": _THICK},
    )  # fmt: skip
    figure.add_scatter(
        x=[step.total.ratio], y=[place], mode="markers",
        marker={"color": style.ink, "symbol": style.symbol, "size": 9},
        error_x={"low": [begins * step.own.low], "high": [begins * step.own.high], "color": style.ink},
        customdata=[f"{escape(step.name)}: {_interval(step.own)} against the step before, {_interval(step.total)} "
                    "against the start"],
    )  # fmt: skip


def _span(ladder: Ladder, margin: float) -> tuple[float, float]:
    ends = [1 / (1 + 2 * margin), 1 + 2 * margin]
    if (reached := ladder.reached) and reached.total:
        ends += [reached.total.low, reached.total.high]
    begins = 1.0
    for step in ladder.steps:
        if step.own and step.total:
            ends += [begins * step.own.low, begins * step.own.high]
            begins = step.total.ratio
    air = (max(ends) / min(ends)) ** 0.06
    return min(ends) / air, max(ends) * air


def _start(ladder: Ladder) -> str:
    ms = milliseconds(ladder.eager_ms)
    return f"as it is, eager<br>{ms} ms per call" if ms else "as it is, eager"


def _added(step: Step, ladder: Ladder) -> str:
    """What a step adds, where its name is not enough: the scheme, the compile mode."""
    adds = [] if step.row is None else re.findall(r"[\w.]+", str(step.row["treatment"]))
    return ", ".join({"quant": ladder.quant, "compile": ladder.compile}[key] for key in adds if key in _NAMED)


def _label(step: Step, added: str = "") -> str:
    name = f"{escape(step.name)} ({escape(added)})" if added else escape(step.name)
    if step.own:
        return f"{name}  <b>{step.own.ratio:.2f}×</b><br>{step.own.low:.3f}–{step.own.high:.3f}"
    why = _KEY.sub(
        "", _LEFT_OUT.sub("", step.reason).partition(" → ")[0].split("; ")[-1]
    )  # behind what else its run says
    lines = shorten(why, 2 * _WIDEST, placeholder=" …")
    return "<br>".join([f"{name}: {escape(step.verdict)}", *map(escape, wrap(lines, _WIDEST + 6))])


def _table(ladder: Ladder) -> str:
    heads = [
        "Step",
        "Adds",
        "Verdict",
        "Against the step before",
        "Together",
        "ms per call",
        "SQNR dB",
        "Why",
    ]
    return table(heads, [_cells(step) for step in ladder.steps])


def _cells(step: Step) -> list[Cell]:
    row, times, adds, sqnr = step.row, ["", ""], "", ""
    total = step.total if step.own else None
    if row is not None:
        times = [milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", "")]
        adds = str(row["treatment"]).strip('[]"')
        sqnr = decibels(row["quality/sqnr_db"]) if row["quant"] != "none" else ""
    return [
        text_cell(step.name),
        text_cell(adds),
        Cell(chip(step.verdict), step.verdict),
        number_cell(_interval(step.own) if step.own else "", step.own.ratio if step.own else None),
        number_cell(_interval(total) if total else "", total.ratio if total else None),
        number_cell(" → ".join(times) if all(times) else "", None),
        number_cell(sqnr, None),
        _why(_LEFT_OUT.sub("", step.reason).removeprefix("; ")),
    ]


def _left_out(ladder: Ladder) -> str:
    """What some of the steps lack in both arms, once for all."""
    found = dict.fromkeys(told for step in ladder.steps for told in _LEFT_OUT.findall(step.reason))
    told = escape("; ".join(found))
    return f'<p class="note">Left out in both arms of later steps: {told}.</p>' if found else ""


def _why(reason: str) -> Cell:
    return Cell(f'<span class="why">{escape(reason)}</span>' if reason else "", reason)


def _others(rows: pd.DataFrame) -> str:
    heads = ["Run", "Treatment", "Verdict", "Speedup", "Why"]
    several = rows["device"].nunique() > 1
    of = {name: f", {name}" if several else "" for name in rows["device"]}
    cells = []
    for row in rows.to_dict("records"):
        ran = bool(row["verdict"])
        own = Estimate(*(row[f"speedup/{part}"] for part in ("ratio", "ci_low", "ci_high"))) if ran else None
        name = f"{workload_text(row)}, {treatment_text(row)}{of[row['device']]}"
        status = str(row["verdict"] or row["outcome"])
        cells.append(
            [
                text_cell(name),
                text_cell(str(row["treatment"])),
                Cell(chip(status), status),
                number_cell(_interval(own) if own else "", own.ratio if own else None),
                _why(str(row["reason"] or "")),
            ]
        )
    return table(heads, cells)


def _interval(found: Estimate) -> str:
    return f"{found.ratio:.3f}× ({found.low:.3f}–{found.high:.3f})"
