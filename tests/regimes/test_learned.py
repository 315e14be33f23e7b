"""Rules and tests of very many cells are kept, and made again where cells differ."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.forecasts.costs import Costs
from src.forecasts.evidence.cells import cells, evenly, prints
from src.forecasts.family import family
from src.forecasts.forecast import Forecaster, Place
from src.regimes import learned
from src.regimes.features import PLAIN
from src.regimes.learned import known_rules, known_trials
from src.regimes.rules import Rule, rules

PLACES = [("H100", "default"), ("H100", "none"), ("H200", "default")]


def many(count: int, speedup: float = 1.2) -> pd.DataFrame:
    row = {"device": "H100", "compile": "default", "dtype": "bfloat16", "K": 512, "N": 512, "source": ""}
    return cells(row | {"quant": f"q{n % 4}", "M": 1 + n, "speedup": speedup} for n in range(count))


def measured() -> pd.DataFrame:
    """Two schemes in three places, faster with more rows."""
    shapes = [(m, side, side) for m in (1, 16, 256, 4096) for side in (512, 1024, 4096)]
    return cells(
        {"device": device, "compile": mode, "dtype": "bfloat16", "quant": quant, "M": m, "K": k, "N": n, "source": "",
         "speedup": 0.8 + 0.1 * number, "baseline_ms": 0.02 + m * k * n / 3e11, "error": 0.01,
         "low": (0.8 + 0.1 * number) / 1.02, "high": (0.8 + 0.1 * number) * 1.02}
        for device, mode in PLACES for quant in ("int8dq", "float8dq") for number, (m, k, n) in enumerate(shapes)
    )  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Of which schemes rules are made."""
    found: list[tuple[str, str, str]] = []

    def noted(fitted: object, place: object, quant: str, margin: float) -> list[Rule]:
        found.append((place.device, place.compile, quant))
        return rules(fitted, place, quant, margin)

    monkeypatch.setattr(learned, "rules", noted)
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Path, list[Rule]]:
    """A folder with the rules of `measured`, and these."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, known_rules(Forecaster(measured()), folder)


@pytest.fixture
def folder(kept, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(kept[0], tmp_path / "kept")


def test_rules_of_the_same_cells_are_kept_and_are_what_they_were(kept, made) -> None:
    assert known_rules(Forecaster(measured()), kept[0]) == kept[1]
    assert made == []
    assert known_rules(Forecaster(measured())) == kept[1]
    assert len(made) == 6


def _changed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(speedup=rows["speedup"].where(rows.index != 0, 1.01 * rows["speedup"]))


def _surer(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(error=rows["error"].where(rows.index != 0, 0.002))


def _slower_by_as_much(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(baseline_ms=rows["baseline_ms"].where(rows.index != 0, 1.0))


CHANGES = {
    "a speedup": _changed,
    "an interval": _surer,
    "times": _slower_by_as_much,
    "one gone": lambda rows: rows.iloc[1:],
    "one more": lambda rows: pd.concat([rows, rows.iloc[:1].assign(M=64)], ignore_index=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_where_a_cell_differs_only_its_schemes_rules_are_made_again(kept, folder, made, change) -> None:
    forecaster = Forecaster(change(measured()))
    now = known_rules(forecaster, folder)
    assert made == [("H100", "default", "int8dq")]
    fresh = rules(
        family(next(forecaster.together())), Place("H100", "default", "bfloat16"), "int8dq", forecaster.margin
    )
    assert [rule for rule in now if _of_changed(rule)] == fresh
    assert [rule for rule in now if not _of_changed(rule)] == [
        rule for rule in kept[1] if not _of_changed(rule)
    ]


def test_rules_of_what_is_gone_are_gone(kept, folder, made) -> None:
    rows = measured()
    now = known_rules(Forecaster(rows[rows["quant"] != "int8dq"]), folder)
    assert now == [rule for rule in kept[1] if rule.quant != "int8dq"]
    assert made == []


def test_rules_that_speak_of_times_are_made_again_once_another_scheme_tells_other_times(tmp_path) -> None:
    true = Costs(6, 0.8, 2.5, 0.3, 0.3, 0.3)
    sides = ((512, 512), (512, 2048), (2048, 2048), (1024, 8192), (8192, 1024), (4096, 4096), (512, 16384))
    shapes = [(m, k, n) for m in (1, 16, 64, 256, 512, 1024, 4096) for k, n in sides]

    def of(quant: str, timed: bool) -> list[dict[str, object]]:
        share, ms = true.weight_share(np.array(shapes)), true.time_us(np.array(shapes)) / 1e3
        row = {"device": "H100", "compile": "default", "dtype": "bfloat16", "quant": quant, "source": ""}
        return [
            row | dict(zip("MKN", shape, strict=True))
            | {"speedup": 1.3 if s > 0.25 else 0.7, "error": 0.005} | ({"baseline_ms": t} if timed else {})
            for shape, s, t in zip(shapes, share, ms, strict=True)
        ]  # fmt: skip

    known_rules(Forecaster(cells(of("int8wo", timed=False))), tmp_path)
    both = Forecaster(cells([*of("int8wo", timed=False), *of("float8dq", timed=True)]))
    fresh = known_rules(both)
    assert any(condition.feature >= PLAIN for rule in fresh for condition in rule.conditions)
    assert known_rules(both, tmp_path) == fresh


def _of_changed(rule: Rule) -> bool:
    return (rule.device, rule.compile, rule.quant) == ("H100", "default", "int8dq")


def test_at_another_margin_and_by_another_program_all_rules_are_made(folder, made, monkeypatch) -> None:
    monkeypatch.setattr(learned, "rules", lambda _, place, quant, margin: made.append(quant) or [])
    known_rules(Forecaster(measured(), 0.05), folder)
    assert len(made) == 6
    monkeypatch.setattr(learned, "program", lambda: "another")
    known_rules(Forecaster(measured(), 0.02), folder)
    assert len(made) == 12


def test_a_little_surer_is_the_same_cell() -> None:
    rows = measured()
    assert (prints(rows) == prints(rows.assign(error=0.0105))).all()
    assert (prints(rows) != prints(rows.assign(error=0.02))).all()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """On how many cells forecasts are tested."""
    found: list[int] = []
    monkeypatch.setattr(learned, "trials", lambda cells, *_: found.append(len(cells)) or [])
    monkeypatch.setattr(learned, "_SIDES", 1)
    return found


def test_tests_come_back_as_they_were(tmp_path) -> None:
    fresh = known_trials(measured(), 0.02, tmp_path)
    assert fresh[0]
    assert str(known_trials(measured(), 0.02, tmp_path)) == str(fresh)  # nan is not equal to itself


@pytest.mark.parametrize(("count", "new"), [(3020, 20), (3500, None), (2600, None)])
def test_they_are_made_again_when_more_than_a_few_cells_differ(tmp_path, tried, count, new) -> None:
    known_trials(many(3000), 0.02, tmp_path)
    assert known_trials(many(count), 0.02, tmp_path)[1] == (new or 0)
    assert len(tried) == (1 if new else 2)


def test_another_margin_other_speedups_or_a_broken_file_are_tested_again(tmp_path: Path, tried) -> None:
    known_trials(many(3000), 0.02, tmp_path)
    known_trials(many(3000), 0.05, tmp_path)
    known_trials(many(3000, speedup=1.3), 0.02, tmp_path)
    assert len(tried) == 3
    for text in ("", "{}", "[]", '{"cells": "x"}'):
        (tmp_path / "trials.json").write_text(text)
        known_trials(many(3000), 0.02, tmp_path)
    assert len(tried) == 7


def test_very_many_cells_are_thinned_evenly_and_the_same_ones_each_time() -> None:
    found, more = evenly(many(8000), 400), evenly(many(8040), 400)
    assert set(found["quant"].value_counts()) == {64}
    assert len({*found["M"]} & {*more["M"]}) > 250
    assert evenly(many(100), 400).equals(many(100))
