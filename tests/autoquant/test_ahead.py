"""Candidates compiled beside each other: by the same code as their trials, in real processes."""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._inductor.runtime.autotune_cache import AutotuneCache, inductor_meta_from_config

from src.autoquant import ahead
from src.autoquant.ahead import Ahead, Piece
from src.autoquant.search import Autoquant
from src.processes.children import PRELOAD_VARIABLE
from src.treatments.layers import LayerRow, capture_layers
from src.workloads.workload import build_workload
from tests.conftest import SMALL_LINEAR
from tests.fork_server import own_fork_server

AUTOQUANT = ("quant=autoquant", "compile=default")
LAYER = LayerRow("inner", 16, 256, 128, 1)


def dies(*_):
    os._exit(3)


@pytest.fixture
def many_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def test_each_shape_is_compiled_unquantized_and_by_what_takes_it(compose, cpu):
    """float8 matmuls do not run on a CPU; a K of 40 is none that int4wo takes."""
    odd = replace(LAYER, K=40)
    found = Ahead(compose(*SMALL_LINEAR, *AUTOQUANT), cpu).pieces([(LAYER, False), (odd, True)])
    by_shape = [{piece.candidate for piece in found if k == piece.K} for k in (256, 40)]
    assert {None, "int8wo", "int8dq", "int4wo"} <= by_shape[0]
    assert not by_shape[0] & {"float8dq", "float8_e4m3_row"}
    assert by_shape[0] - by_shape[1] == {"int4wo"}
    assert {piece.bias for piece in found if piece.K == 40} == {True}


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ((), 8),
        (("compile.scope=none",), 0),  # there is nothing to compile
        (("compile.mode=max-autotune",), 0),  # kernels would be chosen in a crowd
        (("+compile.options.coordinate_descent_tuning=true",), 0),
    ],
)
def test_workers_are_worth_their_start(compose, cpu, many_cpus, options, workers):
    cfg = compose(*SMALL_LINEAR, *AUTOQUANT, *options)
    assert Ahead(cfg, cpu).workers(100) == workers


def test_few_pieces_or_cpus_are_left_to_the_trials(compose, cpu, many_cpus, monkeypatch):
    found = Ahead(compose(*SMALL_LINEAR, *AUTOQUANT), cpu)
    assert found.workers(20) == 5
    assert found.workers(12) == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert found.workers(100) == 0


@pytest.mark.usefixtures("fork_server")
def test_a_worker_that_dies_ends_no_search(compose, cpu, monkeypatch):
    monkeypatch.setattr(ahead, "_compile", dies)
    pieces = [Piece(16, 256, 128, False, None)] * 2
    assert [*Ahead(3, cpu).compile(pieces, 1)] == []  # type: ignore[arg-type]


@pytest.mark.usefixtures("cold_cache")
def test_what_a_worker_times_is_not_kept_and_its_code_is_the_trials(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(AutotuneCache, "save", AutotuneCache.save)  # and back
    with torch._inductor.config.patch(compile_threads=1):
        before = inductor_meta_from_config()  # a part of each Triton kernel's code
        ahead._alone()
        assert inductor_meta_from_config() == before
        timed = AutotuneCache.create(before, str(tmp_path / "kernel.py"), "configs")
        assert timed is not None
        timed.save(SimpleNamespace(kwargs={"XBLOCK": 64}, num_warps=4, num_stages=1), 1)
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("cold_cache")
def test_the_trials_find_what_was_compiled(compose, cpu, run_context, monkeypatch):
    monkeypatch.setattr(ahead, "_LEAST_WORKERS", 2)
    monkeypatch.setattr(ahead, "_LEAST_PIECES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setenv(PRELOAD_VARIABLE, f"{ahead.__name__},torch._inductor.compile_fx")  # not in each worker
    others = ("int8dq", "float8wo", "float8dq", "float8_e4m3_row", "int4wo")
    less = (*(f"~quant.candidates.{name}" for name in others), "quant.layer_budget_s=0.01")
    run = run_context(compose(*SMALL_LINEAR, *AUTOQUANT, *less))
    workload = build_workload(run.cfg, cpu)
    with own_fork_server(), torch.no_grad():  # whose children see the empty cache
        Autoquant(run.cfg.quant).search(workload, capture_layers(workload)[0], run)
    found = run.record.details["compiled_ahead"]
    assert found == {"pieces": 2, "workers": 2, "hits": 2, "misses": 0}
