"""The unquantized arm of a device on which a few rows have a kernel of their own, as one row has on CPUs."""

import numpy as np
import pytest

from src.forecasts.costs import Costs, Timed, baseline_prior
from src.forecasts.evidence.kernels import Switch
from src.forecasts.family import family
from src.forecasts.forecast import Forecaster, Query
from src.forecasts.times import BaselineTimes
from src.forecasts.unquantized import fit_unquantized, unquantized_doubts
from tests.forecasts.synthetic import BASE, DEVICE, MS, SIDES, TREATED, made_cells

SHAPES = np.array([(m, k, n) for k, n in SIDES for m in MS], dtype=float)
ONE_ROW = Costs(floor_us=3, weight_us=0.2, multiply_us=1, in_flight=0.01, input_us=0.1, output_us=0.1)
BETWEEN = np.array([[8, 3072, 3072]], dtype=float)


def timed(times_us: np.ndarray, shapes: np.ndarray = SHAPES) -> Timed:
    return Timed(shapes, times_us, np.ones(len(shapes)), baseline_prior(shapes, times_us))


def with_a_kernel_for_one_row(shapes: np.ndarray) -> np.ndarray:
    return np.where(shapes[:, 0] == 1, ONE_ROW.time_us(shapes), BASE.time_us(shapes))


def test_a_kernel_of_its_own_for_one_row_is_seen_and_both_are_found_again():
    times_us = with_a_kernel_for_one_row(SHAPES)
    found = fit_unquantized(timed(times_us))
    assert found.switch == Switch(1, 32)
    assert found.time_us(SHAPES) == pytest.approx(times_us, rel=0.1)
    assert found.ridge == pytest.approx(BASE.ridge, rel=0.15)
    assert found.weight_us == pytest.approx(ONE_ROW.weight_us, rel=0.2)


def test_one_kernel_stays_one():
    found = fit_unquantized(timed(BASE.time_us(SHAPES)))
    assert found.few is found.switch is None
    assert found.time_us(SHAPES) == pytest.approx(found.costs.time_us(SHAPES))
    assert found.weight_share(SHAPES) == pytest.approx(found.costs.weight_share(SHAPES))
    assert not found.unsettled(SHAPES).any()


def test_two_layers_of_one_row_are_too_few_for_a_kernel():
    few = SHAPES[np.isin(SHAPES[:, 1], [2048, 3072]) & (SHAPES[:, 1] == SHAPES[:, 2])]
    assert fit_unquantized(timed(with_a_kernel_for_one_row(few), few)).few is None


def test_between_two_kernels_a_time_is_the_middle_of_both_and_as_open():
    found = fit_unquantized(timed(with_a_kernel_for_one_row(SHAPES)))
    assert found.few is not None
    ends = found.few.time_us(BETWEEN)[0], found.costs.time_us(BETWEEN)[0]
    assert found.time_us(BETWEEN)[0] == pytest.approx(np.sqrt(np.prod(ends)))
    assert np.sqrt(found.unsettled(BETWEEN))[0] == pytest.approx(np.log(ends[1] / ends[0]) / 2)
    assert not found.unsettled(SHAPES).any()


def test_what_grows_with_the_rows_is_told_by_those_of_more():
    times_us = with_a_kernel_for_one_row(SHAPES)
    found, plain = fit_unquantized(timed(times_us)), fit_unquantized(timed(BASE.time_us(SHAPES)))
    own = unquantized_doubts(found, timed(times_us))
    usual = unquantized_doubts(plain, timed(BASE.time_us(SHAPES)))
    assert own.of_multiplying == pytest.approx(usual.of_multiplying, rel=0.3)


def test_forecasts_follow_the_kernel_of_one_row():
    cells = made_cells(source="own")
    few = (cells["M"] == 1).to_numpy()
    one_row_ms = ONE_ROW.time_us(cells.loc[few, ["M", "K", "N"]].to_numpy(dtype=float)) / 1e3
    cells.loc[few, "baseline_ms"] = one_row_ms
    for name in ("speedup", "low", "high"):
        cells.loc[few, name] = one_row_ms / cells.loc[few, "treated_ms"]
    largest = few & (cells["K"] * cells["N"] == 5120 * 13824).to_numpy()
    told = Forecaster(cells[~largest])
    for quant, costs in TREATED.items():
        shape = np.array([[1, 5120, 13824]], dtype=float)
        true = ONE_ROW.time_us(shape)[0] / costs.time_us(shape)[0]
        forecast = told.one(Query(DEVICE, "default", "bfloat16", 1, 5120, 13824, quant))
        assert forecast.speedup == pytest.approx(true, rel=0.1)
        between = told.one(Query(DEVICE, "default", "bfloat16", 2, 5120, 13824, quant))
        assert between.high / between.low > 2 * forecast.high / forecast.low


def test_a_weight_is_as_many_bytes_as_its_dtype_has():
    cells = made_cells()
    narrow, wide = (
        BaselineTimes(family(each), DEVICE).bandwidth_gb_s for each in (cells, cells.assign(dtype="float32"))
    )
    assert wide == pytest.approx(2 * narrow)
    assert narrow == pytest.approx(2e3 / BASE.weight_us, rel=0.2)
