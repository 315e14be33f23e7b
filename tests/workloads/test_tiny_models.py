"""The small siblings in conf/model: real forwards on this CPU, quantized by real kernels, compiled."""

import re

import pytest
import torch

from src.compilation.scopes import compile_module
from src.planning.footprint import Footprints
from src.quality.sqnr import compare
from src.records.record import Outcome
from src.treatments.layers import capture_layers, is_quantized
from src.treatments.scheme import make_scheme
from src.workloads.workload import build_workload
from tests.conftest import ROOT

TINY = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*-tiny.yaml"))
LEAST_DB = {"int8wo": 30, "int8dq": 25}


@torch.no_grad()
@pytest.mark.parametrize("model", TINY)
def test_quantized_it_computes_nearly_the_same(compose, cpu, run_context, model):
    cfg = compose(f"model={model}", "dtype=float32")
    baseline = build_workload(cfg, cpu)
    rows, _ = capture_layers(baseline, keep=False)
    expected = baseline.call()
    for quant, least_db in LEAST_DB.items():
        run = run_context(compose(f"model={model}", "dtype=float32", f"quant={quant}"))
        treated = baseline.twin()
        make_scheme(run.cfg.quant).apply(treated, rows, run)
        assert all(is_quantized(treated.module.get_submodule(row.fqn)) for row in rows)
        assert compare(expected, treated.call())["quality/sqnr_db"] > least_db


@torch.no_grad()
@pytest.mark.parametrize("model", TINY)
def test_its_blocks_compile_whole(compose, cpu, model):
    cfg = compose(f"model={model}", "dtype=float32", "compile=regional", "compile.backend=aot_eager")
    workload = build_workload(cfg, cpu)
    expected = workload.call()
    compile_module(workload.module, cfg.compile)
    assert compare(expected, workload.call()).get("quality/sqnr_db", 100) > 60


@pytest.mark.parametrize("model", TINY)
def test_every_scheme_takes_every_layer_of_its_blocks(compose, entries, model):
    rows = [row for row in Footprints().of(compose(f"model={model}")).rows if re.search(r"\.\d+\.", row.name)]
    assert rows
    for name, scheme in entries.items():
        for kind in ("cpu", "cuda"):
            asked = scheme.on(kind).requires
            refused = [
                row.fqn
                for row in rows
                if row.K % asked.k_multiple or row.N % asked.n_multiple or row.K * row.N % asked.kn_multiple
            ]
            assert not refused, (name, kind)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ([], [2, 2, 16, 8, 12]),
        (["frames=9", "batch=2"], [4, 3, 16, 8, 12]),
        (["model.guidance=none", "resolution=32"], [1, 2, 16, 4, 6]),
    ],
)
def test_a_call_is_fed_by_frames_resolution_and_guidance(compose, cpu, given, shape):
    workload = build_workload(compose("model=cogvideox-tiny", *given), cpu)
    assert list(workload.kwargs["hidden_states"].shape) == shape
    cos, sin = workload.kwargs["image_rotary_emb"]
    assert cos.shape == sin.shape == (shape[1] * shape[3] * shape[4] // 4, 64)
    assert torch.allclose(cos**2 + sin**2, torch.ones_like(cos))


@pytest.mark.slow
@pytest.mark.parametrize("compile_mode", ["none", "regional"])
@pytest.mark.parametrize("quant", ["none", "int8wo", "int8dq"])
@pytest.mark.parametrize("model", TINY)
def test_a_run_of_it(compose, execute_run, model, quant, compile_mode):
    record = execute_run(compose(f"model={model}", f"quant={quant}", f"compile={compile_mode}"))
    assert record.outcome is Outcome.OK, record.reason
