"""What dtype=auto stands for, from rates that are given."""

import pytest

from src.checks.validation import check_values
from src.config.errors import ConfigError
from src.devices.device import Device
from src.measurement.dtypes import quick_rates, rates_of
from src.records.key import axes_of, requested, run_key
from src.tasks.arms.baseline import with_dtype
from src.workloads.dtype import DtypeRates, auto_dtype, faster_dtype, predicted

ZEN3 = DtypeRates({"bfloat16": 0.015, "float32": 0.139, "float16": 0.012})
ZEN5 = DtypeRates({"bfloat16": 0.91, "float32": 0.20, "float16": 0.3})
TURING = DtypeRates({"bfloat16": 3.0, "float32": 8.0, "float16": 60.0})


def never() -> DtypeRates:
    raise AssertionError("nothing need be measured")


@pytest.mark.parametrize(
    ("rates", "takes", "dtype"),
    [
        (ZEN3, [], "float32"),
        (ZEN5, [], "bfloat16"),
        (TURING, [], "float32"),  # float16 only where it is named
        (ZEN3, ["bfloat16"], "bfloat16"),  # what the scheme takes; float32 is measured beside it
        (ZEN3, ["bfloat16", "float32"], "float32"),
        (DtypeRates({"float32": 0.1}), [], "float32"),  # bfloat16 was too slow to time
        (DtypeRates(), [], "bfloat16"),
    ],
)
def test_auto_is_the_faster_of_bfloat16_and_float32(rates, takes, dtype):
    assert auto_dtype(None, takes, lambda: rates) == dtype


def test_a_gpu_from_8_0_on_computes_bfloat16_without_measuring():
    assert auto_dtype(8.0, [], never) == auto_dtype(9.0, [], never) == "bfloat16"
    assert auto_dtype(7.5, [], lambda: TURING) == "float32"


@pytest.mark.parametrize(
    ("dtype", "rates", "faster"),
    [
        ("bfloat16", ZEN3, "float32"),
        ("float32", ZEN3, None),
        ("float32", ZEN5, "bfloat16"),
        ("float32", TURING, "float16"),
        ("bfloat16", DtypeRates({"bfloat16": 1.0, "float32": 1.19}), None),
        ("bfloat16", DtypeRates({"bfloat16": 1.0, "float32": 1.21}), "float32"),
        ("float16", DtypeRates({"float32": 1.0}), "float32"),
        ("float32", DtypeRates(), None),
    ],
)
def test_another_dtype_is_a_rival_from_1_2_times_the_rate_on(dtype, rates, faster):
    assert faster_dtype(dtype, rates) == faster


def test_auto_has_the_key_of_what_it_stands_for(compose, cpu):
    cfg = with_dtype(compose("dtype=auto"), cpu)
    assert cfg.dtype == axes_of(cfg)["dtype"] == "bfloat16"
    assert run_key(cfg, cpu.as_dict()) == run_key(compose("dtype=bfloat16"), cpu.as_dict())


def test_a_cluster_is_predicted_what_the_entry_of_a_gpu_decides(compose):
    """Where it decides nothing, the run finds out, and the key says auto."""
    keys = [
        run_key(predicted(cfg), requested(cfg.gpu))
        for cfg in (compose(f"dtype={dtype}", "gpu=h100") for dtype in ("auto", "bfloat16"))
    ]
    assert keys[0] == keys[1]
    assert predicted(compose("dtype=auto", "gpu=cpu")).dtype == "auto"


def test_measured_ceilings_give_the_rates():
    entries = {
        "bfloat16_tflop_s": {"value": 0.9},
        "float32_tflop_s": {"reason": "[512, 512, 512] would take about 9 s, 1 s are left", "refused": False},
        "float16_tflop_s": {"reason": "RuntimeError: not implemented for 'Half'", "refused": True},
    }
    found = rates_of({"entries": entries, "crowded": False})
    assert found is not None
    assert found.tflop_s == {"bfloat16": 0.9}
    assert list(found.refused) == ["float16"]
    assert rates_of({"entries": entries, "crowded": True}) is None
    assert rates_of({"entries": {}, "crowded": False}) is None


def test_the_quick_way_times_every_dtype_and_leaves_the_threads(cpu):
    import torch

    found = quick_rates(cpu)
    assert set(found.tflop_s) | set(found.refused) == {"bfloat16", "float16", "float32"}
    assert all(rate > 0 for rate in found.tflop_s.values())
    assert torch.get_num_threads() == cpu.threads


def test_an_unknown_dtype_is_named_with_what_is_accepted(compose):
    cfg = compose()
    cfg.dtype = "int8"
    with pytest.raises(ConfigError, match=r"dtype=int8: no such choice; .*auto"):
        check_values(cfg)


def test_a_gpu_of_a_made_up_kind_needs_no_rates(compose):
    device = Device("cuda", "a GPU", 80.0, compute_capability=9.0)
    assert with_dtype(compose("dtype=auto"), device).dtype == "bfloat16"
