"""Regime maps and rooflines of the published H100 records: what was measured, predicted, and a model's own layers."""

import re
import tarfile
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from src.analysis.runs.frame import compared, model_level
from src.analysis.runs.layer_tables import layer_tables
from src.analysis.runs.recorded import recorded
from src.forecasts.evidence.imports import read_imports
from src.forecasts.forecast import Forecaster, Place
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.layers import ModelLayer, layer_names
from src.regimes import maps as maps_of
from src.regimes.maps import RegimeMap, grounds, inside, map_cells, regime_maps
from src.regimes.regimes import Regimes, regimes
from src.regimes.rooflines import BASELINE, rooflines
from src.report.graphics.palette import scheme_lines
from src.report.graphics.svg import drawing
from src.report.regimes.maps import coverage, maps_with_ground, regime_map, regime_maps_section
from src.report.regimes.roofline import in_words, roofline, roofline_section
from src.report.runs.filters import Filters
from tests.forecasts.synthetic import DEVICE, made_cells

PUBLISHED = Path("outputs/published/nvidia-h100-80gb-hbm3")
SCHEMES = ["float8dq", "float8wo", "int4wo", "int8dq", "int8wo"]
NO_RUNS = pd.DataFrame(columns=["task", "M", "quant", "variant", "compile", "verdict", "outcome"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("records")
    with tarfile.open(PUBLISHED / "records.tar.gz") as records:
        records.extractall(folder, filter="data")
    return recorded(folder, 0.02)[0], folder


@pytest.fixture(scope="module")
def found(runs) -> Regimes:
    frame, folder = runs
    tables = partial(layer_tables, compared(model_level(frame)), folder)
    return regimes(frame, read_imports([], {}), 0.02, tables)


def test_a_models_layers_lie_on_the_map_of_each_scheme(runs, found):
    maps = [*regime_maps(map_cells(runs[0], found.map_cells, 0.02), found.layers)]
    assert [each.quant for each in maps] == SCHEMES
    assert {each.model for each in maps[0].layers} == {"flux-dev b1 1024px"}
    assert sum(each.calls for each in maps[0].layers) == 504
    assert 0.5 < sum(each.share for each in maps[0].layers) <= 1
    assert maps[0].m_span[1] > max(each.M for each in maps[0].layers)


def test_a_ring_says_which_layers_it_is_and_grows_with_their_share(runs, found):
    each = next(regime_maps(map_cells(runs[0], found.map_cells, 0.02), found.layers))
    svg = ElementTree.fromstring(drawing(regime_map(each, [])))
    rings = {ring.find("title").text: float(ring.get("r")) for ring in svg.iter("circle")}
    longest = max(each.layers, key=lambda layer: layer.share)
    (title,) = [title for title in rings if f"{longest.M}×{longest.K}×{longest.N}" in title]
    assert longest.names in title
    assert f"{longest.share:.1%} of a call" in title
    assert rings[title] == max(rings.values()) > 2 * min(rings.values())
    assert svg.find("desc").text.startswith("flux-dev b1 1024px, ")


def test_how_much_of_a_model_was_measured_is_said(runs, found):
    cells = map_cells(runs[0], found.map_cells, 0.02)
    (told,) = coverage(found.layers, cells)
    assert told.startswith(
        "2 of the 18 shapes of flux-dev b1 1024px, 2% of its Linear layers' time, lie within what "
    )
    assert "M = 1–512 and K×N = 9.44 M" in told
    page = regime_maps_section(maps_with_ground(found, runs[0], 0.02), Filters(runs[0]))
    assert page.count('<svg class="plot"') == len(SCHEMES)
    assert escape(told) in page
    assert "transformer_blocks.*." in page


def test_some_layers_are_among_what_was_measured():
    place = Place(DEVICE, "default", "bfloat16")
    near, far = (ModelLayer("m", place, m, 2048, 2048, 1, "a", 0.25) for m in (256, 100_000))
    assert inside([near, far], made_cells()) == [near]
    (told,) = coverage([near, far], made_cells())
    assert told.startswith("1 of the 2 shapes of m, 50% of its Linear layers' time, lies within")
    (none,) = coverage([far], made_cells())
    assert none.startswith("No shape of m lies within")
    assert none.endswith("K×N = 1.33 M–70.8 M: all have more rows (M = 100,000).")


def test_ground_is_what_is_predicted_and_blank_where_nothing_is():
    cells = made_cells()
    each = next(regime_maps(map_cells(NO_RUNS, cells, 0.02), []))
    ground = each.ground(Forecaster(cells, 0.02))
    assert {piece.verdict for piece in ground} >= {"helps", "hurts"}
    assert all(piece.x0 < piece.x1 and piece.y0 < piece.y1 for piece in ground)
    assert next(regime_maps(map_cells(NO_RUNS, cells, 0.02), [])).ground(Forecaster(cells[:0])) == []


def test_ground_that_is_kept_is_what_would_be_predicted_now(tmp_path, monkeypatch):
    monkeypatch.setattr(maps_of, "_MANY", 1)
    predicted, predict = [], RegimeMap.ground

    def counted(each: RegimeMap, forecaster: Forecaster) -> object:
        predicted.append(each.quant)
        return predict(each, forecaster)

    monkeypatch.setattr(RegimeMap, "ground", counted)
    cells = made_cells()
    faster = cells.assign(speedup=cells["speedup"].where(cells.index != 7, cells["speedup"] * 1.5))
    for now, new in ((cells, True), (cells, False), (faster, True)):
        drawn = [*regime_maps(map_cells(NO_RUNS, now, 0.02), [])]
        known = Knowledge(now, 0.02, known=now.iloc[:0])
        predicted.clear()
        found = grounds(drawn, known, tmp_path)
        assert len(predicted) == len(drawn) * new
        assert found == grounds(drawn, known, None)
    assert grounds(drawn, None, tmp_path) == [[] for _ in drawn]


def test_numbers_in_names_may_be_any():
    names = ["blocks.0.to_q", "blocks.1.to_q", "blocks.0.net.2", "proj_1", "a", "b"]
    assert layer_names(names) == "blocks.*.to_q, blocks.*.net.*, proj_1 and 2 more"


def test_layers_stand_below_what_the_device_reaches(runs):
    (each,) = rooflines(runs[0])
    assert set(each.tflop_s) == {"bfloat16", "int8", "float8_e4m3"}
    assert each.ridge("bfloat16") == pytest.approx(739.03 / 2.9817)
    points = each.points.set_index(["quant", "M"])
    base = points.loc[BASELINE]
    assert list(base["slope"]) == [True, True, True, True, False]
    assert base.loc[1, "intensity"] == pytest.approx(1, rel=0.01)
    assert points.loc[("int4wo", 1), "intensity"] == pytest.approx(2 / 0.531, rel=0.01)
    assert (each.points["tflop_s"] < each.points["roof_tflop_s"]).all()


def test_layers_of_warm_caches_stand_under_no_roof(runs):
    """Their unquantized arm would be one with that of the cold ones."""
    (each,) = rooflines(runs[0])
    warm = runs[0].assign(variant="cache=warm", **{"latency/baseline_median_ms": 1e-6})
    (both,) = rooflines(pd.concat([runs[0], warm], ignore_index=True))
    pd.testing.assert_frame_equal(both.points, each.points)


def test_the_roofline_says_what_it_shows(runs):
    (each,) = rooflines(runs[0])
    limit, base, quantized, far = in_words(each)
    assert "Up to 248 FLOP per byte the memory sets the limit (2,982 GB/s)" in limit
    assert re.match(r"Unquantized: layers of M ≤ 256 lie below the memory slope and reach 4\d–\d\d % of it; "
                    r"layers of M ≥ 512 lie below the ceiling and reach 7\d % of it\.", base)  # fmt: skip
    assert all(scheme in quantized for scheme in SCHEMES)
    assert far.startswith("int8wo stays below 10% of it in every layer measured")


def test_the_roofline_has_its_lines_labels_and_marks(runs):
    (each,) = rooflines(runs[0])
    svg = ElementTree.fromstring(drawing(roofline(each, scheme_lines(SCHEMES)), width=480))
    labels = [text for text in svg.iter("text") if text.get("class") == "label"]
    assert [text.text for text in labels] == ["bfloat16 739", "int8 950", "float8_e4m3 1,433"]
    places = [float(text.get("y")) for text in labels]
    assert min(a - b for a, b in pairwise(places)) > 11, "not over each other"
    titles = [title.text for title in svg.iter("title")]
    assert any(title.startswith("ridge of bfloat16: 248 FLOP per byte") for title in titles)
    assert sum(title.startswith("unquantized 1×3072×3072") for title in titles) == 1


def test_a_device_without_ceilings_has_no_roofline(runs):
    bare = runs[0].drop(columns=[name for name in runs[0] if name.startswith("ceiling/")])
    assert roofline_section(bare, Filters(bare)) == ""
