"""How near a single Linear comes to its device's ceilings, as a metric of its record."""

import pytest

from src.records.record import Record
from src.tasks.conclusions.roofline import roofline_metrics

LINEAR = ("model=linear", "dtype=bfloat16")
CEILINGS = {
    "ceiling/copy_gb_s": 1000.0,
    "ceiling/bfloat16_tflop_s": 100.0,
    "ceiling/float32_tflop_s": 10.0,
    "ceiling/int8_top_s": 200.0,
}


def record_of(m: int, ms: float, gib: float, baseline: str = "bfloat16") -> Record:
    """Of a Linear of M x 1024 x 1024, whose arms take equally long."""
    timed = {"latency/median_ms": ms, "latency/baseline_median_ms": ms, "memory/model_gib": gib}
    found = Record("k", 1, "s", {}, metrics=CEILINGS | timed, details={"baseline": {"dtype": baseline}})
    found.shape = {"M": m, "K": 1024, "N": 1024}
    return found


@pytest.mark.parametrize(
    ("quant", "m", "ms", "own", "base"),
    [
        ("int8wo", 1, 0.01, 0.1, 0.2),  # memory: a byte per weight, or two, at 1 TB/s
        ("int8dq", 16384, 0.5, 0.34, 0.69),  # multiplying: 200 TOP/s, or 100 TFLOP/s
    ],
)
def test_the_share_of_what_memory_or_multiplying_allows(compose, quant, m, ms, own, base):
    found = roofline_metrics(record_of(m, ms, 2**20 / 2**30), compose(*LINEAR, f"quant={quant}"))
    assert found == {
        "roofline/fraction": pytest.approx(own, rel=0.06),
        "roofline/baseline_fraction": pytest.approx(base, rel=0.06),
    }


def test_a_faster_dtype_of_the_baseline_has_its_own_roof(compose):
    run = record_of(16384, 5.0, 0.001, baseline="float32")
    found = roofline_metrics(run, compose(*LINEAR, "quant=int8wo"))
    assert found["roofline/baseline_fraction"] == pytest.approx(0.69, rel=0.06)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["quant=autoquant"], {"roofline/baseline_fraction"}),
        (["quant=float8dq"], {"roofline/baseline_fraction"}),  # its ceiling was not measured
        (["quant=int8wo", "recipe.fused_qkv=true", "treatment=[recipe.fused_qkv]"], set()),
    ],
)
def test_no_share_of_a_roof_that_is_not_known(compose, options, left):
    assert set(roofline_metrics(record_of(1, 0.01, 0.001), compose(*LINEAR, *options))) == left
    bare = record_of(1, 0.01, 0.001)
    bare.metrics = {}
    assert roofline_metrics(bare, compose(*LINEAR)) == {}
