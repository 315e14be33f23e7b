"""Steps of training are predicted by the costs of single matmuls, where enough shapes were measured."""

import numpy as np
import pandas as pd
import pytest

from src.analysis.runs.frame import TRAINING
from src.records.products import products
from src.regimes.training import FEWEST, predicted_steps
from src.regimes.trials import FITTED
from src.report.training.predicted import predicted_html
from tests.forecasts.synthetic import BASE, DEVICE, TREATED

RECIPE = "training/float8_rowwise"
MS, SIDES = (128, 512, 2048, 8192), ((1024, 1024), (3072, 3072), (3072, 12288), (12288, 3072))


def step_us(costs, m: int, k: int, n: int) -> float:
    """The three matmuls of a step, each by the costs of its own shape."""
    return sum(
        float(costs.time_us(np.array([shape], dtype=float))[0]) for shape in products(m, k, n).values()
    )


def steps(ms=MS, sides=SIDES) -> pd.DataFrame:
    rows = []
    for m in ms:
        for k, n in sides:
            base, own = (step_us(costs, m, k, n) / 1e3 for costs in (BASE, TREATED["float8dq"]))
            rows.append({
                "task": TRAINING, "device": DEVICE, "compile": "default", "dtype": "bfloat16", "quant": RECIPE,
                "variant": "", "M": m, "K": k, "N": n, "verdict": "helps", "withheld": False,
                "speedup/ratio": base / own, "speedup/ci_low": base / own * 0.99,
                "speedup/ci_high": base / own * 1.01, "speedup/pooled_error": np.nan,
                "latency/baseline_median_ms": base, "latency/median_ms": own, "started_at": len(rows),
            })  # fmt: skip
    return pd.DataFrame(rows)


def test_shapes_that_were_left_out_are_predicted():
    runs = steps()
    truth = runs["speedup/ratio"]
    assert truth.min() < 0.9 < 1.1 < truth.max(), "else there is nothing to predict"
    found = predicted_steps(runs, 0.02)
    by = {(each.left_out, each.way): each for each in found.trials}
    for left_out in ("one shape", "one (K, N)"):
        trial = by[left_out, FITTED]
        assert trial.error < 0.05
        assert trial.wrong == 0
    assert by["one shape", FITTED].right > by["one shape", "the scheme's majority"].right
    pays = {(each.k, each.n): each.says for each in found.pays}
    for (k, n), says in pays.items():
        asked = [2**i for i in range(4, 18)]
        at = [m for m in asked if step_us(BASE, m, k, n) > 1.02 * step_us(TREATED["float8dq"], m, k, n)]
        told = int(says.removeprefix("M = ").removesuffix(" and more").replace(",", ""))
        assert told == pytest.approx(at[0], rel=1.01), "within one doubling"
    assert "Predicted to pay from" in predicted_html(runs, 0.02)


def test_of_few_shapes_nothing_is_predicted():
    few = steps(ms=(512,))
    assert predicted_steps(few, 0.02).trials == []
    assert f"that needs {FEWEST} shapes of a recipe on one device" in predicted_html(few, 0.02)
    assert predicted_steps(few.assign(task="latency"), 0.02) is None
