"""What a search is predicted: of single layers on a device that is known, and nothing else."""

import math

import pandas as pd
import pytest

from src.config.errors import ConfigError
from src.forecasts.forecast import Forecaster
from src.search.forecasts import device_like, guesses, refuse_unchanged
from tests.composing import Compose
from tests.forecasts.synthetic import DEVICE, made_cells, speedup

LINEAR = (
    "model=linear",
    "model.dims.N=3072",
    "quant=float8dq",
    "compile=default",
    "dtype=bfloat16",
    "gpu=auto",
    "measure.cache=auto",  # tests are quick without
)
VALUES = [64, 256, 1024, 4096]


@pytest.fixture(scope="module")
def known() -> Forecaster:
    return Forecaster(made_cells())


def at(compose: Compose, values: list[int], axis: str, *options: str):  # type: ignore[no-untyped-def]
    return [compose(*LINEAR, *options, f"{axis}={value}") for value in (values[0], values[-1])]


def test_a_layer_is_predicted_at_every_value(known: Forecaster, compose: Compose) -> None:
    ends = at(compose, VALUES, "model.dims.M", "model.dims.K=3072")
    found = guesses(known, *ends, VALUES)
    for value, guess in zip(VALUES, found, strict=True):
        assert guess is not None
        assert guess.log == pytest.approx(math.log(speedup(value, 3072, 3072, "float8dq")), abs=0.1)
        assert 0 < guess.spread < 0.3


def test_a_batch_is_rows_and_sides_may_grow_together(known: Forecaster, compose: Compose) -> None:
    batch = guesses(known, *at(compose, [1, 16], "batch", "model.dims.M=64", "model.dims.K=3072"), [1, 4, 16])
    rows = guesses(known, *at(compose, [64, 1024], "model.dims.M", "model.dims.K=3072"), [64, 256, 1024])
    assert batch == rows
    square = ("model.dims.M=256", "model.dims.N=${model.dims.K}")
    assert all(guesses(known, *at(compose, [1024, 4096], "model.dims.K", *square), [1024, 2048, 4096]))


def test_a_whole_model_and_an_unknown_device_are_not_predicted(known: Forecaster, compose: Compose) -> None:
    flux = [compose("model=flux-tiny", f"batch={batch}") for batch in (1, 16)]
    assert guesses(known, *flux, [1, 4, 16]) == [None] * 3
    cpu = at(compose, VALUES, "model.dims.M", "model.dims.K=3072", "gpu=cpu")
    assert guesses(known, *cpu, VALUES) == [None] * 4
    assert guesses(None, *cpu, VALUES) == [None] * 4


def test_the_device_is_the_one_asked_for_else_the_one_measured_here(compose: Compose) -> None:
    h100 = made_cells(source="grid.csv", device="NVIDIA H100 80GB HBM3")
    assert device_like(h100, compose("gpu=h100").gpu) == "NVIDIA H100 80GB HBM3"
    assert device_like(h100, compose("gpu=auto").gpu) is None
    assert device_like(made_cells(), compose("gpu=auto").gpu) == DEVICE


def test_a_device_of_another_name_is_no_guide(compose: Compose) -> None:
    few, many = (f"AMD EPYC (Zen 5), {threads} threads" for threads in (2, 64))
    cpus = made_cells(device=few)
    assert device_like(cpus, compose("gpu=cpu").gpu, few) == few
    assert device_like(cpus, compose("gpu=cpu").gpu, many) is None
    assert device_like(cpus, compose("gpu=auto").gpu, "NVIDIA H100") is None
    assert device_like(cpus, compose("gpu=auto").gpu, few.removesuffix(", 2 threads")) is None
    h100 = made_cells(source="grid.csv", device="NVIDIA H100 80GB HBM3")
    assert (
        device_like(h100, compose("gpu=h100").gpu, "NVIDIA H100 PCIe (80 GiB, 350 W)")
        == "NVIDIA H100 80GB HBM3"
    )


def test_of_devices_of_one_name_the_newest_is_a_guide(compose: Compose) -> None:
    name = "AMD EPYC (Zen 5), 2 threads"
    told_apart = [f"{name} [cache_mib={mib}]" for mib in (16, 32)]
    cpus = pd.concat([made_cells(device=device) for device in told_apart])
    assert device_like(cpus, compose("gpu=cpu").gpu, name) == told_apart[1]


def test_cold_caches_say_nothing_of_warm_ones(known: Forecaster, compose: Compose) -> None:
    dims = ("model.dims.K=3072", "measure.cache=warm")
    ends = at(compose, VALUES, "model.dims.M", *dims)
    assert guesses(known, *ends, VALUES) == [None] * 4
    warm = Forecaster(made_cells().replace({"quant": {"float8dq": "float8dq (cache=warm)"}}))
    assert all(guesses(warm, *ends, VALUES))


def test_an_option_of_the_torchao_config_is_named_as_cells_name_it(compose: Compose) -> None:
    ends = at(compose, VALUES, "model.dims.M", "model.dims.K=3072")
    cells = made_cells().replace({"quant": {"float8dq": "float8dq (granularity=PerRow)"}})
    assert all(guesses(Forecaster(cells), *ends, VALUES, words=["+quant.config.granularity=PerRow"]))


def test_a_scheme_with_options_is_another_kernel(known: Forecaster, compose: Compose) -> None:
    ends = at(compose, VALUES, "model.dims.M", "model.dims.K=3072")
    assert all(guesses(known, *ends, VALUES, words=["quant.layers.exclude=[x]"]))
    assert guesses(known, *ends, VALUES, words=["quant.granularity=PerTensor"]) == [None] * 4


def test_an_axis_that_a_layer_does_not_have_is_refused(compose: Compose) -> None:
    ends = at(compose, [64, 1024], "resolution", "model.dims.M=256", "model.dims.K=3072")
    with pytest.raises(
        ConfigError, match="changes nothing of model=linear, whose M x K x N stays 256 x 3072"
    ):
        refuse_unchanged("resolution", *ends)
