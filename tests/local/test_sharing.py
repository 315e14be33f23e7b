"""Runs that share a process: none of them harms another, and each has its own folder, log, outcome and record.

The equal pairs at the ends of a process are tasks of tests/launching/tasks.py, whose verdict no busy machine changes.
"""

import io
import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from src.config.schema.root import RootConf
from src.launching.progress import SweepProgress
from src.local.sharing import group
from src.local.sharing.grouping import LARGEST, brought_together, group_key
from src.local.sweep import guesses_s
from src.processes.isolated import Ending
from tests.composing import Compose
from tests.conftest import SMALL_LINEAR, Called
from tests.local.test_sweep import SMALL, command, published, started

TASKS = "tests.launching.tasks"
SHARE = "launch.share=auto"
APART = "task.together="
TASK = f"task._target_={TASKS}.by_rule"
FATES = (*(each.replace("M:4", "M:16") for each in SMALL), "gpu=cpu", "quant=int8wo", TASK, APART)
CPU = {"kind": "cpu", "identity": {"model": "one"}, "toolchain": {}}


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setattr(group, "PAIR_TASK", f"{TASKS}.{name}")


def by_rule(outputs: Path) -> dict[int, list[dict[str, Any]]]:
    """Records by the rule that chose their fate, as their own folder's configuration says it."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(outputs.glob("runs/*/*/record.json")):
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        found.setdefault(config["quant"]["layers"]["min_m"], []).append(json.loads(path.read_text()))
    return found


# ---- which runs share


def test_runs_of_a_key_are_brought_together_where_its_first_one_stands() -> None:
    assert brought_together(["a", None, "b", "a", "b", "a", "b"]) == [[0, 3, 5], [1], [2, 4, 6]]


def test_a_group_of_two_falls_apart_and_a_large_one_into_equal_parts() -> None:
    assert brought_together(["a", "b", "a"]) == [[0], [2], [1]]
    assert [len(part) for part in brought_together(["a"] * (LARGEST + 2))] == [LARGEST // 2 + 1] * 2


def key(cfg: RootConf) -> str | None:
    return group_key(cfg, CPU)


@pytest.mark.parametrize(
    "apart",
    [
        "quant.where=cpu",
        "quant.via=diffusers",
        "quant=autoquant",
        "measure.processes=2",
        "measure.pairing=in_turn",
        "measure.profile=true",
        "launch.share=never",
        "task=serialize",
        "dtype=auto",
    ],
)
def test_some_runs_have_a_process_of_their_own(compose: Compose, apart: str) -> None:
    assert key(compose(SHARE, apart)) is None


@pytest.mark.parametrize("axis", ["quant=int8dq", "measure.budget_s=1", "quant.layers.min_m=3"])
def test_runs_of_one_workload_share(compose: Compose, axis: str) -> None:
    assert key(compose(SHARE)) == key(compose(SHARE, axis)) is not None


@pytest.mark.parametrize(
    "axis", ["batch=2", "seed=1", "resolution=64", "dtype=float32", "compile=default", "target=block"]
)
def test_another_workload_is_another_process(compose: Compose, axis: str) -> None:
    assert key(compose(SHARE, "compile=none")) != key(compose(SHARE, "compile=none", axis))


def test_probes_of_any_size_share(compose: Compose) -> None:
    keys = {key(compose(SHARE, "model=linear", f"model.dims.{dim}=512", "batch=2")) for dim in "MKN"}
    assert len(keys) == 1
    assert keys != {key(compose(SHARE, "model=linear", "seed=1"))}


# ---- what becomes of them


def test_runs_in_the_same_rounds_take_as_long_as_one(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four probes in the same rounds, then one by itself, which takes as long as all four."""
    now = 0.0
    monkeypatch.setattr("src.launching.progress.time", SimpleNamespace(monotonic=lambda: now))
    configs = [compose(*SMALL_LINEAR, "measure.budget_s=5")] * 5
    progress = SweepProgress([10.0] * 5, Console(file=io.StringIO()))
    progress.expect(guesses_s(configs, [[3, 1, 2, 0], [4]]))
    assert progress.left_s() == 20
    progress.start_run("four together", runs=4)
    now += 8
    assert progress.left_s() == 12
    now += 2
    for _ in range(4):
        progress.end_run("done", measured=True, share=4)
    progress.start_run("alone")
    assert progress.left_s() == 10
    progress.again(10)
    assert progress.left_s() == 20


