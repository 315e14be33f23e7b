"""`launch.budget`: what is measured while there is time, and what is left to the forecast."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from src.analysis.runs.left import COLUMNS, left_to_forecast
from src.app.composing.runs import run_configs
from src.config.durations import seconds
from src.config.errors import ConfigError
from src.launching.progress import SweepProgress
from src.local.budget import Budget, groups_within
from src.local.left import in_words, predicted_text, write_left
from src.planning.prospects import Prospect, prospects
from src.records.record import Outcome, Record
from src.report.runs.left import left_in_words, left_section
from tests.conftest import Called

SWEEP = (
    "-m", "model=linear", "quant=int8wo,float8dq", "model.dims.M=1,4,16,64,256,1024", "model.dims.K=256,512,1024",
    "model.dims.N=${model.dims.K}", "compile=none", "gpu=cpu", "dtype=float32", "tracking=none", "launch.share=never",
    "measure.ceilings=false", "task._target_=tests.local.budget_task.helps_everywhere", "task.together=",
)  # fmt: skip
RUNS, ABLE = 36, 18


@pytest.mark.usefixtures("fork_server")
def test_a_sweep_ends_when_every_verdict_is_known_well_enough(
    tmp_path: Path, called: Callable[..., Called]
) -> None:
    done = called(*SWEEP, "launch.budget=5h", f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    measured = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/record.json")]
    assert 2 < len(measured) < ABLE
    assert {record["outcome"] for record in measured} == {"ok"}
    (table,) = tmp_path.glob("sweeps/*/left.csv")
    left = list(csv.DictReader(table.open()))
    assert len(left) + len(measured) == RUNS
    able = [row for row in left if row["quant"] == "int8wo"]
    assert all(float(row["sure"]) >= 0.95 for row in left)
    assert {row["verdict"] for row in able} == {"helps"}
    assert {row["verdict"] for row in left if row["quant"] == "float8dq"} == {"unsupported"}
    told = " ".join(done.stderr.split())
    assert (
        f"every other verdict is known well enough; {len(left)} of {RUNS} runs are left to the forecast"
        in told
    )
    assert str(table) in told

    again = called(*SWEEP, "launch.budget=5h", f"outputs={tmp_path}")
    assert again.status == 0, again.stderr
    assert again.stderr.count("measured before") == len(measured)
    assert len([*tmp_path.glob("runs/*/*/record.json")]) == len(measured)


@pytest.mark.usefixtures("fork_server")
def test_where_no_run_fits_all_is_left(tmp_path: Path, called: Callable[..., Called]) -> None:
    done = called(*SWEEP, "launch.budget=1s", f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    assert f"launch.budget: the time is up; {RUNS} of {RUNS} runs are left to the forecast" in done.stderr
    assert "unknown: " in done.stderr
    assert "the same command goes on" in done.stderr
    assert [*tmp_path.glob("runs/*/*/record.json")] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("launch.budget=soon",),
            "launch.budget=soon: not a time; accepted: seconds, or a number with s, min or h",
        ),
        (("launch.budget=0",), "launch.budget=0: not a time"),
        (
            ("launch.budget=10min", "hydra/launcher=submitit_local"),
            "launch.budget=10min: not under hydra/launcher=submitit_local",
        ),
        (("launch.budget=10min", "hydra/launcher=slurm"), "not under hydra/launcher=slurm"),
        (
            ("launch.budget=10min", "hydra/sweeper=breakeven", "hydra.sweeper.axis=M"),
            "launch.budget=10min: not with hydra/sweeper=breakeven",
        ),
        (
            ("launch.budget=10min", "batch=1,2", "hydra.sweeper.max_batch_size=1"),
            "launch.budget=10min: not with hydra.sweeper.max_batch_size=1",
        ),
    ],
)
def test_what_is_wrong_is_one_line(called: Callable[..., Called], words: tuple[str, ...], said: str) -> None:
    done = called("-m", "model=linear", *words)
    assert done.status == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("text", "meant"), [("90", 90), ("90s", 90), ("10min", 600), ("1.5h", 5400), ("2 h", 7200)]
)
def test_times_as_people_write_them(text: str, meant: float) -> None:
    assert seconds(text, "launch.budget") == meant


@pytest.mark.parametrize("text", ["", "min", "10 m", "-5", "1e3", "0", "10min5"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match=r"launch\.budget="):
        seconds(text, "launch.budget")


class Machine:
    """A clock, and runs that take as long as is written down."""

    def __init__(self, prospects: list[Prospect], takes_s: float, asking_s: float = 1.0) -> None:
        self.prospects, self.takes_s, self.asking_s = prospects, takes_s, asking_s
        self.now_s, self.asked = 0.0, 0

    def clock(self) -> float:
        return self.now_s

    def ask(self) -> list[Prospect] | None:
        self.asked += 1
        self.now_s += self.asking_s
        return self.prospects

    def run(self, most_s: float) -> tuple[Budget, list[list[int]]]:
        budget, records = Budget(self.ask, most_s, self.clock), dict[int, Record]()
        rounds = []
        for chosen in budget.rounds(records, [None] * len(self.prospects)):
            rounds.append(chosen)
            for index in chosen:
                if not self.prospects[index].skipped:
                    self.now_s += self.takes_s
                records[index] = Record("key", 1, "sweep", {}, Outcome.OK, device={"name": "a CPU"})
        return budget, rounds


def unsure(count: int) -> list[Prospect]:
    return [Prospect(10.0, False, "helps", 1.1, 0.9, 1.3, 0.5 + index / 100) for index in range(count)]


def test_it_ends_in_time_and_most_of_the_time_is_measured_in() -> None:
    machine = Machine(unsure(40), takes_s=10.0)
    budget, rounds = machine.run(most_s=200.0)
    measured = sum(map(len, rounds))
    assert 14 <= measured <= 18
    assert machine.now_s <= 200
    slow = Machine(unsure(40), takes_s=10.0, asking_s=8.0)  # five times as long are four runs
    _, rounds = slow.run(most_s=200.0)
    assert {len(each) for each in rounds[:-1]} == {4}
    assert [*budget.left({0, 1})] == [*range(2, 40)]


def test_runs_that_take_longer_than_planned_are_fewer() -> None:
    quick, slow = (sum(map(len, Machine(unsure(40), takes_s=takes).run(400.0)[1])) for takes in (10.0, 40.0))
    assert slow < quick / 2


def test_what_was_measured_before_takes_no_time_and_comes_first() -> None:
    runs = unsure(3)
    runs[2] = replace(runs[2], skipped=True)
    _, rounds = Machine(runs, takes_s=10.0).run(100.0)
    assert rounds[0] == [2]


@pytest.mark.usefixtures("fork_server")
def test_a_budget_without_time_measures_no_copy_either(tmp_path: Path, called: Callable[..., Called]) -> None:
    twice = [word.replace("int8wo,float8dq", "int8wo,int8_weight_only") for word in SWEEP]
    done = called(*twice, "launch.budget=1s", f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    assert "the time is up; 36 of 36 runs are left" in done.stderr
    assert [*tmp_path.glob("runs/*/*/record.json")] == []


def test_a_run_that_is_there_twice_comes_once_its_copy_is_measured() -> None:
    first, *others = unsure(3)
    runs = [
        first,
        replace(first, skipped=True, copy_of=0),
        *others,
        replace(others[0], skipped=True, copy_of=2),
    ]
    _, rounds = Machine(runs, takes_s=10.0, asking_s=0.0).run(100.0)
    assert [run for chosen in rounds for run in chosen] == [0, 1, 2, 4, 3]
    machine = Machine(runs, takes_s=10.0, asking_s=0.0)
    budget, rounds = machine.run(25.0)
    assert [run for chosen in rounds for run in chosen] == [0, 1, 2, 4]
    assert machine.now_s <= 25
    assert [*budget.left({0, 1, 2, 4})] == [3]
    budget, rounds = Machine(runs, takes_s=10.0).run(5.0)
    assert rounds == []
    assert [*budget.left(())] == [0, 1, 2, 4, 3]


@pytest.mark.parametrize(("details", "second"), [({}, "far"), ({"withheld": True}, "near")])
def test_a_disturbed_run_teaches_nothing_of_its_neighbours(details: dict[str, bool], second: str) -> None:
    runs = [
        Prospect(seconds, False, "unknown", shape=(rows, 1024, 1024), scheme="int8wo", reason=name)
        for seconds, rows, name in (
            (1.0, 64, "first"),
            (10.0, 70, "near"),
            (10.0, 75, "near"),
            (11.0, 8192, "far"),
        )
    ]
    budget, records = Budget(Machine(runs, 10.0, 0.0).ask, 100.0, lambda: 0.0), dict[int, Record]()
    begun = []
    for (index,) in budget.rounds(records, [None] * len(runs)):
        begun.append(runs[index].reason)
        records[index] = Record("key", 1, "sweep", {}, Outcome.OK, details=dict(details))
    assert begun[:2] == ["first", second]


def test_a_copy_of_a_run_that_failed_is_left() -> None:
    first = unsure(1)[0]
    machine = Machine([first, replace(first, skipped=True, copy_of=0)], takes_s=10.0)
    budget, records = Budget(machine.ask, 100.0, machine.clock), dict[int, Record]()
    rounds = []
    for chosen in budget.rounds(records, [None, None]):
        rounds.append(chosen)
        records[0] = Record("key", 1, "sweep", {}, Outcome.FAILED)
    assert rounds == [[0]]


def test_a_sweeps_plan_tells_which_run_another_repeats(tmp_path: Path) -> None:
    words = ("model=linear", "model.dims={M:4,K:64,N:64}", "dtype=float32", "gpu=cpu", f"outputs={tmp_path}")
    cfgs = [run_configs([*words, f"quant={quant}"])[0][0] for quant in ("none", "int8wo", "none")]
    found = prospects(cfgs, None, print)
    assert [each.copy_of for each in found] == [None, None, 0]
    assert found[2].skipped
    assert found[2].seconds == found[0].seconds


def started(machine: Machine, most_s: float) -> tuple[Budget, list[int]]:
    """What a sweep starts, run by run."""
    budget, records, begun = Budget(machine.ask, most_s, machine.clock), dict[int, Record](), list[int]()
    shares = [None] * len(machine.prospects)
    for chosen in groups_within(budget, records, shares, SweepProgress([1.0] * len(shares))):
        for index in chosen:
            begun.append(index)
            machine.now_s += machine.takes_s
            records[index] = Record("key", 1, "sweep", {}, Outcome.OK, device={"name": "a CPU"})
    return budget, begun


def test_a_round_ends_when_its_next_run_does_not_fit_any_more() -> None:
    machine = Machine(unsure(40), takes_s=30.0, asking_s=10.0)  # planned: 10 s, five in a round
    _, begun = started(machine, most_s=100.0)
    assert len(begun) == 3
    assert machine.now_s <= 100 + 30


def test_the_rules_are_not_asked_again_where_neither_that_nor_a_run_fits() -> None:
    machine = Machine(unsure(40), takes_s=10.0, asking_s=8.0)
    started(machine, most_s=50.0)
    assert machine.asked == 1
    assert machine.now_s <= 50
    machine = Machine(unsure(40), takes_s=25.0, asking_s=4.0)  # that is less than a tenth of the budget
    started(machine, most_s=50.0)
    assert machine.asked == 2
    machine = Machine(unsure(2), takes_s=10.0, asking_s=8.0)  # all are measured
    started(machine, most_s=500.0)
    assert machine.asked == 1


def test_rules_that_cannot_be_asked_end_the_sweep_before_it_begins() -> None:
    with pytest.raises(ConfigError, match=r"budget\.log"):
        next(Budget(lambda: None, 10.0).rounds({}, []))


def test_what_was_left_is_told_and_read_back(tmp_path: Path) -> None:
    left = {
        3: Prospect(10.0, False, "unknown", reason="nothing near"),
        1: Prospect(10.0, False, "helps", 1.4, 1.2, 1.6, 0.8, axes={"quant": "int8wo"}),
        2: Prospect(10.0, False, "hurts", 0.5, 0.4, 0.6, 0.99, axes={"quant": "float8wo"}),
    }
    labels, keys = {index: f"run {index}" for index in left}, {index: f"key{index}" for index in left}
    path = write_left(left, labels, keys, _sweep(tmp_path, "a"))
    lines = [*in_words(left, labels, 10, path)]
    assert lines[0].endswith(
        "3 of 10 runs are left to the forecast, not measured: 1 unknown, 1 helps, 1 hurts"
    )
    assert lines[2:4] == ["  run 3: unknown: nothing near", "  run 1: helps 1.40x (1.20-1.60), sure 80%"]
    hurts = Prospect(10.0, False, "hurts", high=0.9, sure=0.97, reason="at most 0.9 times as fast")
    assert next(in_words({1: left[1], 4: hurts}, labels | {4: "run 4"}, 10, path)).endswith(
        "1 helps, 1 hurts"
    )
    assert predicted_text(hurts) == "hurts, at most 0.90x, sure 97%"
    assert next(in_words({2: left[2]}, labels, 10, path)).startswith(
        "launch.budget: every other verdict is known"
    )

    rows = left_to_forecast(tmp_path, None, {"key2"})
    assert rows["run"].tolist() == ["run 3", "run 1"]
    write_left({1: replace(left[1], sure=0.9)}, labels, keys, _sweep(tmp_path, "b"))
    newest = left_to_forecast(tmp_path, None, set())
    assert dict(zip(newest["run_key"], newest["sure"], strict=True))["key1"] == 0.9
    assert left_to_forecast(tmp_path, "b", set())["run"].tolist() == ["run 1"]
    html = left_section(rows)
    assert "Left to the forecast" in html
    assert "1.40× (1.20–1.60)" in html
    assert [*left_in_words(rows)] == [
        "2 runs were left to the forecast by launch.budget, not measured: 1 unknown, 1 helps; 2 of them less than "
        "95% sure (left.csv)"
    ]
    everything = left_to_forecast(tmp_path, None, set(keys.values()))
    nothing = write_left({}, labels, keys, _sweep(tmp_path, "c"))
    assert [*in_words({}, labels, 10, nothing)] == ["launch.budget: no run is left to the forecast"]
    for none in (
        everything,
        left_to_forecast(tmp_path, "c", set()),
        left_to_forecast(tmp_path / "no", None, ()),
    ):
        assert [*none] == COLUMNS
        assert [*left_in_words(none)] == []


def _sweep(outputs: Path, name: str) -> Path:
    folder = outputs / "sweeps" / name
    folder.mkdir(parents=True)
    return folder
