"""What is predicted of whole models as tables: a row per run, and a row per shape of its layers."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from src.config.schema.root import sizes
from src.forecasts.models.asked import AskedModel

_MS = ("baseline_ms", "treated_ms", "rest_ms")


def models_table(models: Iterable[AskedModel]) -> pd.DataFrame:
    """One row per asked run: its axes, what is predicted, where the rest's time is from."""
    rows = []
    for asked in models:
        told, row = asked.forecast, _axes(asked)
        row |= {
            "verdict": told.verdict,
            "speedup": told.speedup,
            "low": told.low,
            "high": told.high,
            "sure": told.sure,
        }
        if (whole := asked.whole) is not None:
            row |= {"bound": whole.bound, "quantized_share": whole.share, "baseline_ms": whole.baseline_ms}
            row |= {"treated_ms": whole.treated_ms, "rest_ms": whole.rest.ms, "rest_from": whole.rest.source}
        notes = asked.whole.notes if asked.whole else []
        rows.append(row | {"reason": "; ".join(filter(None, [told.reason, *notes]))})
    return pd.DataFrame(rows).round({"bound": 4, "quantized_share": 4} | dict.fromkeys(_MS, 4))


def layers_table(models: Iterable[AskedModel]) -> pd.DataFrame:
    """One row per run and shape of its Linear layers; times are of all calls in one call of the model."""
    rows = []
    for asked in models:
        for each in asked.whole.layers if asked.whole else ():
            shape = {"M": each.M, "K": each.K, "N": each.N, "calls": each.calls, "scheme": each.quant}
            times = {"baseline_ms": each.baseline_ms, "treated_ms": each.treated_ms}
            told = {"speedup": each.speedup, "low": each.low, "high": each.high}
            why = f"unknown, counted as unquantized: {each.unknown}" if each.unknown else each.left
            rows.append(_axes(asked) | shape | times | told | {"reason": why})
    return pd.DataFrame(rows).round(dict.fromkeys(_MS[:2], 4))


def _axes(asked: AskedModel) -> dict[str, Any]:
    cfg = asked.cfg
    return {
        "device": asked.place.device, "model": cfg.model.name, "target": cfg.target, **sizes(cfg),
        "dtype": asked.place.dtype, "compile": cfg.compile.name, "quant": asked.quant,
        "layers": cfg.quant.layers.name,
    }  # fmt: skip
