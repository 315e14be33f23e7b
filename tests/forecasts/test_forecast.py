"""Forecasts of a made-up device: near the truth, honest about what is far, with cliffs kept."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.regimes import published_records
from src.forecasts.evidence.cells import PLACE, cells
from src.forecasts.evidence.imports import read_imports
from src.forecasts.family import family
from src.forecasts.forecast import UNKNOWN, Forecaster, Query
from src.forecasts.residuals import Smoothness
from src.regimes.learned import known_rules
from src.regimes.predictions import predicted
from tests.forecasts.synthetic import DEVICE, made_cells, speedup

GRID = Path("outputs/published/nvidia-h100-80gb-hbm3/linear_grid.csv")
H100 = "NVIDIA H100 80GB HBM3"
ZEN3 = Path("outputs/published/amd-epyc-zen-3-avx2-2-threads/layers_records.tar.gz")


@pytest.fixture(scope="module")
def made() -> Forecaster:
    return Forecaster(made_cells())


@pytest.fixture(scope="module")
def h100() -> Forecaster:
    return Forecaster(read_imports([str(GRID)], {}).cells)


def query(m: int, k: int, n: int, quant: str = "float8dq", **changed: str) -> Query:
    place = dict(zip(PLACE, (DEVICE, "default", "bfloat16"), strict=True)) | changed
    return Query(**place, M=m, K=k, N=n, quant=quant)


@pytest.mark.parametrize(
    "shape", [(1, 4096, 4096), (512, 2560, 10240), (2000, 1536, 6144), (8192, 4096, 4096)]
)
@pytest.mark.parametrize("quant", ["float8dq", "float8wo"])
def test_a_shape_that_was_not_measured_is_predicted(made, shape, quant):
    found = made.one(query(*shape, quant))
    truth = speedup(*shape, quant)
    assert found.speedup == pytest.approx(truth, rel=0.08)
    assert found.low < truth < found.high
    if abs(math.log(truth)) > 0.1:
        assert found.verdict == ("helps" if truth > 1 else "hurts")
    assert found.support == 42


def test_ratios_alone_do_as_well(made):
    untimed = Forecaster(made_cells(timed=False))
    found = untimed.one(query(512, 2560, 10240))
    assert found.speedup == pytest.approx(speedup(512, 2560, 10240, "float8dq"), rel=0.12)


def test_what_was_measured_is_predicted_as_measured(made):
    truth = speedup(1024, 3072, 3072, "float8dq")
    found = made.one(query(1024, 3072, 3072))
    assert found.speedup == pytest.approx(truth, rel=0.03)
    assert found.high / found.low < 1.25


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            query(1024, 3072, 3072, "int8dq"),
            "no cell of int8dq was measured; there are cells of float8dq; float8wo",
        ),
        (query(4_000_000, 3072, 3072), "M=4,000,000 is more than 128 times beyond the 1-16,384 measured"),
        (query(1024, 100, 3072), "K=100 is more than 3 times beyond"),
        (query(1024, 3072, 3072, compile="max-autotune"), "nothing was measured at compile=max-autotune"),
        (query(1024, 3072, 3072, device="Some CPU, 2 threads"), "nothing was measured on a device like"),
    ],
)
def test_what_nothing_is_near_to_is_unknown_with_the_reason(made, asked, reason):
    found = made.one(asked)
    assert found.verdict == UNKNOWN
    assert math.isnan(found.speedup)
    assert reason in found.reason


def test_more_rows_than_were_measured_are_predicted_less_surely(made):
    near, far = made.one(query(30_000, 3072, 3072)), made.one(query(400_000, 3072, 3072))
    assert near.verdict == far.verdict == "helps"
    assert far.high / far.low > near.high / near.low


def test_few_rows_do_not_tell_what_many_take():
    few = made_cells().query("M <= 32").reset_index(drop=True)
    forecaster = Forecaster(few)
    inside, near, far = (forecaster.one(query(m, 3072, 3072)) for m in (32, 128, 4096))
    assert near.high / near.low > 1.3 * inside.high / inside.low
    assert near.low < speedup(128, 3072, 3072, "float8dq") < near.high
    assert far.reason == (
        "M=4,096 is more than 4 times beyond the 1-32 measured of float8dq, which do not tell what more rows take"
    )


def test_a_switch_is_found_where_all_layers_jump_between_two_m():
    rows = made_cells()
    slow = (rows["quant"] == "float8dq") & (rows["M"] >= 1024)
    jumped = Forecaster(
        rows.assign(speedup=rows["speedup"].where(~slow, rows["speedup"] / 3), treated_ms=math.nan)
    )
    assert jumped.one(query(256, 3072, 3072)).speedup == pytest.approx(
        speedup(256, 3072, 3072, "float8dq"), rel=0.1
    )
    assert jumped.one(query(2048, 3072, 3072)).speedup == pytest.approx(
        speedup(2048, 3072, 3072, "float8dq") / 3, rel=0.1
    )
    between = jumped.one(query(512, 5120, 13824))
    assert "the kernel switches somewhere between float8dq, M ≤ 256 and M ≥ 1024" in between.reason
    assert between.verdict == UNKNOWN


def test_where_times_of_the_same_layer_scatter_less_is_read_out_of_each_cell():
    steady = made_cells()
    sign = steady["quant"].map({"float8dq": 0.1, "float8wo": -0.1})
    scattered = steady.assign(baseline_ms=steady["baseline_ms"] * np.exp(sign))
    assert family(steady).smooth.noise == Smoothness().noise
    assert family(scattered).smooth.noise == pytest.approx(0.1 * math.sqrt(2), rel=0.01)


def test_a_verdict_that_is_open_is_that_of_all_cells_if_they_have_one():
    rows = made_cells(noise=0.4)
    hurting = rows.assign(speedup=rows["speedup"].clip(upper=0.95), treated_ms=math.nan)
    hurting.loc[hurting["M"] == 256, "speedup"] /= 20
    forecaster = Forecaster(hurting)
    lent, opposite, outside = (forecaster.one(query(m, 2500, 2500)) for m in (8192, 2048, 40_000))
    assert lent.verdict == "hurts"
    assert lent.reason.startswith("as all 42 cells of float8dq")
    assert lent.low < lent.speedup < lent.high < 1
    assert opposite.speedup > 1
    assert (opposite.verdict, outside.verdict) == (UNKNOWN, UNKNOWN)


def test_a_verdict_against_all_cells_of_a_scheme_is_left_open():
    """int8dq on a CPU with AVX2 hurts at every M; from M = 4 on alone, one row would seem to help."""
    all_of_it = published_records(ZEN3)
    cells = all_of_it[(all_of_it["quant"] == "int8dq") & (all_of_it["M"] > 1)]
    place = {"device": str(cells["device"].iloc[0]), "dtype": "float32"}
    told = Forecaster(cells).one(query(1, 1024, 1024, "int8dq", **place))
    assert told.speedup > 1.02
    assert (told.verdict, told.reason) == ("inconclusive", f"all {len(cells)} cells of int8dq say hurts")


def test_a_few_cells_tell_nothing_of_other_shapes():
    one = Forecaster(made_cells().head(1))
    assert one.one(query(2, 1152, 1152)).reason == "1 cell of float8dq: at least 2 are needed"
    assert one.one(query(1, 1152, 1152)).verdict != UNKNOWN


def test_compile_modes_that_make_the_same_kernels_are_one(made):
    assert made.one(query(1024, 3072, 3072, compile="regional")) == made.one(query(1024, 3072, 3072))


def test_another_device_is_predicted_from_this_one_less_surely(made):
    here, there = made.one(query(512, 4096, 4096)), made.one(query(512, 4096, 4096, device="Made-up 6000"))
    assert there.speedup == pytest.approx(here.speedup, rel=0.1)
    assert there.high / there.low > here.high / here.low
    assert there.reason == f"from {DEVICE}: nothing of float8dq was measured on Made-up 6000"


def test_a_cell_more_never_makes_a_device_known_less():
    """With two cells of its own it is borrowed from another device as far as that reaches, with them in mind."""
    of = {"device": "Made-up 6000"}
    own = made_cells(device=of["device"], sides=[(1152, 1152)]).head(4)
    alone, both = Forecaster(own), Forecaster(pd.concat([made_cells(), own], ignore_index=True))
    far, near = (
        query(4096, 5120, 13824, device=of["device"]),
        query(1, 1152, 1152, device=of["device"]),
    )
    assert alone.one(far).verdict == UNKNOWN
    told = both.one(far)
    assert told.verdict == "helps"
    assert told.reason == f"from {DEVICE}: nothing of float8dq was measured near it on Made-up 6000"
    assert told.support == 2
    assert both.one(near).reason == ""


def test_own_runs_replace_published_cells_of_the_same_shape():
    own, published = made_cells(), made_cells("grid.csv")
    both = Forecaster(pd.concat([own, published.assign(speedup=published["speedup"] * 2)], ignore_index=True))
    assert both.one(query(1024, 3072, 3072)).speedup == pytest.approx(
        speedup(1024, 3072, 3072, "float8dq"), rel=0.03
    )


def test_the_cliff_of_a_kernel_switch_is_kept(h100):
    def int4(m: int) -> float:
        return h100.one(query(m, 8192, 3072, "int4wo", device=H100)).speedup

    assert int4(1) > 1.7
    assert int4(4) > 1.3
    assert math.isnan(int4(16))  # one tile, but on an H200 twice as long as one row
    assert math.isnan(int4(17)) or int4(17) < 0.6


def test_on_an_h100_the_facts_are_predicted(h100):
    def verdict(m: int, k: int, n: int, quant: str) -> str:
        return h100.one(query(m, k, n, quant, device=H100)).verdict

    assert verdict(2048, 4096, 4096, "float8dq") == "helps"
    assert verdict(512, 1152, 1152, "float8dq") == "hurts"
    assert verdict(4096, 3072, 9216, "float8_e4m3_row") == "helps"
    assert verdict(64, 4096, 4096, "float8wo") == "hurts"
    assert verdict(2048, 3072, 3072, "int8dq") == "hurts"


def test_rules_are_few_and_say_their_evidence(h100):
    rules = known_rules(h100)
    assert 5 <= len(rules) <= 20
    assert sum(rule.cells for rule in rules) == 141
    row = next(rule for rule in rules if rule.quant == "float8_e4m3_row" and rule.verdict == "helps")
    assert "(published)" in row.text
    assert row.low <= row.speedup <= row.high
    (never,) = [rule for rule in rules if rule.quant == "int8wo"]
    assert never.where == "everywhere it was measured"
    assert never.verdict == "hurts"
    assert never.right == never.cells == 11


def test_a_forecast_names_the_rule_that_fired(h100):
    asked = [query(2048, *sides, device=H100) for sides in ((5120, 13824), (4096, 4096))]
    held, refuted = predicted(h100, known_rules(h100), asked).to_dict("records")
    assert held["rule"].startswith("float8dq helps where ")
    assert 2 <= held["rule_right"] <= held["rule_cells"]
    assert refuted["rule"].startswith("float8dq has no one verdict where ")
    assert refuted["rule"].endswith(": its test failed")
    assert 2 * refuted["rule_right"] <= refuted["rule_cells"]


def test_no_cells_no_forecasts():
    none = Forecaster(cells([]))
    assert "nothing was measured" in none.one(query(1, 1, 1)).reason
    assert none([]).empty
    assert np.array_equal(known_rules(none), [])