@pytest.mark.usefixtures("fork_server")
def test_a_bad_run_ends_alone_and_a_new_process_goes_on(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    """Settings left changed, an exit, a fork: rules 1 to 3; no group of three is left for the last two."""
    pairs("neutral_pair")
    axis = "quant.layers.min_m=0,1,2,3"
    done = called("-m", SHARE, *FATES, axis, f"outputs={outputs}")
    assert done.status == 1, done.stderr
    found = {rule: record for rule, (record,) in by_rule(outputs).items()}
    assert {rule: record["outcome"] for rule, record in found.items()} == {
        0: "ok",
        1: "ok",
        2: "killed",
        3: "ok",
    }
    shared = {rule: record["details"].get("shared") for rule, record in found.items()}
    assert [shared[rule] and shared[rule]["place"] for rule in range(4)] == [1, 2, None, None]
    assert shared[0]["of"] == 4
    told = found[1]["details"]["left_behind"]
    assert "torch.float32_matmul_precision was 'highest' and is 'high'" in told
    assert "left_behind" not in found[0]["details"]
    assert "exit status 3" in found[2]["reason"]
    assert sum(published(outputs).values()) == 4


@pytest.mark.usefixtures("fork_server")
def test_what_a_run_leaves_in_the_process_ends_it_and_the_others_are_unharmed(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    """A killed run, a forked copy, memory: each is followed by a run in a new process."""
    pairs("neutral_pair")
    rules = "quant.layers.min_m=5,3,4,0,8,9"
    done = called("-m", SHARE, *FATES, rules, f"outputs={outputs}")
    assert done.status == 1, done.stderr
    found = {rule: record for rule, (record,) in by_rule(outputs).items()}
    killed = found.pop(5)
    assert killed["outcome"] == "killed"
    assert {rule: record["outcome"] for rule, record in found.items()} == dict.fromkeys((3, 4, 0, 8, 9), "ok")
    forked, leaked = (found[rule]["details"]["left_behind"] for rule in (3, 4))
    assert forked == ["1 forked processes that still run"]
    assert len(leaked) == 1
    assert "GiB of memory" in leaked[0]
    processes = [record["details"]["shared"]["process"] for record in (killed, *found.values())]
    assert sorted(Counter(processes).values()) == [1, 1, 1, 3]


@pytest.mark.usefixtures("fork_server")
def test_a_hang_ends_by_its_time_limit_and_the_group_goes_on(
    outputs: Path,
    called: Callable[..., Called],
    pairs: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit of the run that hangs is short; the others' is one that no busy machine reaches."""
    run = group.Group.run

    def limited(self: group.Group, job: Any, arguments: Any, *, timeout_s: float, **others: Any) -> Ending:
        hangs = arguments[0].quant.layers.min_m == 6
        return run(self, job, arguments, timeout_s=2.0 if hangs else timeout_s, **others)

    monkeypatch.setattr(group.Group, "run", limited)
    pairs("neutral_pair")
    own = ("quant.layers.min_m=0,6,8", "measure.timeout_s=240")
    done = called("-m", SHARE, *FATES, *own, f"outputs={outputs}")
    assert done.status == 1, done.stderr
    found = by_rule(outputs)
    outcomes = {rule: [record["outcome"] for record in found[rule]] for rule in found}
    assert outcomes == {0: ["ok"], 6: ["timeout"], 8: ["ok"]}


@pytest.mark.usefixtures("fork_server")
def test_one_process_makes_the_baseline_once_and_each_run_has_its_own_files(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    pairs("neutral_pair")
    quick = (*SMALL, "gpu=cpu", "quant=int8wo,int8dq,none,float8dq", f"outputs={outputs}")
    done = called("-m", SHARE, *quick)
    assert done.status == 0, done.stderr
    records = {}
    for path in outputs.glob("runs/*/*/record.json"):
        record = json.loads(path.read_text())
        records[record["axes"]["quant"]] = record
        assert record["run_key"] == path.parents[1].name
        assert (
            yaml.safe_load((path.parent / "config.yaml").read_text())["quant"]["name"]
            == record["axes"]["quant"]
        )
        assert (path.parent / "run.log").exists()
    assert len({record["environment"]["pid"] for record in records.values()}) == 1
    assert [
        records[quant]["details"]["shared"]["place"] for quant in ("int8wo", "int8dq", "none", "float8dq")
    ] == [
        1,
        2,
        3,
        4,
    ]
    for quant in ("int8wo", "int8dq", "none"):
        record = records[quant]
        assert record["outcome"] == "ok"
        assert record["details"]["baseline_made_by"].endswith("-first")
        assert not [
            name for name in record["metrics"] if name.startswith(("compile/baseline_", "memory/build"))
        ]
        assert record["metrics"]["memory/baseline_model_gib"] > 0
        assert record["shape"] == {"M": 4, "K": 64, "N": 64}
    assert records["float8dq"]["outcome"] == "unsupported"
    again = called("-m", SHARE, *quick)
    assert again.stderr.count("measured before") + again.stderr.count("withheld") >= 1
    never = called(*SMALL, "gpu=cpu", "quant=int8wo", f"outputs={outputs}", "rerun=true")
    assert never.status == 0, never.stderr
    keys = {path.parents[1].name for path in outputs.glob("runs/*/*/record.json")}
    assert len(keys) == 4


@pytest.mark.usefixtures("fork_server")
def test_runs_whose_common_rounds_end_in_a_crash_are_measured_one_by_one(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    pairs("neutral_pair")
    dies = f"task.together={TASKS}.dies_together"
    done = called("-m", SHARE, *SMALL, "gpu=cpu", "quant=int8wo,int8dq,none", dies, f"outputs={outputs}")
    assert done.status == 0, done.stderr
    found = [json.loads(path.read_text()) for path in outputs.glob("runs/*/*/record.json")]
    assert [record["outcome"] for record in found] == ["ok"] * 3
    shared = [record["details"]["shared"] for record in found]
    assert sorted(each["place"] for each in shared) == [1, 2, 3]
    assert {(each["process"], each["together"]) for each in shared} == {(2, 1)}


@pytest.mark.usefixtures("fork_server")
def test_a_run_that_does_not_fit_beside_the_others_is_measured_by_itself(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    pairs("neutral_pair")
    lacks = f"task.together={TASKS}.lacks_memory_together"
    done = called("-m", SHARE, *SMALL, "gpu=cpu", "quant=int8wo,int8dq,none", lacks, f"outputs={outputs}")
    assert done.status == 0, done.stderr
    found = [json.loads(path.read_text()) for path in outputs.glob("runs/*/*/record.json")]
    told = {each["axes"]["quant"]: (each["outcome"], each["details"]["shared"]["together"]) for each in found}
    assert told == {"int8wo": ("ok", 3), "int8dq": ("ok", 1), "none": ("ok", 3)}


@pytest.mark.usefixtures("fork_server")
def test_where_the_last_place_is_not_equal_each_is_measured_again_in_a_process_of_its_own(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    pairs("pair_that_ends_unequal")
    done = called("-m", SHARE, *SMALL, "gpu=cpu", "quant=int8wo,int8dq,none", f"outputs={outputs}")
    assert done.status == 0, done.stderr
    for number in ("001", "002"):
        found = [json.loads(path.read_text()) for path in outputs.glob(f"runs/*/{number}/record.json")]
        assert len(found) == 3
        assert all(("shared" in record["details"]) == (number == "001") for record in found)
        if number == "001":
            assert all(record["details"]["withheld"] for record in found)
            assert {record["verdict"] for record in found} == {"inconclusive"}
            assert all(
                "the last place of its process did not come out equal: hurts" in r["reason"] for r in found
            )
    with sqlite3.connect(
        outputs / "mlflow.db"
    ) as database:  # the first version of a record gave way to the second
        rows = "select count(*) from tags join runs using (run_uuid) where key = 'outcome' and lifecycle_stage = "
        assert [database.execute(f"{rows}'{stage}'").fetchone()[0] for stage in ("active", "deleted")] == [
            6,
            3,
        ]


@pytest.mark.usefixtures("fork_server")
def test_where_the_first_place_is_not_equal_nothing_is_shared(
    outputs: Path, called: Callable[..., Called], pairs: Callable[[str], None]
) -> None:
    pairs("pair_that_begins_unequal")
    done = called("-m", SHARE, *SMALL, "gpu=cpu", "quant=int8wo,int8dq,none", f"outputs={outputs}")
    assert done.status == 0, done.stderr
    found = [json.loads(path.read_text()) for path in outputs.glob("runs/*/*/record.json")]
    assert len({record["environment"]["pid"] for record in found}) == 3
    assert not any("shared" in record["details"] for record in found)
    found.sort(key=lambda record: record["started_at"])
    assert all(one["finished_at"] < other["started_at"] for one, other in pairwise(found))


def _driver(outputs: Path, *overrides: str) -> subprocess.Popen[str]:
    """The command as a process of its own; it stops where a run waits."""
    patched = (
        "import sys; from src.local.sharing import group; from src.run import main\n"
        f"group.PAIR_TASK = {TASKS + '.neutral_pair'!r}; sys.exit(main())"
    )
    asked = [*command("run")[:1], "-c", patched, "-m", SHARE, *FATES, *overrides, f"outputs={outputs}"]
    return started(asked, "waiting")


@pytest.mark.usefixtures("fork_server")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_between_two_runs_of_a_group_loses_and_doubles_nothing(
    outputs: Path, called: Callable[..., Called], number: signal.Signals
) -> None:
    rules = "quant.layers.min_m=0,7,1,2"
    driver = _driver(outputs, rules)
    (before,) = by_rule(outputs)[0]
    os.kill(driver.pid, number)
    driver.wait(240)
    (outputs / "go").touch()
    again = called("-m", *FATES, rules, f"outputs={outputs}")
    found = by_rule(outputs)
    assert found[0][0] == before
    assert len(found[0]) == 1 + bool(before["details"]["withheld"])
    assert [record["outcome"] for record in found[7]][-1] == "ok", again.stderr
    assert found[7][0]["outcome"] == ("killed" if number == signal.SIGINT else "ok")
    assert {rule: records[-1]["outcome"] for rule, records in found.items()} == {
        0: "ok",
        7: "ok",
        1: "ok",
        2: "killed",
    }
