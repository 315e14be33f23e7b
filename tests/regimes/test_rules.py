"""Rules say what their cells say: no verdict on a tie, none against their median, none that hides the opposite."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.forecasts.evidence.cells import cells
from src.forecasts.evidence.imports import read_imports
from src.forecasts.forecast import Forecaster, Query
from src.regimes.boxes import Seen, boxes, verdicts_of, within
from src.regimes.learned import known_rules
from src.regimes.predictions import predicted
from src.regimes.rules import Rule
from src.report.regimes.sections import _predictions, rules_in_words
from src.report.regimes.tables import rules_table

PLACE = {"device": "NVIDIA H100 (own)", "compile": "default", "dtype": "bfloat16"}
GRIDS = [*Path("outputs/published").glob("*/linear_grid.csv")]
OTHERS = {"helps": "hurts", "hurts": "helps"}
# one Linear of an H100, K = N = 3072, at M = 1, 16, 64, 256, 512
MEASURED = {"int4wo": (1.86, 0.862, 0.24, 0.09, 0.05), "float8dq": (1.172, 0.812, 0.73, 0.78, 0.77)}
MS = (1, 16, 64, 256, 512)


def made(rows: Iterable[tuple[str, int, int, float]], spread: float = 0.005) -> pd.DataFrame:
    """Own cells of square layers from scheme, M, side and speedup."""
    each = (
        {"quant": quant, "M": m, "K": side, "N": side, "speedup": speedup, "error": spread, "source": ""}
        | {"low": speedup * math.exp(-1.96 * spread), "high": speedup * math.exp(1.96 * spread)}
        for quant, m, side, speedup in rows
    )
    return cells(PLACE | row for row in each)


def rules_of(rows: Iterable[tuple[str, int, int, float]], spread: float = 0.005) -> list[Rule]:
    return known_rules(Forecaster(made(rows, spread)))


def told(rules: list[Rule], quant: str) -> list[tuple[str, str]]:
    return [(rule.where, rule.verdict) for rule in rules if rule.quant == quant]


@pytest.mark.parametrize("quant", MEASURED)
def test_one_row_that_clearly_helps_is_set_apart_from_many_that_hurt(quant: str) -> None:
    rules = rules_of((name, m, 3072, s) for name, of in MEASURED.items() for m, s in zip(MS, of, strict=True))
    assert told(rules, quant) == [("M ≤ 1", "helps"), ("M ≥ 16", "hurts")]


def test_one_that_hurts_among_many_that_help_too() -> None:
    rules = rules_of(("int8dq", m, 3072, 0.7 if m == 64 else 1.5) for m in (1, 16, 64, 256, 512))
    assert told(rules, "int8dq") == [("M ≤ 16", "helps"), ("M = 64", "hurts"), ("M ≥ 256", "helps")]


def test_one_that_helps_within_its_error_is_not() -> None:
    found = [0.5, 0.5, 0.5, 0.5, 0.5, 1.04]
    rules = rules_of((("int8wo", 4**i, 3072, s) for i, s in enumerate(found)), spread=0.05)
    assert told(rules, "int8wo") == [("everywhere it was measured", "hurts")]


def test_where_sides_decide_at_one_m_nothing_is_cut_there() -> None:
    """A cell that M does not set apart from its neighbours stays among them."""
    odd = (4096, 256)
    rows = [("int8wo", m, side, 1.3 if (side, m) == odd else 0.5)
            for m in (16, 64, 256, 1024) for side in (1024, 1536, 2048, 3072, 4096, 5120)]  # fmt: skip
    assert told(rules_of(rows), "int8wo") == [("everywhere it was measured", "hurts")]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("found", [(1.17, 0.81), (1.10, 1.04, 0.88)])
def test_a_tie_or_two_of_three_is_no_verdict(found: tuple[float, ...], order: int) -> None:
    logs = np.log(found[::order])
    seen = Seen(np.ones((len(logs), 5)), logs, np.ones(len(logs)), np.full(len(logs), 0.01), 0.02)
    assert seen.verdict == "inconclusive"
    assert replace(seen, logs=np.abs(logs)).verdict == "helps"
    assert replace(seen, logs=-np.abs(logs)).verdict == "hurts"


def test_what_has_no_verdict_is_told_so_with_what_its_cells_say() -> None:
    sides = (1024, 2048, 3072, 4096)
    rows = [("int4wo", m, side, 1.4 if (i + j) % 2 else 0.6)
            for j, m in enumerate((16, 64)) for i, side in enumerate(sides)]  # fmt: skip
    known = made(rows)
    (rule,) = known_rules(Forecaster(known))
    assert rule.text.startswith("int4wo has no one verdict everywhere it was measured: ")
    assert rule.text.endswith("median 0.92× of 8 cells, nine tenths of them 0.60–1.40×; helps 4, hurts 4")
    assert [*rules_in_words([rule])][1:] == [f"- {rule.text}."]
    assert "inconclusive" in rules_table([rule])
    query = Query(*PLACE.values(), 16, 2048, 2048, "int4wo")
    row = predicted(Forecaster(known), [rule], [query])
    assert row["rule"].item() == "int4wo has no one verdict everywhere it was measured"
    assert row["rule_right"].isna().all()
    assert "(8 cells)" in next(_predictions(row))


def test_a_refuted_rule_has_no_verdict_anywhere() -> None:
    sides = (1024, 2048, 3072)
    rules = rules_of(("int8dq", m, side, 1.3) for m in (1, 16, 64) for side in sides)
    (good,) = rules
    bad = replace(good, right=3)
    assert "▲" in rules_table([good])
    page = rules_table([bad])
    assert "none: its test failed" in page
    assert "chip" not in page
    assert "helps" not in page
    assert bad.claim == "int8dq has no one verdict everywhere it was measured: its test failed"
    assert len([*rules_in_words([bad])]) == 1


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.parent.name)
def test_published_rules_agree_with_their_cells(path: Path) -> None:
    known = Forecaster(read_imports([str(path)], {}).cells)
    for rule in known_rules(known):
        if not rule.is_mixed:
            assert verdicts_of(np.log([rule.speedup]), 0.02) == [rule.verdict]
            same = rule.helps if rule.verdict == "helps" else rule.hurts
            assert same >= 0.75 * rule.cells or rule.verdict == "neutral"


logs_of = st.lists(st.floats(-1.5, 1.5), min_size=5, max_size=30)


@given(logs=logs_of, data=st.data())
def test_boxes_hold_each_cell_once_and_no_verdict_is_against_its_cells(logs: list[float], data) -> None:
    count = len(logs)
    ms = data.draw(st.lists(st.sampled_from([1, 4, 16, 64, 256]), min_size=count, max_size=count))
    sides = data.draw(st.lists(st.sampled_from([512, 1024, 4096]), min_size=count, max_size=count))
    weights = data.draw(st.lists(st.floats(0.1, 1), min_size=count, max_size=count))
    values = np.column_stack([ms, sides]).astype(float)
    seen = Seen(values, np.array(logs), np.array(weights), np.full(count, 0.02), 0.02)
    found = boxes(seen, None)
    inside = np.array([within(box, values) for box in found])
    assert (inside.sum(axis=0) == 1).all()
    for members in (seen.among(each) for each in inside):
        if members.verdict != "inconclusive":
            agree = members.said == members.verdict
            assert members.weights[agree].sum() >= 0.75 * members.weights.sum() * (1 - 1e-9)
            assert verdicts_of(np.median(members.logs)[None], 0.02) == [members.verdict]


@given(st.lists(st.sampled_from([1.4, 0.6]), min_size=5, max_size=8))
def test_over_m_alone_no_clear_cell_is_hidden_if_two_cuts_set_all_apart(speedups: list[float]) -> None:
    turns = sum(a != b for a, b in pairwise(speedups))
    if turns > 2:
        return
    logs = np.log(speedups)
    values = np.column_stack([4.0 ** np.arange(len(logs)), np.full(len(logs), 1024.0)])
    seen = Seen(values, logs, np.ones(len(logs)), np.full(len(logs), 0.02), 0.02)
    for box in boxes(seen, None):
        members = seen.among(within(box, values))
        assert OTHERS.get(members.verdict) not in members.said
        assert members.verdict in OTHERS
