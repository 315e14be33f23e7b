"""Rules of cells that all have one K x N: a test that cannot be made is no test that failed."""

from dataclasses import replace

import pandas as pd
import pytest

from src.forecasts.forecast import Forecaster, Query
from src.regimes.learned import known_rules
from src.regimes.predictions import predicted
from src.regimes.rules import Rule
from src.report.regimes.sections import _predictions, rules_in_words
from src.statistics.speedup import Verdict
from tests.forecasts.synthetic import DEVICE, made_cells

SAID = "not tested: one K × N"


@pytest.fixture(scope="module")
def known() -> Forecaster:
    return Forecaster(made_cells(sides=[(3072, 3072)]))


@pytest.fixture(scope="module")
def rules(known: Forecaster) -> list[Rule]:
    return known_rules(known)


def test_a_rule_that_could_not_be_tested_says_so_and_is_shown(rules: list[Rule]) -> None:
    assert rules
    assert {rule.right for rule in rules} == {None}
    assert all(f"× of {rule.cells} cell" in rule.text and rule.text.endswith(f"; {SAID}") for rule in rules)
    shown = [rule for rule in rules if not rule.is_refuted]
    assert len([*rules_in_words(rules)]) == 1 + len(shown)


def test_one_that_cannot_be_tested_must_agree_with_its_own_cells(rules: list[Rule]) -> None:
    one = next(rule for rule in rules if rule.verdict == Verdict.HELPS)
    assert not replace(one, low=1.1, speedup=1.2, high=1.3).is_refuted
    assert replace(one, low=0.8, speedup=0.98, high=1.2).is_refuted
    assert len([*rules_in_words([replace(one, low=0.8)])]) == 1


def test_several_sides_are_tested() -> None:
    tested = known_rules(Forecaster(made_cells()))
    assert all(rule.right is not None for rule in tested)
    assert not any(SAID in rule.text for rule in tested)


def test_a_prediction_beside_it_has_no_number_that_was_right(
    known: Forecaster, rules: list[Rule], tmp_path
) -> None:
    queries = [Query(DEVICE, "default", "bfloat16", m, 3072, 3072, "float8dq") for m in (64, 16384)]
    rows = predicted(known, rules, queries)
    assert rows["rule_right"].isna().all()
    assert all(SAID in line for line in _predictions(rows))
    rows.to_csv(tmp_path / "predictions.csv", index=False)
    assert pd.read_csv(tmp_path / "predictions.csv")["rule_right"].isna().all()
