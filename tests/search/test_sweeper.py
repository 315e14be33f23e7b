"""The command itself: runs in processes of their own, whose task is replaced by a made-up one."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import Call
from tests.app.conftest import call as call
from tests.conftest import Called

TASK = ("task._target_=tests.search.tasks.pays_from_1000", "task.together=", "compile=none", "gpu=cpu")
QUICK = (*TASK, "dtype=bfloat16", "launch.share=never", "tracking=none", "measure.ceilings=false")
SEARCH = ("sweeps=breakeven", *QUICK)
WHOLE_GRID = 37


def records(outputs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(outputs.glob("runs/*/*/record.json"))]


@pytest.mark.usefixtures("fork_server")
def test_it_finds_the_break_even_in_a_quarter_of_the_grids_runs_and_goes_on_where_it_was(
    tmp_path: Path, called: Callable[..., Called]
) -> None:
    few = called(*SEARCH, "hydra.sweeper.max_runs=8", f"outputs={tmp_path}")
    assert few.status == 0, few.stderr
    assert "not looked further: the runs were spent" in " ".join(few.stdout.split())
    assert len(records(tmp_path)) == 8
    done = called(*SEARCH, f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    assert len(records(tmp_path)) <= 2 * WHOLE_GRID // 4
    assert done.stderr.count("measured before") == 8

    (table,) = tmp_path.glob("searches/*/breakeven.csv")
    rows = {row["combination"]: row for row in csv.DictReader(table.open())}
    found, never = rows["quant=int8dq"], rows["quant=int8wo"]
    assert found["direction"] == "up"
    assert int(found["last"]) < float(found["m"]) < int(found["first"])
    assert float(found["m"]) == pytest.approx(1000, rel=0.1)
    assert found["says"].startswith("turns faster between K = ")
    assert never["says"].startswith("no crossing in range: hurts wherever measured (K = 256–8192")
    told = " ".join(done.stdout.split())
    assert "break-even along K" in told
    assert f"a grid of the same resolution has {2 * WHOLE_GRID}" in told

    asked = json.loads(table.with_name("search.json").read_text())
    assert len(asked["asked"]) == len(records(tmp_path))
    (dq,) = (each for each in asked["combinations"] if each["apart"] == {"quant": "int8dq"})
    assert {"value": 256, "why": "unsupported: K is less than 300"} in dq["points"]
    assert {record["axes"]["model.dims.K"] for record in records(tmp_path)} >= {"256", "8192"}

    again = called(*SEARCH, f"outputs={tmp_path}")
    assert len(records(tmp_path)) == len(asked["asked"])
    assert again.stdout == done.stdout


def test_a_plan_launches_nothing_and_says_what_would_follow(
    tmp_path: Path, called: Callable[..., Called]
) -> None:
    done = called(*SEARCH, "plan=true", f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    assert "4 runs; nothing was launched" in done.stdout
    assert "the first 4 runs of a search; at most 18 in all" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_hands_no_folders_back_ends_it_after_the_first_batch(
    call: Call, tmp_path: Path
) -> None:
    result = call("sweeps=breakeven", f"outputs={tmp_path}")
    assert result.status == 0, result.err
    assert len(result.runs) == 4
    assert "some runs have no result yet" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            "hydra.sweeper.axis=quant",
            "hydra.sweeper.axis=quant: its value is a set of keys, no whole number; accep",
        ),
        (
            "hydra.sweeper.axis=dtype",
            "hydra.sweeper.axis=dtype: its value is auto, no whole number; accepted: M, K",
        ),
        (
            "hydra.sweeper.axis=KK",
            "hydra.sweeper.axis=KK: unknown key; did you mean K?; accepted: M, K, N, batch",
        ),
        (
            "hydra.sweeper.axis=resolution",
            "hydra.sweeper.axis=resolution: changes nothing of model=linear, whose",
        ),
        (
            "hydra.sweeper.range=[64,32]",
            "hydra.sweeper.range=[64,32]: two whole numbers are wanted, the first at",
        ),
        ("hydra.sweeper.range=[64]", "hydra.sweeper.range=[64]: two whole numbers are wanted: [1,16384]"),
        (
            "hydra.sweeper.range=[100,8192]",
            "hydra.sweeper.range=[100,8192]: 100 is no multiple of hydra.sweeper.mu",
        ),
        (
            "hydra.sweeper.resolution=3",
            "hydra.sweeper.range=[256,8192]: hydra.sweeper.resolution=3 gives 4 values",
        ),
        ("hydra.sweeper.resolution=1", "hydra.sweeper.resolution=1"),
        ("hydra.sweeper.values=[1,2,3]", "hydra.sweeper.values=[1,2,3]: has 3, a search wants at least 12"),
        ("hydra.sweeper.imports=[no.csv]", "import=no.csv"),
        (
            "model.dims.K=512",
            "model.dims.K=512: is the axis of the search (hydra.sweeper.axis), which chooses its",
        ),
        (
            "model.dims.K=512,1024",
            "model.dims.K=512: is the axis of the search (hydra.sweeper.axis), which chooses",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(call: Call, tmp_path: Path, wrong: str, said: str) -> None:
    result = call("sweeps=breakeven", wrong, f"outputs={tmp_path}")
    assert (result.status, result.runs) == (2, []), result.err
    assert result.err.startswith(f"error: {said}")
    assert result.err.count("\n") == 1


def test_without_a_sweeps_file_the_sweeper_alone_makes_it_a_search(call: Call, tmp_path: Path) -> None:
    probe = ("hydra/sweeper=breakeven", "model=linear", "hydra.sweeper.axis=batch", "target=linear")
    result = call(*probe, f"outputs={tmp_path}", "hydra.sweeper.range=[1,64]")
    assert result.status == 0, result.err
    assert [run.batch for run in result.runs] == [1, 64]
