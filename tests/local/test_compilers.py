"""Processes that compile ahead: which runs, in which order; one that dies, hangs or is late costs no run anything."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from src.local import compilers
from src.local.compilers import Compilers, Work, compiles_ahead
from src.processes.isolated import Preloaded
from src.records.beside import compilers_of
from src.records.key import axes_of
from src.records.record import Record
from tests.composing import Compose
from tests.conftest import Called
from tests.launching import jobs
from tests.local.test_sweep import SMALL
from tests.processes.test_isolated import is_gone
from tests.waiting import until

CUDA = {"kind": "cuda", "memory_gib": 80.0}
COMPILED = ("compile=regional", "launch.compile_ahead=auto")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").touch()
    return tmp_path / "log"


@pytest.fixture
def at_work(fork_server: Preloaded, log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compilers]:
    monkeypatch.setattr(compilers, "_compile", jobs.compile_by_seed)
    monkeypatch.setattr(compilers, "_number", lambda: 1)
    found = Compilers(fork_server, log)
    yield found
    found.close()


@pytest.fixture
def work(compose: Compose) -> Callable[..., list[Work]]:
    cfg = compose()

    def made(**seeds: int) -> list[Work]:
        return [
            (replace(cfg, seed=seed), Record(key, 0, "sweep", axes_of(cfg))) for key, seed in seeds.items()
        ]

    return made


def told(log: Path) -> dict[str, int]:
    """Runs and the processes that took them."""
    lines = [line.split() for line in log.read_text().splitlines() if line.endswith(tuple("0123456789"))]
    return {key: int(pid) for key, pid in lines}


@pytest.mark.parametrize(
    "override",
    [
        "launch.compile_ahead=never",
        "compile=none",
        "compile.backend=eager",
        "target=pipeline",
        "task=serialize",
        "quant=autoquant",
        "quant.where=cpu",
        "model.weights.source=local",
        "dtype=auto",
    ],
)
def test_what_cannot_be_compiled_without_the_model_is_not(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert compiles_ahead(compose(*COMPILED), CUDA)
    assert not compiles_ahead(compose(*COMPILED, override), CUDA)


def test_by_itself_it_disturbs_no_cpu_and_needs_cores_to_spare(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, always = compose(*COMPILED), compose(*COMPILED, "launch.compile_ahead=always")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert not compiles_ahead(cfg, {"kind": "cpu"})
    assert not compiles_ahead(cfg, CUDA | {"memory_gib": 16.0})
    assert not compiles_ahead(always, {"absent": "no such device"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert not compiles_ahead(cfg, CUDA)
    assert compiles_ahead(always, CUDA)


def test_a_compiler_that_dies_is_followed_by_another(
    at_work: Compilers, work: Callable[..., list[Work]], log: Path
) -> None:
    at_work.give(work(first=0, second=1, third=0, fourth=0))
    at_work.begun("first")
    until(lambda: not at_work.busy())
    assert list(told(log)) == ["second"]
    at_work.begun("second")
    until(lambda: not at_work.busy())
    found = told(log)
    assert list(found) == ["second", "third", "fourth"]
    assert found["second"] != found["third"] == found["fourth"]


def test_a_run_that_has_begun_is_not_compiled_any_more(
    at_work: Compilers, work: Callable[..., list[Work]], log: Path
) -> None:
    at_work.give(work(first=0, second=0, third=0))
    at_work.begun("second")
    until(lambda: not at_work.busy())
    assert list(told(log)) == ["third"]


def test_one_that_hangs_ends_with_the_sweep(
    at_work: Compilers, work: Callable[..., list[Work]], log: Path
) -> None:
    at_work.give(work(first=0, second=2, third=0))
    at_work.begun("first")
    until(lambda: "second" in told(log))
    assert compilers_of(log.parent) == [told(log)["second"]]  # for the monitors of the runs beside it
    at_work.close()
    assert compilers_of(log.parent) == []
    assert is_gone(told(log)["second"])
    assert not at_work.busy()
    assert "third" not in told(log)


def test_compilers_that_die_cost_a_sweep_nothing(
    fork_server: Preloaded, outputs: Path, called: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilers, "_compile", jobs.compile_by_seed)
    ahead = ("compile=default", "launch.compile_ahead=always", "seed=1")
    small = [each for each in SMALL if not each.startswith("compile=")]
    schemes = "quant=float8dq,float8_e4m3_row,float8dq_e5m2"  # of which no CPU runs any
    done = called("-m", schemes, "gpu=cpu", *small, *ahead, f"outputs={outputs}")
    assert done.status == 0, done.stderr
    found = [json.loads(path.read_text()) for path in outputs.glob("runs/*/*/record.json")]
    assert [record["outcome"] for record in found] == ["unsupported"] * 3
