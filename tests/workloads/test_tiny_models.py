"""The small siblings in conf/model: real forwards on this CPU, quantized by real kernels, compiled."""

import re
from dataclasses import replace

import pytest
import torch

from src.compilation.scopes import compile_module, compiler_counts, compiler_options, forget_compiled
from src.quality.sqnr import compare
from src.treatments.layers import capture_layers, is_quantized
from src.treatments.scheme import make_scheme
from src.workloads.workload import build_workload
from tests.conftest import ROOT, int8_matmul_saturates
from tests.workloads.rms import heard_blocks

TINY = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*-tiny.yaml"))
LEAST_DB = {"int8wo": 30, "int8dq": 25}
SATURATED_DB = {"int8dq": 12}  # where torch._int_mm saturates


def kind_of(row):
    """The layer's name inside its block."""
    return re.split(r"\.\d+\.", row.name)[-1]


def refused(rows, entries):
    """Layers of the blocks whose sides a scheme does not take, on either kind of device."""
    inside = [row for row in rows if re.search(r"\.\d+\.", row.name)]
    assert inside
    requires = {
        name: [scheme.on(kind).requires for kind in ("cpu", "cuda")] for name, scheme in entries.items()
    }
    return [
        (name, row.fqn)
        for name, both in requires.items()
        for asked in both
        for row in inside
        if row.K % asked.k_multiple or row.N % asked.n_multiple or row.K * row.N % asked.kn_multiple
    ]


@torch.no_grad()
@pytest.mark.parametrize("model", TINY)
def test_quantized_and_compiled_it_computes_nearly_the_same(compose, entries, cpu, run_context, model):
    """Compiled by Dynamo alone, which is what finds graph breaks; once for all, with every scheme in it."""
    cfg = compose(f"model={model}", "dtype=float32", "compile=regional", "compile.backend=eager")
    assert cfg.model.name == model
    assert cfg.model.description
    baseline = build_workload(cfg, cpu)
    rows, _ = capture_layers(baseline, keep=False)
    assert refused(rows, entries) == []
    with heard_blocks(baseline.module) as rms:
        expected = baseline.call()
    assert max(rms) < 4 * min(rms)
    assert 0.25 < rms[0] < 4

    def quantize(workload, quant, layers):
        run = run_context(replace(cfg, quant=replace(entries[quant], layers=cfg.quant.layers)))
        make_scheme(run.cfg.quant).apply(workload, [replace(row) for row in layers], run)
        assert all(is_quantized(workload.module.get_submodule(row.fqn)) for row in layers)

    least = LEAST_DB | (SATURATED_DB if int8_matmul_saturates() else {})
    for quant, least_db in least.items():
        treated = baseline.twin()
        quantize(treated, quant, rows)
        assert compare(expected, treated.call())["quality/sqnr_db"] > least_db
    kinds = list(dict.fromkeys(kind_of(row) for row in rows))
    for place, quant in enumerate(
        LEAST_DB
    ):  # a third of the layers by each, a third by none; alike in all blocks
        quantize(baseline, quant, [row for row in rows if kinds.index(kind_of(row)) % 3 == place])
    eager, before = baseline.call(), compiler_counts()
    with compiler_options(cfg.compile):
        compile_module(baseline.module, cfg.compile)
        output = baseline.call()
    did = compiler_counts().since(before)
    forget_compiled()
    assert did.graphs > 0
    assert did.graph_breaks == 0
    assert compare(eager, output).get("quality/sqnr_db", 100) > 60


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ([], [2, 3, 16, 8, 12]),
        (["frames=17", "batch=2"], [4, 5, 16, 8, 12]),
        (["model.guidance=none", "resolution=32"], [1, 3, 16, 4, 6]),
    ],
)
def test_a_call_is_fed_by_frames_resolution_and_guidance(compose, cpu, given, shape):
    workload = build_workload(compose("model=cogvideox-tiny", *given), cpu)
    assert list(workload.kwargs["hidden_states"].shape) == shape
    cos, sin = workload.kwargs["image_rotary_emb"]
    assert cos.shape == sin.shape == (shape[1] * shape[3] * shape[4] // 4, 64)
    assert torch.allclose(cos**2 + sin**2, torch.ones_like(cos))
