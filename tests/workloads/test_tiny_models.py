"""The small siblings in conf/model: real forwards on this CPU, quantized by real kernels, compiled."""

import re
from dataclasses import replace

import pytest
import torch

from src.compilation.scopes import compile_module, compiler_counts, forget_compiled
from src.planning.footprint import Footprints
from src.quality.sqnr import compare
from src.treatments.layers import capture_layers, is_quantized
from src.treatments.scheme import make_scheme
from src.workloads.workload import build_workload
from tests.conftest import ROOT

TINY = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*-tiny.yaml"))
LEAST_DB = {"int8wo": 30, "int8dq": 25}


@pytest.fixture
def compiled():
    """compiled(workload, cfg) -> its first output, compiled by the run's mode; and how often the graph broke."""

    def call(workload, cfg):
        before = compiler_counts()
        compile_module(workload.module, cfg.compile)
        output = workload.call()
        did = compiler_counts().since(before)
        assert did.graphs
        return output, did.graph_breaks

    yield call
    forget_compiled()


@torch.no_grad()
@pytest.mark.parametrize("model", TINY)
def test_quantized_and_compiled_it_computes_nearly_the_same(
    compose, entries, cpu, run_context, compiled, model
):
    """Every scheme of CI, eager and with its blocks compiled; by Dynamo alone, which is what finds graph breaks."""
    cfg = compose(f"model={model}", "dtype=float32", "compile=regional", "compile.backend=eager")
    baseline = build_workload(cfg, cpu)
    rows, _ = capture_layers(baseline, keep=False)
    expected = baseline.call()
    for quant, least_db in LEAST_DB.items():
        treated, layers = baseline.twin(), [replace(row) for row in rows]
        run = run_context(replace(cfg, quant=replace(entries[quant], layers=cfg.quant.layers)))
        make_scheme(run.cfg.quant).apply(treated, layers, run)
        assert all(is_quantized(treated.module.get_submodule(row.fqn)) for row in layers)
        eager = treated.call()
        assert compare(expected, eager)["quality/sqnr_db"] > least_db
        output, breaks = compiled(treated, cfg)
        assert breaks == 0
        assert compare(eager, output).get("quality/sqnr_db", 100) > 60
    output, breaks = compiled(baseline, cfg)
    assert breaks == 0
    assert compare(expected, output).get("quality/sqnr_db", 100) > 60


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
