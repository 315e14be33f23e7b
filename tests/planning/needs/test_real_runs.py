"""Predicted memory against what real runs on this CPU record."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.launching.preparation import PRELOAD
from src.planning.needs.footprint import Footprints
from src.processes.isolated import Preloaded
from tests.conftest import SMALL_FLUX
from tests.fork_server import own_fork_server
from tests.planning.needs.test_memory import predicted

QUIET = (
    "gpu=cpu", "gpu.threads=1", "tracking=none", "compile=none", "measure.ceilings=false", "measure.budget_s=0.1",
    "measure.max_warmup_s=0", "measure.min_pairs=3", "measure.min_round_ms=0.01", "measure.bootstrap_samples=200",
)  # fmt: skip
LINEAR = ("model=linear", "quant=int8wo", "model.dims.M=4")
FLUX = (*SMALL_FLUX, "model.factory.num_attention_heads=4", "resolution=256", "quant=int8wo")
FACTOR = 1.1  # what docs/planning.md states
PHASES = {"build": "build_peak_gib", "baseline": "baseline_peak_rss_gib", "quantize": "quantize_peak_gib"}
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",  # nothing that is freed within a phase is kept: the RSS would have that too
    "ATEN_CPU_CAPABILITY": "avx2",  # float32 is the dtype to compute in, and no arm in another dtype takes memory
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


@pytest.fixture(scope="module", autouse=True)
def a_fork_server_of_that_environment() -> Iterator[Preloaded]:
    with own_fork_server(), pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield Preloaded([*PRELOAD, "diffusers.FluxTransformer2DModel"])


def metrics(outputs: Path) -> tuple[list[dict[str, float]], str]:
    """Of each run, the smaller one first; and the dtype that dtype=auto stood for."""
    found = []
    for path in outputs.glob("runs/*/*/record.json"):
        record = json.loads(path.read_text())
        assert record["outcome"] == "ok", record["reason"]
        found.append(record["metrics"])
    return sorted(found, key=lambda each: each["memory/baseline_peak_rss_gib"]), record["axes"]["dtype"]


@pytest.mark.parametrize(
    ("same", "axis", "values", "phases"),
    [
        (LINEAR, "model.dims", ("{K:64,N:64}", "{K:6144,N:6144}"), ("build", "baseline", "quantize")),
        (FLUX, "batch", ("1", "8"), ("build", "baseline")),
    ],
    ids=["linear", "flux-tiny"],
)
def test_what_a_larger_run_takes_more_is_predicted_within_the_stated_factor(
    compose, tmp_path, called, same, axis, values, phases
):
    """A small run takes what the process itself takes, which is no tensor; the larger one takes that and its own."""
    done = called("-m", *same, f"{axis}={','.join(values)}", *QUIET, f"outputs={tmp_path}")
    assert done.status == 0, done.stderr
    (seen, dtype), footprints = metrics(tmp_path), Footprints()
    assert dtype == "float32"
    same = (*same, f"dtype={dtype}")
    told = [predicted(compose(*same, f"{axis}={value}"), footprints, "cpu", 1000.0) for value in values]
    for found, record in zip(told, seen, strict=True):
        assert record["memory/baseline_model_gib"] == pytest.approx(found.baseline_model_gib, rel=0.01)
        assert record["memory/model_gib"] == pytest.approx(found.model_gib, rel=0.05, abs=1e-4)
    for phase in phases:
        grown = seen[1][f"memory/{PHASES[phase]}"] - seen[0][f"memory/{PHASES[phase]}"]
        ratio = (told[1].phases_gib[phase] - told[0].phases_gib[phase]) / grown
        assert 1 / FACTOR < ratio < FACTOR, (phase, told, seen)
