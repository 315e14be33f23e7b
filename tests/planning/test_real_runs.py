"""Predicted memory against what real runs on this CPU record."""

import json
from pathlib import Path

import pytest

from src.planning.footprint import Footprints
from tests.planning.test_memory import foretold
from tests.planning.test_plan_cli import run

QUIET = (
    "gpu=cpu", "tracking=none", "compile=none", "measure.ceilings=false", "measure.budget_s=0.3",
    "measure.max_warmup_s=0.1", "measure.min_pairs=8",
)  # fmt: skip
LINEAR = ("model=linear", "dtype=float32", "quant=int8wo")
FACTOR = 1.5  # what docs/planning.md states


def metrics(outputs: Path) -> dict[tuple[str, int], dict[str, float]]:
    """(model, M or batch) -> the metrics of its run."""
    found = {}
    for path in outputs.glob("runs/*/*/record.json"):
        record = json.loads(path.read_text())
        assert record["outcome"] == "ok", record["reason"]
        axes = record["axes"]
        found[axes["model"], record["shape"].get("K", axes["batch"])] = record["metrics"]
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, float]]:
    """Of each model a small and a large run: what the process itself takes is the same in both."""
    outputs = tmp_path_factory.mktemp("real")
    for swept in (
        (*LINEAR, "model.dims={M:64,K:64,N:64},{M:4096,K:8192,N:8192}"),
        ("model=flux-tiny", "quant=int8wo", "batch=1,32"),
    ):
        done = run("-m", *swept, *QUIET, f"outputs={outputs}")
        assert done.returncode == 0, done.stderr
    return metrics(outputs)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (
            ("linear", 64, (*LINEAR, "model.dims={M:64,K:64,N:64}")),
            ("linear", 8192, (*LINEAR, "model.dims={M:4096,K:8192,N:8192}")),
        ),
        (
            ("flux-tiny", 1, ("model=flux-tiny", "quant=int8wo", "batch=1")),
            ("flux-tiny", 32, ("model=flux-tiny", "quant=int8wo", "batch=32")),
        ),
    ],
    ids=["linear", "flux-tiny"],
)
def test_a_runs_memory_is_foretold_within_the_stated_factor(compose, measured, small, large):
    footprints, told, seen = Footprints(), [], []
    for model, size, overrides in (small, large):
        found, record = foretold(compose(*overrides), footprints, "cpu", 1000.0), measured[model, size]
        assert record["memory/baseline_model_gib"] == pytest.approx(found.baseline_model_gib, rel=0.01)
        assert record["memory/model_gib"] == pytest.approx(found.model_gib, rel=0.05)
        told.append(found.phases_gib)
        seen.append(record)
    for phase, metric in (("build", "build_peak_gib"), ("baseline", "baseline_peak_rss_gib")):
        grown = seen[1][f"memory/{metric}"] - seen[0][f"memory/{metric}"]
        assert 1 / FACTOR < (told[1][phase] - told[0][phase]) / grown < FACTOR, (phase, told, seen)
