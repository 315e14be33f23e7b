"""Rules of very many cells are kept: as they were, until more than a few cells are new."""

import math
from pathlib import Path

import pandas as pd
import pytest

from src.forecasts.evidence.cells import cells, evenly
from src.regimes.learned import keep, recall
from src.regimes.rules import Condition, Rule
from src.regimes.trials import Trial

RULE = Rule("H100", "default", "bfloat16", "int8dq", (Condition(0, 16.0, math.inf, 32.0, 4096.0),),
            "helps", 1.2, 1.1, 1.3, 90, 80, 70)  # fmt: skip
TRIAL = Trial("one M", "always neutral", 600, 300, 0.9, 0.1, 0.0, math.nan, 0.8, math.nan, 13, 4)


def many(count: int, speedup: float = 1.2) -> pd.DataFrame:
    row = {"device": "H100", "compile": "default", "dtype": "bfloat16", "K": 512, "N": 512, "source": ""}
    return cells(row | {"quant": f"q{n % 4}", "M": 1 + n, "speedup": speedup} for n in range(count))


def test_what_was_learned_comes_back(tmp_path: Path) -> None:
    keep(tmp_path, many(3000), 0.02, [RULE], [TRIAL])
    rules, trials, new = recall(tmp_path, many(3000), 0.02) or ([], [], -1)
    assert (rules, new) == ([RULE], 0)
    assert str(trials) == str([TRIAL])


@pytest.mark.parametrize(("count", "new"), [(3020, 20), (3100, None), (2900, None)])
def test_it_is_learned_again_when_more_than_a_few_cells_differ(tmp_path: Path, count: int, new: int) -> None:
    keep(tmp_path, many(3000), 0.02, [RULE], [TRIAL])
    found = recall(tmp_path, many(count), 0.02)
    assert (found[2] if found else None) == new


def test_another_margin_other_speedups_or_a_broken_file_are_learned_again(tmp_path: Path) -> None:
    keep(tmp_path, many(3000), 0.02, [RULE], [TRIAL])
    assert recall(tmp_path, many(3000), 0.05) is None
    assert recall(tmp_path, many(3000, speedup=1.3), 0.02) is None
    for text in ("", "{}", "[]", '{"cells": "x"}'):
        (tmp_path / "learned.json").write_text(text)
        assert recall(tmp_path, many(3000), 0.02) is None


def test_of_few_cells_nothing_is_kept(tmp_path: Path) -> None:
    keep(tmp_path, many(100), 0.02, [RULE], [TRIAL])
    assert [*tmp_path.iterdir()] == []


def test_very_many_cells_are_thinned_evenly_and_the_same_ones_each_time() -> None:
    found, more = evenly(many(8000), 400), evenly(many(8040), 400)
    assert set(found["quant"].value_counts()) == {64}
    assert len({*found["M"]} & {*more["M"]}) > 250
    assert evenly(many(100), 400).equals(many(100))
