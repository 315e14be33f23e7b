"""The search, on made-up and published speedups: what a grid finds, in a quarter of its runs."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from src.forecasts.evidence.imports import read_imports
from src.forecasts.forecast import Forecaster, Query
from src.search.axis import AxisSearch, Guess, Point
from src.search.forecasts import guess_of
from src.search.found import break_evens, in_words
from src.search.runs import STATE_NAME, Notes, point_of
from src.search.search import Search, budget
from src.search.told import _table
from tests.analysis.synthetic import made
from tests.search.synthetic import VALUES, Curve, grid, measured, published_curves, searched

PUBLISHED = Path("outputs/published")
H100, H200 = (PUBLISHED / name / "linear_grid.csv" for name in ("nvidia-h100-80gb-hbm3", "nvidia-h200"))


def slope(at: float, height: float = 0.2, width: float = 1.0) -> Curve:
    return lambda value: height * math.tanh((math.log(value) - at) / width)


def hump(at: float) -> Curve:
    return lambda value: 0.4 * math.exp(-(((math.log(value) - at) / 1.5) ** 2)) - 0.2


def cliff(last: int) -> Curve:
    return lambda value: 0.7 if value <= last else -1.2


def runs(search: Search) -> int:
    return len(search.asked)


# ---- synthetic curves


@given(at=st.floats(1.0, 8.7), height=st.sampled_from([-0.4, 0.1, 0.2, 0.6]), seed=st.integers(0, 99))
def test_one_crossing_is_found_between_neighbours_that_are_decided(
    at: float, height: float, seed: int
) -> None:
    search = searched([slope(at, height)], seed=seed)
    (found,) = break_evens(search.searches[0])
    assert found.last.value <= math.exp(at) <= found.first.value
    assert (found.first.verdict == "helps") == (height > 0)
    assert (
        VALUES.index(found.first.value) - VALUES.index(found.last.value) <= 10
    )  # the slowest slope is undecided
    assert found.narrowed or runs(search) == len(VALUES) // 4
    assert runs(search) <= len(VALUES) // 4


@given(last=st.integers(2, 12000))
def test_a_cliff_costs_no_more_than_a_slope(last: int) -> None:
    search = searched([cliff(last)])
    (found,) = break_evens(search.searches[0])
    assert found.last.value <= last < found.first.value
    assert VALUES.index(found.first.value) == VALUES.index(found.last.value) + 1
    assert found.undecided == 0
    assert runs(search) <= len(VALUES) // 4


@given(at=st.floats(2.5, 7.5))
def test_several_crossings_are_all_found(at: float) -> None:
    search = searched([hump(at)])
    directions = [str(found.direction) for found in break_evens(search.searches[0])]
    assert directions == ["up", "down"]
    assert runs(search) <= len(VALUES) // 4


def test_no_crossing_is_said_after_few_runs() -> None:
    search = searched([lambda value: -0.6 + 0.02 * math.log(value)])
    assert runs(search) <= 4
    (sentence,) = in_words(search.searches[0], "M")
    assert sentence == f"no crossing in range: hurts wherever measured (M = 1–16384, {runs(search)} runs)"


def test_a_curve_that_only_comes_near_1_has_no_crossing_and_says_what_it_has() -> None:
    search = searched([lambda value: -0.3 + 0.3 * (math.log(value) / 9.7) ** 0.3])
    (sentence,) = in_words(search.searches[0], "M")
    assert sentence.startswith("no crossing in range beyond the margin: hurts ")


@given(seed=st.integers(0, 99), noise=st.sampled_from([0.0, 0.01, 0.3]))
def test_it_ends_where_everything_is_inconclusive(seed: int, noise: float) -> None:
    search = searched([lambda value: 0.02], noise=noise, seed=seed)
    assert runs(search) <= len(VALUES) // 4


def test_values_that_are_not_supported_are_holes() -> None:
    curve = slope(6.0)
    search = searched([lambda value: math.nan if value <= 16 else curve(value)])
    (found,) = break_evens(search.searches[0])
    assert found.last.value <= math.exp(6.0) <= found.first.value
    assert [point.why for point in search.searches[0].points.values() if not point.measured]
    assert runs(search) <= len(VALUES) // 4


def test_a_scheme_that_never_runs_is_given_up_with_the_reason() -> None:
    search = searched([lambda value: math.nan])
    assert runs(search) <= 4
    assert in_words(search.searches[0], "M") == ["nothing measured: unsupported: too few rows"]


@given(st.lists(st.floats(-1, 1), min_size=len(VALUES), max_size=len(VALUES)), st.integers(0, 9))
def test_whatever_the_curve_the_budget_holds_and_what_is_said_was_measured(
    logs: list[float], seed: int
) -> None:
    search = searched([lambda value: logs[VALUES.index(int(value))]], noise=0.02, seed=seed)
    assert runs(search) <= len(VALUES) // 4
    for found in break_evens(search.searches[0]):
        assert {found.last.verdict, found.first.verdict} == {"helps", "hurts"}
        assert found.at is None or found.last.value <= found.at.m <= found.first.value


# ---- batches, budget, resuming


def test_a_batch_has_the_next_values_of_all_combinations() -> None:
    search = Search([AxisSearch(VALUES), AxisSearch(VALUES)], most=20)
    last = len(VALUES) - 1
    assert search.batch() == [(0, 0), (0, last), (1, 0), (1, last)]


def test_a_search_that_has_spent_its_runs_already_asks_for_none() -> None:
    curve, rng = slope(6.0), random.Random(0)

    def every(batch: list[tuple[int, int]]) -> list[Point | None]:
        return [measured(VALUES[index], curve, 0.0, rng) for _, index in batch]

    first = Search([AxisSearch(VALUES) for _ in range(4)], most=16)
    assert first.run(every)
    assert len(first.asked) == 16
    again = Search([AxisSearch(VALUES) for _ in range(4)], most=14)
    assert again.run(every, first.asked)
    assert again.asked == first.asked


def test_every_combination_has_its_ends_before_any_has_what_is_predicted() -> None:
    values = VALUES[::3]
    guesses = [Guess(math.sin(math.log(value)), 0.01) for value in values]  # crosses 1 three times
    search = Search([AxisSearch(values, guesses) for _ in range(6)], most=16)
    batch = search.batch()
    assert len(batch) == 16
    assert {(number, end) for number in range(6) for end in (0, len(values) - 1)} <= set(batch)


def test_holes_are_followed_by_the_middle_of_the_widest_part_between_them() -> None:
    search = AxisSearch(VALUES)
    asked = []
    while wanted := search.wanted():
        for want in wanted:
            asked.append(want.index)
            search.tell(want.index, Point(VALUES[want.index], why="unsupported"))
    last = len(VALUES) - 1
    assert asked[:2] == [0, last]
    logs = [math.log(VALUES[index]) / math.log(VALUES[-1]) for index in asked]
    assert logs[2] == pytest.approx(0.5, abs=0.03)
    assert min(abs(logs[3] - quarter) for quarter in (0.25, 0.75)) < 0.05


def test_what_one_combination_does_not_need_another_may_take() -> None:
    search = searched([lambda value: 0.7, hump(5.0), lambda value: -0.7])
    taken = [sum(number == each for number, _ in search.asked) for each in range(3)]
    assert taken[1] > len(VALUES) // 4
    assert runs(search) <= 3 * len(VALUES) // 4
    assert all(found.narrowed for found in break_evens(search.searches[1]))


def test_what_has_no_result_yet_stops_it_and_it_goes_on_from_there() -> None:

    curve, rng = slope(6.0), random.Random(0)

    def some(batch: list[tuple[int, int]]) -> list[Point | None]:
        return [measured(VALUES[i], curve, 0.0, rng) if len(first.asked) < 5 else None for _, i in batch]

    def every(batch: list[tuple[int, int]]) -> list[Point | None]:
        return [measured(VALUES[index], curve, 0.0, rng) for _, index in batch]

    first = Search([AxisSearch(VALUES)], budget([AxisSearch(VALUES)]))
    assert not first.run(some)
    again = Search([AxisSearch(VALUES)], first.most)
    assert again.run(every, first.asked)
    whole = Search([AxisSearch(VALUES)], first.most)
    assert whole.run(every)
    assert sorted(again.asked) == sorted(whole.asked)


# ---- what a record tells


@pytest.mark.parametrize(
    ("metrics", "noise"),
    [({}, 0.02 / 1.96), ({"speedup/error": 0.02 / 3.182}, 0.02 / 3.182),
     ({"speedup/processes": 3.0, "speedup/pooled_error": 0.02 / 4.303}, 0.02 / 4.303)],
    ids=["older", "blocks", "processes"],
)  # fmt: skip
def test_the_noise_of_a_point_is_the_recorded_error(metrics: dict[str, float], noise: float) -> None:
    run = made("a", 1.2, spread=0.02).record
    run.metrics |= metrics
    point = point_of(64, run)
    assert point.noise == pytest.approx(noise, rel=1e-3)
    assert (point.value, point.verdict) == (64, "helps")


def test_a_run_that_was_disturbed_says_nothing_but_why() -> None:
    run = made("a", 0.5, spread=0.02).record
    run.withhold("other processes used 1.7 of 2 CPUs", "a quiet machine")
    point = point_of(64, run)
    assert not point.measured
    assert "other processes used 1.7 of 2 CPUs" in point.why


@pytest.mark.parametrize("error", [math.nan, 0.02 / 3.182])
def test_notes_and_break_evens_of_points_with_and_without_a_recorded_error(
    error: float, tmp_path: Path
) -> None:
    search = Search([AxisSearch([16, 64, 256])], most=3)
    for index, speedup in enumerate((0.8, 0.97, 1.3)):
        run = made("a", speedup, spread=0.02).record
        run.metrics |= {"speedup/error": error} if error == error else {}
        search.searches[0].tell(index, point_of(search.searches[0].values[index], run))
    notes = Notes(tmp_path, "M", [16, 64, 256], [[]], [{}], [""])
    notes.write(search)
    (each,) = json.loads((notes.folder / STATE_NAME).read_text())["combinations"]
    assert [point.get("error") for point in each["points"]] == 3 * [error if error == error else None]
    (found,) = break_evens(search.searches[0])
    assert found.at is not None
    assert (found.at.low, found.at.high) == (64, 256)
    assert 64 < found.at.straight_low < found.at.m < found.at.straight_high < 256


def test_searches_of_two_machines_in_one_outputs_are_two(tmp_path: Path) -> None:
    one, other, again = (
        Notes(tmp_path, "M", VALUES, [["gpu=cpu"]], [{}], [device])
        for device in ("AMD EPYC, 2 threads", "AMD EPYC, 8 threads", "AMD EPYC, 2 threads")
    )
    assert one.folder == again.folder
    assert one.folder != other.folder


# ---- forecasts


def test_a_forecast_saves_runs_and_a_wrong_one_is_found_out() -> None:
    truth = slope(6.5)

    def guesses(at: float) -> list[Guess | None]:
        return [Guess(slope(at)(value), 0.04) for value in VALUES]

    plain, right, wrong = (
        searched([truth], guesses=[each]) for each in ([None] * 41, guesses(6.4), guesses(3.0))
    )
    for search in (plain, right, wrong):
        (found,) = break_evens(search.searches[0])
        assert found.last.value <= math.exp(6.5) <= found.first.value
        assert runs(search) <= len(VALUES) // 4
    assert runs(right) < runs(plain)


def test_a_forecast_that_is_very_sure_of_another_curve_hides_no_crossing() -> None:
    """The truth helps in the middle, the forecast of another kernel says that it hurts a little everywhere."""
    flat = [Guess(-0.15, 0.001)] * len(VALUES)
    search = searched([hump(5.0)], guesses=[flat])
    assert [str(found.direction) for found in break_evens(search.searches[0])] == ["up", "down"]


@pytest.mark.parametrize("predicted", [False, True])
def test_published_layers_have_the_grids_break_evens_in_a_quarter_of_its_runs(predicted: bool) -> None:
    """The H100's layers, predicted from another device's cells alone."""
    cells = read_imports([str(H100)], {}).cells
    curves = published_curves(cells)
    guesses = None
    if predicted:
        known = Forecaster(read_imports([str(H200)], {}).cells)
        place = (str(cells["device"].iloc[0]), "default", "bfloat16")
        found = known([Query(*place, m, k, n, quant) for quant, k, n in curves for m in VALUES])
        flat = [
            guess_of(*map(float, row))
            for row in zip(found["speedup"], found["low"], found["high"], strict=True)
        ]
        guesses = [flat[start : start + len(VALUES)] for start in range(0, len(flat), len(VALUES))]
    search = searched([*curves.values()], guesses=guesses)
    there, same = 0, 0
    for each, curve in zip(search.searches, curves.values(), strict=True):
        mine = break_evens(each)
        for wanted in break_evens(grid(curve)):
            there += 1
            same += any(
                one.direction is wanted.direction
                and one.last.value <= wanted.first.value
                and wanted.last.value <= one.first.value
                for one in mine
            )
    assert runs(search) <= len(curves) * len(VALUES) // 4
    assert same >= 0.95 * there


def test_what_a_combination_is_told_by_is_no_markup(capsys):
    search = Search([AxisSearch([1, 2, 4])], 6)
    Console(width=100).print(_table(search, "batch", [{"quant.components": "[vae]"}]))
    assert "[vae]" in capsys.readouterr().out
