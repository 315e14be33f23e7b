"""Whole models predicted from single layers, against what was measured of them: the table of docs/regimes.md.

    python -m benchmarks.whole_models              the published runs of FLUX.1-dev on an H100 and an H200

Each is predicted twice: from the layers' grid alone, and with the measured time of the unquantized call beside it.
"""

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from src.app.composing.runs import run_configs
from src.forecasts.evidence.imports import read_imports
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.asked import ModelForecaster

PUBLISHED = Path(__file__).resolve().parents[1] / "outputs" / "published"
RUNS = (  # a published device and its table of runs
    ("nvidia-h100-80gb-hbm3", "denoisers.csv"),
    ("nvidia-h100-80gb-hbm3", "verdicts.csv"),
    ("nvidia-h200", "verdicts.csv"),
)
NAMES = {  # of columns in the table of the H100's runs
    "speedup": "speedup/ratio",
    "baseline_ms": "latency/baseline_median_ms",
    "treated_ms": "latency/median_ms",
}
HEAD = "device | quant, layers | measured | from the grid alone | off | ms | with the measured call | off"
MARGIN = 0.02
FIELD_DEFAULT = 494  # layers of FLUX.1-dev that field_default leaves to a scheme


def runs_of(folder: str, table: str) -> pd.DataFrame:
    """The measured runs of a device, with the preset of layers of each."""
    rows = pd.read_csv(PUBLISHED / folder / table).rename(columns=NAMES).copy()
    if "target" in rows:
        rows = rows[rows["target"] == "denoiser"].reset_index(drop=True)
    preset = (
        rows["layers"] == FIELD_DEFAULT if "layers" in rows else rows["variant"].str.contains("field_default")
    )
    rows = rows.assign(layers=preset.map({True: "field_default", False: "all"}), M=None, withheld=False)
    rows = rows.assign(task=rows.get("task", "inference"))
    started = rows.get("started_at", "2026-11-26")
    return rows.assign(started_at=pd.to_datetime(started, utc=True))


def words_of(row: Mapping[Hashable, Any]) -> list[str]:
    """What a run of the tables was told: `regional + fused_qkv` is a compile mode and keys of the recipe."""
    mode, *recipe = row["compile"].split(" + ")
    words = [f"model={row['model']}", f"quant={row['quant']}", f"layers={row['layers']}", f"compile={mode}"]
    return [*words, *(f"recipe.{key}=true" for key in recipe)]


def predicted(folder: str, runs: pd.DataFrame, alone: bool) -> list[tuple[float, float, float, float]]:
    """Speedup, low, high and milliseconds unquantized of each run."""
    cells = read_imports([str(PUBLISHED / folder / "linear_grid.csv")], {}).cells
    known = runs.assign(device=cells["device"].iloc[0])
    predict = ModelForecaster(
        Knowledge(cells, MARGIN, known=cells.iloc[:0]), known.iloc[:0] if alone else known
    )
    found = []
    for row in runs.to_dict("records"):
        asked = predict(*run_configs(words_of(row))[0])
        assert asked.whole is not None
        told = asked.forecast
        found.append((told.speedup, told.low, told.high, asked.whole.baseline_ms))
    return found


def main() -> None:
    """Print the table."""
    print(f"| {HEAD} |\n|{'---|' * (HEAD.count('|') + 1)}")
    for folder, table in RUNS:
        runs = runs_of(folder, table)
        told_alone, told_beside = predicted(folder, runs, True), predicted(folder, runs, False)
        for row, alone, beside in zip(runs.to_dict("records"), told_alone, told_beside, strict=True):
            measured = row["speedup/ratio"]
            known = math.isfinite(alone[0])
            off = [f"{found[0] / measured - 1:+.1%}" if known else "" for found in (alone, beside)]
            told = f"{alone[0]:.3f} ({alone[1]:.2f}–{alone[2]:.2f})" if known else "unknown"
            ms = f"{alone[3]:.1f} for {row['latency/baseline_median_ms']:.1f}"
            device = " ".join(folder.split("-")[:2]).upper()
            of = [f"`{row['quant']}`", *words_of(row)[4:], row["layers"], *({row["model"]} - {"flux-dev"})]
            cells = [device, ", ".join(of), f"{measured:.3f}", told, off[0], ms]
            print(f"| {' | '.join([*cells, f'{beside[0]:.3f}' if known else '', off[1]])} |")


if __name__ == "__main__":
    main()
