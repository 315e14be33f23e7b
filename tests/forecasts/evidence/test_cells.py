"""Cells of own runs and of imports: told apart, and of one device where the names say so."""

import math

import pandas as pd
import pytest

from src.forecasts.evidence.cells import OWN, cells, is_cpu, own_cells, together, weights
from tests.forecasts.synthetic import made_cells


def test_a_published_device_is_the_own_one_whose_name_begins_so():
    own = made_cells(OWN, device="NVIDIA H200 (140 GiB, 700 W)").head(2)
    published = made_cells("grid.csv", device="NVIDIA H200").head(3)
    assert set(together(own, published)["device"]) == {"NVIDIA H200 (140 GiB, 700 W)"}
    two = pd.concat([own, own.assign(device="NVIDIA H200 (70 GiB, 700 W)")])
    assert "NVIDIA H200" in set(together(two, published)["device"])


def test_published_cells_count_less():
    both = together(
        made_cells(OWN).head(1), made_cells("grid.csv").head(1).assign(low=math.nan, high=math.nan)
    )
    assert list(weights(both)) == pytest.approx([1.0, 0.5], rel=0.02)
    assert weights(both.assign(low=0.5, high=2.0)).max() < 0.05


def test_a_cell_counts_by_its_standard_error_where_it_was_recorded():
    cell = (
        made_cells(OWN)
        .head(1)
        .assign(low=lambda rows: rows["speedup"] * 0.9, high=lambda rows: rows["speedup"] / 0.9)
    )
    half = -math.log(0.9)
    recorded, older = (float(weights(cell.assign(error=error)).iloc[0]) for error in (half / 3.182, math.nan))
    assert recorded == pytest.approx(1 / (1 + (half / 3.182 / 0.05) ** 2))
    assert older == pytest.approx(1 / (1 + (half / 1.96 / 0.05) ** 2), rel=1e-4)


def test_no_runs_no_cells():
    assert own_cells(pd.DataFrame()).empty
    assert together(cells([]), cells([])).empty


def _runs(*rows):
    usual = {
        "device": "a CPU", "compile": "none", "dtype": "float32", "M": 64, "K": 512, "N": 512, "quant": "int8wo",
        "variant": "", "task": "latency", "verdict": "helps", "withheld": False, "started_at": 0,
        "speedup/ratio": 1.2, "speedup/ci_low": 1.1, "speedup/ci_high": 1.3, "speedup/pooled_error": 0.01,
        "latency/baseline_median_ms": 3.0, "latency/median_ms": 2.5,
    }  # fmt: skip
    return pd.DataFrame([usual | row for row in rows])


def test_times_of_warm_caches_are_not_mixed_with_those_of_cold_ones():
    """What the unquantized layer costs is fitted to all times of a place, whatever the scheme beside it."""
    warm = {"variant": "cache=warm", "latency/baseline_median_ms": 1.0, "latency/median_ms": 0.8}
    both = own_cells(_runs({}, warm, warm | {"dtype": "bfloat16"}))
    assert both["quant"].tolist() == ["int8wo", "int8wo (cache=warm)", "int8wo (cache=warm)"]
    assert both["speedup"].tolist() == [1.2] * 3
    assert both["baseline_ms"].fillna(0).tolist() == [3.0, 0, 1.0]
    assert both["treated_ms"].fillna(0).tolist() == [2.5, 0, 0.8]


def test_a_cpu_is_known_by_its_threads():
    assert is_cpu("AMD EPYC (Zen 5, AVX-512, bf16), 2 threads")
    assert is_cpu("AMD EPYC (Zen 5, AVX-512, bf16), 2 threads [cache_mib=16]")
    assert not is_cpu("NVIDIA H100 80GB HBM3")


def test_a_cpu_is_known_by_its_name_too():
    for name in (
        "cpu", "AMD EPYC", "AMD EPYC 9654", "Intel Xeon Platinum 8480C", "Intel(R) Core(TM) i7-13700K", "Apple M2",
        "AMD Ryzen 7 5700G with Radeon Graphics", "Ampere Altra Max", "AWS Graviton4", "NVIDIA Grace CPU",
    ):  # fmt: skip
        assert is_cpu(name), name
    for name in (
        "NVIDIA H100 80GB HBM3, AMD EPYC host", "NVIDIA H100 Tensor Core GPU", "NVIDIA GH200 480GB", "NVIDIA A100",
        "AMD Instinct MI300X", "Intel Data Center GPU Max 1550", "Made-up 5000",
    ):  # fmt: skip
        assert not is_cpu(name), name
