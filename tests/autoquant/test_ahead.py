"""Candidates compiled beside each other: by the same code as their trials, in real processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from src.autoquant import ahead
from src.autoquant.ahead import Ahead, Piece
from src.treatments.layers import LayerRow
from tests.conftest import ROOT, SMALL_LINEAR
from tests.fork_server import own_fork_server

AUTOQUANT = ("quant=autoquant", "compile=default")
LAYER = LayerRow("inner", 16, 256, 128, 1)
IN_TWO = """
import json, sys
from pathlib import Path


def main():
    import torch

    from src.context import RunContext
    from src.autoquant import ahead
    from src.autoquant.search import Autoquant
    from src.treatments.layers import capture_layers
    from src.devices.device import CpuDevice
    from src.workloads.workload import build_workload
    from tests.composing import composer
    from tests.conftest import SMALL_LINEAR, identity

    ahead._LEAST_WORKERS, ahead._LEAST_PIECES = 2, 1
    ahead.os.sched_getaffinity = lambda _: {0, 1}
    others = [f"~quant.candidates.{name}" for name in ("int8dq", "float8wo", "float8dq", "float8_e4m3_row", "int4wo")]
    cfg = composer()(*SMALL_LINEAR, "quant=autoquant", "compile=default", *others, "quant.layer_budget_s=0.01")
    device = CpuDevice(cfg.gpu).open()
    run = RunContext(cfg, identity(cfg), Path(sys.argv[1]), device, lambda _: None)
    workload = build_workload(cfg, device)
    with torch.no_grad():
        Autoquant(cfg.quant).search(workload, capture_layers(workload)[0], run)
    print(json.dumps(run.record.details["compiled_ahead"]))


if __name__ == "__main__":
    main()
"""


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


def test_a_worker_that_dies_ends_no_search(compose, cpu, monkeypatch):
    monkeypatch.setattr(ahead, "_compile", dies)
    monkeypatch.setenv("QUANTPAY_PRELOAD", "")
    pieces = [Piece(16, 256, 128, False, None)] * 2
    with own_fork_server():
        assert [*Ahead(3, cpu).compile(pieces, 1)] == []  # type: ignore[arg-type]


def test_the_trials_find_what_was_compiled(tmp_path):
    script = tmp_path / "in_two.py"
    script.write_text(IN_TWO)
    surroundings = {"PYTHONPATH": str(ROOT), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | surroundings, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"pieces": 2, "workers": 2, "hits": 2, "misses": 0}
