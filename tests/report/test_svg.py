"""Figures drawn as SVG: what is described is there, where it belongs, and in words."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from src.app.listing import scheme_names
from src.report.graphics.described import Figure
from src.report.graphics.palette import VERDICTS, scheme_lines
from src.report.graphics.svg import drawing
from src.report.runs.filters import Filters
from src.report.runs.sections import curves_section, heatmap_section
from tests.analysis.synthetic import made


def drawn(figure, **more):
    """The parsed drawing: it is well-formed."""
    return ElementTree.fromstring(drawing(figure, **more))


def places(svg, tag="circle"):
    return [(float(each.get("cx")), float(each.get("cy"))) for each in svg.iter(tag)]


def test_marks_lie_where_their_values_are_on_linear_and_log_axes():
    figure = Figure(200)
    figure.add_scatter(x=[1, 10, 100], y=[0, 5, 10], mode="markers", marker={"size": 6})
    figure.update_xaxes(type="log", range=[0, 2])
    figure.update_yaxes(range=[0, 10])
    (x0, y0), (x1, y1), (x2, y2) = places(drawn(figure))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert x0 < x1
    assert y0 > y1


def test_an_interval_is_cut_off_where_the_axis_ends_and_reaches_zero_on_a_log_axis():
    figure = Figure(100)
    figure.add_scatter(x=[1.0], y=["a"], mode="markers", marker={"size": 6},
                       error_x={"low": [0.0], "high": [10.0]})  # fmt: skip
    figure.update_xaxes(type="log", range=[-1, 0.5], tickvals=[0.1, 1], ticktext=["0.1×", "1×"])
    svg = drawn(figure)
    (line,) = [
        each.get("d") for each in svg.iter("path") if each.get("stroke") and each.get("d").startswith("M")
    ]
    left, right = (float(part.split()[0]) for part in re.split("[ML]", line)[1:])
    clip = next(svg.iter("rect"))
    assert left == pytest.approx(float(clip.get("x")), abs=0.1)
    assert right == pytest.approx(float(clip.get("x")) + float(clip.get("width")), abs=0.1)


def test_each_mark_says_what_it_is_and_the_figure_says_the_first_of_them():
    figure = Figure(100)
    figure.add_scatter(x=[1.5] * 20, y=[2.0] * 20, mode="markers", customdata=["<b>a &lt;b&gt;</b><br>c"] * 20,
                       hovertemplate="%{customdata}: %{x:.2f} %")  # fmt: skip
    svg = drawn(figure, caption="Some &amp; all")
    assert [each.text for each in svg.iter("title")] == ["a <b>\nc: 1.50 %"] * 20
    assert svg.get("aria-label") == "Some & all"
    assert next(svg.iter("desc")).text.endswith("a <b>, c: 1.50 %; 8 more")


def test_labels_of_marks_do_not_cover_each_other():
    figure = Figure(200)
    figure.add_scatter(x=[1, 1.001, 1.002, 5], y=[1, 1, 1, 1], mode="markers+text", text=["aaaaaaaa"] * 4)
    labels = [each for each in drawn(figure).iter("text") if each.get("class") == "label"]
    assert len({(each.get("x"), each.get("y")) for each in labels}) == len(labels) < 5


def test_a_label_with_a_place_stands_there_or_nowhere():
    figure = Figure(200)
    figure.add_scatter(x=[1, 5], y=[1, 5], mode="markers+text", text=["aaaa", ""], textposition="middle left")
    figure.add_scatter(x=[9], y=[9], mode="text", text=["bbbb"], textposition="middle left")
    (label,) = [each for each in drawn(figure).iter("text") if each.get("class") == "label"]
    assert (label.text, label.get("text-anchor")) == ("bbbb", "end"), "left of the first is the axis"


def test_each_mark_may_have_a_size_of_its_own():
    figure = Figure(200)
    figure.add_scatter(x=[1, 2], y=[1, 2], mode="markers", marker={"size": [6, 20]})
    assert [float(each.get("r")) for each in drawn(figure).iter("circle")] == [3, 10]


def test_bars_stand_on_each_other():
    figure = Figure(100)
    for length in (2.0, 3.0):
        figure.add_bar(x=[length], y=["all"], hovertemplate="%{x} ms")
    first, second = [each for each in drawn(figure).iter("rect") if each.get("fill")]
    assert float(first.get("x")) + float(first.get("width")) == pytest.approx(float(second.get("x")), abs=0.2)
    assert float(second.get("width")) == pytest.approx(1.5 * float(first.get("width")), abs=0.3)


def test_what_it_cannot_draw_is_an_error():
    figure = Figure(100)
    with pytest.raises(ValueError, match="z: drawn are x, y"):
        figure.add_scatter(x=[1], y=[1], z=[1])
    with pytest.raises(ValueError, match="angle: drawn are color"):
        figure.add_scatter(x=[1], y=[1], marker={"angle": 45})
    with pytest.raises(ValueError, match="orientation: drawn are x, y"):
        figure.add_bar(x=[1], y=["a"], orientation="v")
    with pytest.raises(ValueError, match="standoff: drawn are type"):
        figure.update_xaxes(standoff=6)
    with pytest.raises(ValueError, match="layer: drawn are fillcolor"):
        figure.add_hline(1, layer="above")
    figure.add_scatter(x=[1], y=[1], mode="markers", marker={"symbol": "hourglass"})
    with pytest.raises(ValueError, match="symbol 'hourglass'"):
        drawing(figure)


def test_what_is_said_later_is_added_and_what_is_not_given_is_as_if_unsaid():
    figure = Figure(100)
    figure.update_xaxes(title="M", range=[0, 2])
    figure.update_xaxes(range=[1, 2])
    assert figure.xaxis == {"title": "M", "range": [1, 2]}
    figure.add_scatter(
        x=pd.Series([1, 2]), y=np.array([1.0, 2.0]), mode="lines", line={"dash": None, "width": 1}
    )
    assert figure.traces == [
        {"type": "scatter", "x": [1, 2], "y": [1.0, 2.0], "mode": "lines", "line": {"width": 1}}
    ]


def test_bands_and_lines_reach_over_the_whole_plot():
    figure = Figure(200)
    figure.add_scatter(x=[0, 10], y=[0, 10], mode="markers")
    figure.update_xaxes(range=[0, 10])
    figure.add_shape(None, (2, 4), fillcolor="#abcdef")
    figure.add_vline(5, line={"color": "#123456", "width": 1})
    svg = drawn(figure)
    clip = next(svg.iter("rect"))
    left, width = float(clip.get("x")), float(clip.get("width"))
    top, height = float(clip.get("y")), float(clip.get("height"))
    (band,) = [each.get("d") for each in svg.iter("path") if each.get("fill") == "#abcdef"]
    (line,) = [each.get("d") for each in svg.iter("path") if each.get("stroke") == "#123456"]
    corners = [tuple(map(float, part.rstrip("Z").split())) for part in re.split("[ML]", band)[1:]]
    assert [x for x, _ in corners] == pytest.approx([left, left + width, left + width, left], abs=0.2)
    ends = [tuple(map(float, part.split())) for part in re.split("[ML]", line)[1:]]
    assert [y for _, y in ends] == pytest.approx([top + height, top], abs=0.2)
    assert ends[0][0] == pytest.approx(left + width / 2, abs=0.2)


def test_a_scheme_looks_alike_in_every_report_and_unlike_a_verdict():
    one, other = (
        scheme_lines(["int8wo", "uint4wo"]),
        scheme_lines(["aaa", "int8wo", "nf4", "uint4wo", "none"]),
    )
    assert one["int8wo"] == other["int8wo"]
    assert one["uint4wo"] == other["uint4wo"]
    assert "none" not in other
    common = scheme_lines(
        ["int8wo", "int8dq", "float8wo", "float8dq", "int4wo", "float8_e4m3_row", "autoquant"]
    )
    assert len({line.colour for line in common.values()}) == len(common)
    assert not {line.colour for line in common.values()} & {look.ink for look in VERDICTS.values()}


def test_no_two_schemes_of_a_report_look_alike():
    lines = scheme_lines(scheme_names())
    assert len({*lines.values()}) == len(lines)


@pytest.mark.parametrize(
    ("name", "values"), [("dtype", ("bfloat16", "float16")), ("model", ("linear", "flux-tiny"))]
)
def test_figures_say_what_they_are_of(framed, name, values):
    runs = [made(f"{value}{m}", speedup, shape=(m, 512, 512), **{name: value})
            for value in values for m, speedup in ((1, 0.8), (64, 1.2))]  # fmt: skip
    rows = framed(runs)
    for section in (curves_section(rows, 0.02, Filters(rows)), heatmap_section(rows, Filters(rows))):
        for value in values:
            assert re.search(rf"<small>{value}</small>", section)


def test_two_variants_of_a_scheme_have_lines_of_their_own(framed):
    runs = [made(f"{size}{m}", speedup, shape=(m, 512, 512), params={"quant.config.group_size": size})
            for size in ("32", "128") for m, speedup in ((1, 0.8), (64, 1.2))]  # fmt: skip
    rows = framed(runs)
    section = curves_section(rows, 0.02, Filters(rows))
    keys = re.findall(r'<span class="key">(<svg.*?</svg>)([^<]*)</span>', section)
    assert [name for _, name in keys] == ["int8dq, group_size=128", "int8dq, group_size=32"]
    assert len({line for line, _ in keys}) == 2
