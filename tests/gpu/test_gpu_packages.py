"""Packages on a real CUDA device: measured, started in fresh processes, shipped, of several sizes."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FLUX = ("model=flux-tiny", "gpu=auto", "measure.budget_s=1", "dtype=bfloat16")


@pytest.mark.parametrize("quant", ["int8wo", "int4wo", "float8wo", "float8_e4m3_row"])
def test_a_start_from_a_package(compose, execute_run, quant):
    record = execute_run(compose(*FLUX, "compile=aot-regional", f"quant={quant}"))
    if record.outcome == "unsupported":
        pytest.skip(record.reason)
    assert record.outcome == "ok", record.reason
    assert "startup_not_measured" not in record.details, record.details["startup_not_measured"]
    assert record.details["fresh_package"]["equal"] is True
    for name in ("start_s", "compile_cold_s", "compile_cached_s"):
        assert record.metrics[f"package/{name}"] > 0
    assert {each["kind"] for each in record.details["packages"]["treated"]} == {
        "FluxTransformerBlock",
        "FluxSingleTransformerBlock",
    }


def test_weights_and_code_are_shipped_together(compose, execute_run):
    record = execute_run(compose("task=serialize", *FLUX, "compile=aot", "quant=int8wo", "target=block"))
    assert record.outcome == "ok", record.reason
    assert record.details["serialize"]["fresh"]["equal"] is True


def test_one_package_takes_several_sizes(compose, execute_run):
    options = (
        "compile=aot-regional",
        "quant=int8wo",
        "+compile.dynamic_shapes={batch:[1,4],text_tokens:[16,128]}",
    )
    record = execute_run(compose(*FLUX, *options, "measure.startup=false"))
    assert record.outcome == "ok", record.reason
    assert len(record.details["package_sizes"]["treated"]) == 4  # as measured, both ends, inside
