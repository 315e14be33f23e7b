"""Cells that travel with the program, of devices that are not here: `conf/gpu/NAME.csv` beside a card's entry."""

import pandas as pd

from src.config.paths import ROOT
from src.forecasts.evidence.imports import read_imports

_FOLDER = ROOT / "conf" / "gpu"
WHERE = "conf/gpu/"  # how the source of such a cell begins


def known_cells() -> pd.DataFrame:
    """All of them."""
    files = [str(path) for path in sorted(_FOLDER.glob("*.csv"))]
    return read_imports(files, {}).cells.assign(source=lambda rows: WHERE + rows["source"])


def told_of(device: str, beyond: pd.DataFrame, own: int) -> str:
    """What is to be said of forecasts for a device whose cells travelled; empty for any other.

    Args:
        device: by whatever name it has here.
        beyond: the cells that travelled.
        own: how many cells of it were measured here.
    """
    files = beyond.loc[beyond["device"] == device, "source"].unique()
    if not len(files):
        return ""
    if own:
        return (
            f"{own} cells were measured here on {device}; others came with this program ({', '.join(files)})"
        )
    return f"nothing was measured here on {device}: its cells came with this program ({', '.join(files)})"
