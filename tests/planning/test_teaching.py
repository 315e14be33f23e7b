"""What a sweep with a budget measures next."""

from dataclasses import replace

import pytest

from src.planning.teaching import Lesson, next_lessons, sure_text

HOUR = 3600.0


def layer(m: int, side: int, sure: float = 0.0, seconds: float = 10.0, scheme: str = "int8wo") -> Lesson:
    return Lesson(seconds, sure, (m, side, side), scheme, "cpu")


def chosen(to_come: list[Lesson], learned: list[Lesson] | None = None, least_s: float = 0.0) -> list[int]:
    return next_lessons(to_come, learned or [], least_s, HOUR)


def test_the_least_certain_comes_first_and_what_is_known_well_enough_never() -> None:
    runs = [layer(1, 64, 0.99), layer(4096, 64, 0.6), layer(1, 8192, 0.9)]
    assert chosen(runs) == [1]
    assert chosen(runs, least_s=HOUR) == [1, 2]
    assert chosen([runs[0]]) == []


def test_a_long_run_has_to_teach_more() -> None:
    assert chosen([layer(1, 64, 0.6, seconds=100), layer(4096, 64, 0.8)]) == [1]


def test_what_teaches_its_neighbours_comes_before_what_stands_alone() -> None:
    alone = layer(1, 64)
    crowd = [layer(m, 4096) for m in (512, 1024, 2048)]
    assert chosen([alone, *crowd]) == [2]  # the one in the middle
    assert chosen([alone, *crowd], least_s=20) == [2, 0]  # which has told most of the others
    others = [replace(each, place="another device") for each in crowd[:2]]
    assert chosen([alone, *others, crowd[2]]) == [1]


def test_what_lies_near_a_measured_run_that_tells_nothing_yet_waits() -> None:
    assert chosen([layer(1024, 4096), layer(1, 64)], [layer(1024, 3072)]) == [1]


def test_runs_that_are_no_single_layer_teach_themselves_alone() -> None:
    models = [Lesson(10.0), Lesson(5.0), Lesson(10.0, 0.5)]
    assert chosen(models, least_s=HOUR) == [1, 0, 2]


def test_what_does_not_fit_in_the_time_is_left() -> None:
    runs = [layer(1, 64, seconds=100), layer(4096, 4096, 0.8, seconds=30), layer(16, 512, 0.9, seconds=30)]
    assert next_lessons(runs, [], 0, 50) == [1]
    assert next_lessons(runs, [], HOUR, 65) == [1, 2]
    assert next_lessons(runs, [], 0, 20) == []


def test_a_round_in_a_shared_process_is_of_one_group() -> None:
    runs = [replace(layer(4**index, 4096), group="ab"[index % 2]) for index in range(8)]
    first = next_lessons(runs, [], 0, HOUR, shared=3)
    assert len(first) == 3
    assert len({runs[index].group for index in first}) == 1
    alone = [replace(each, group="") for each in runs]
    assert len(next_lessons(alone, [], 0, HOUR, shared=3)) == 1


@pytest.mark.parametrize(
    ("sure", "told"), [(0.874, "87%"), (0.99, "99%"), (0.9949, ">99%"), (0.99999, ">99%"), (1.0, ">99%")]
)
def test_nothing_predicted_is_told_as_certain(sure: float, told: str) -> None:
    assert sure_text(sure) == told
