"""The plots of a calibration's report, in the style of the analysis' report, for light and dark pages."""

import math
from collections.abc import Sequence

import numpy as np

from src.calibration.experiments.plan import Experiment, Kind
from src.calibration.intervals import Mean, percent
from src.calibration.summary import MOST_BIAS
from src.report.graphics.described import Figure
from src.report.graphics.palette import VERDICTS, translucent

_TRUTH, _BASELINE, _TREATED = "#1E88C9", "#7A7F87", "#D55E00"
_BAND = "rgba(122,127,135,0.16)"
_LANE_GAP = 0.15  # of a lane's width


def estimates(pairs: Sequence[Experiment], margin: float) -> Figure:
    """Every estimate with its interval, a lane per slowdown, sorted; the truth of each as a dash."""
    figure = Figure(520)
    figure.add_shape(None, (1 / (1 + margin), 1 + margin), fillcolor=_BAND)
    lanes = sorted({each.slowdown for each in pairs})
    for lane, slowdown in enumerate(lanes):
        members = sorted((e for e in pairs if e.slowdown == slowdown), key=lambda e: e.speedup or 0)
        places = [lane + (1 - _LANE_GAP) * ((i + 0.5) / len(members) - 0.5) for i in range(len(members))]
        _add_truth(figure, places, members)
        for verdict in VERDICTS:
            chosen = [(x, e) for x, e in zip(places, members, strict=True) if e.verdict == verdict]
            _add_estimates(figure, verdict, chosen)
    figure.update_xaxes(
        tickvals=list(range(len(lanes))), showgrid=False, range=[-0.5, len(lanes) - 0.5],
        ticktext=[f"delay of {percent(lane)}" if lane else "equal copies" for lane in lanes],
    )  # fmt: skip
    figure.update_yaxes(
        title="speedup: estimate and interval", tickformat=".2f", ticksuffix="×", range=_range(pairs, margin)
    )
    return figure


def rounds(baseline_ms: Sequence[float], treated_ms: Sequence[float], delays_ms: Sequence[float]) -> Figure:
    """Both arms of one comparison, round by round; the treated arm also without its delay."""
    figure = Figure(320, legend=True)
    steps = list(range(1, len(baseline_ms) + 1))
    arms = [("baseline", baseline_ms, _BASELINE, "circle"), ("treated", treated_ms, _TREATED, "triangle-up")]
    if delays_ms:
        undelayed = [ms - delay for ms, delay in zip(treated_ms, delays_ms, strict=True)]
        arms.append(("treated, less its delay", undelayed, _TRUTH, "line-ew-open"))
    for name, times, colour, symbol in arms:
        figure.add_scatter(
            x=steps, y=list(times), name=name, mode="lines+markers",
            line={"color": translucent(colour, 0.35), "width": 1},
            marker={"color": colour, "symbol": symbol, "size": 6},
            hovertemplate=f"{name}<br>pair %{{x}}<br>%{{y:.4g}} ms per call",
        )  # fmt: skip
    figure.update_xaxes(title="pair of rounds, in the order measured")
    figure.update_yaxes(title="ms per call")
    return figure


def effects(rows: Sequence[tuple[str, Mean]]) -> Figure:
    """Relative differences that no treatment makes: mean and interval, and each process as a small mark."""
    figure = Figure(90 + 46 * len(rows))
    labels = [name for name, _ in rows]
    for name, mean in rows:
        figure.add_scatter(
            x=[100 * value for value in mean.values], y=[name] * len(mean.values), mode="markers",
            marker={"color": translucent(_BASELINE, 0.75), "symbol": "line-ns-open", "size": 9},
            hovertemplate="one process: %{x:+.2f} %",
        )  # fmt: skip
    means = [mean for _, mean in rows]
    figure.add_scatter(
        x=[100 * mean.value for mean in means], y=labels, mode="markers",
        marker={"color": _TRUTH, "size": 9},
        error_x={"low": [100 * mean.low for mean in means], "high": [100 * mean.high for mean in means],
                 "color": _TRUTH, "thickness": 2},
        hovertemplate="%{y}: %{x:+.2f} %",
    )  # fmt: skip
    most = max([1.5 * MOST_BIAS, *(abs(x) for m in means for x in (m.low, m.high, *m.values))])
    reach = 100 * min(most, 20 * MOST_BIAS) * 1.08
    figure.add_shape((-100 * MOST_BIAS, 100 * MOST_BIAS), None, fillcolor=_BAND)
    figure.add_vline(0, line={"color": _BASELINE, "width": 1})
    figure.update_xaxes(range=[-reach, reach], ticksuffix=" %", title="difference")
    figure.update_yaxes(categoryarray=labels[::-1], showgrid=False)
    return figure


def _range(pairs: Sequence[Experiment], margin: float) -> list[float]:
    """Of speedups: all truths, the margin, and the intervals but for the widest few, which would flatten the rest."""
    ends = np.percentile([end for each in pairs for end in (each.ci_low or 1, each.ci_high or 1)], [2, 98])
    kept = [*ends, *(each.truth or 1 for each in pairs), 1 / (1 + margin), 1 + margin]
    low, high = float(min(kept)), float(max(kept))
    return [low - 0.05 * (high - low), high + 0.05 * (high - low)]


def _add_truth(figure: Figure, places: Sequence[float], members: Sequence[Experiment]) -> None:
    half = (1 - _LANE_GAP) / len(members) / 2
    x = [value for place in places for value in (place - half, place + half, None)]
    y = [value for each in members for value in (each.truth, each.truth, None)]
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": _TRUTH, "width": 2})


def _add_estimates(figure: Figure, verdict: str, chosen: Sequence[tuple[float, Experiment]]) -> None:
    style, found = VERDICTS[verdict], [each for _, each in chosen]
    figure.add_scatter(
        x=[place for place, _ in chosen], y=[each.speedup for each in found], mode="markers",
        marker={"color": style.ink, "symbol": style.symbol, "size": 5},
        error_y={"low": [each.ci_low or 0 for each in found], "high": [each.ci_high or 0 for each in found],
                 "color": translucent(style.ink, 0.5), "thickness": 1.2},
        customdata=[_hover(each) for each in found],
    )  # fmt: skip


def _hover(each: Experiment) -> str:
    what = "equal copies" if each.kind is Kind.AA else f"delay of {percent(each.slowdown)}"
    truth = math.nan if each.truth is None else each.truth
    lines = [
        f"<b>{what}</b>: {each.verdict}",
        f"{each.speedup:.4f}× ({each.ci_low:.4f} to {each.ci_high:.4f}), truth {truth:.4f}×",
        f"process {each.process}, baseline built {'second' if each.swapped else 'first'}",
        f"{each.pairs} pairs in {each.seconds:.1f} s, ended by {each.stop_reason}",
    ]
    return "<br>".join(lines)
