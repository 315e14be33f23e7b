"""Cells that travel with the program, of devices that are not here: `conf/gpu/NAME.csv` beside a card's entry."""

from collections.abc import Iterable

import pandas as pd

from src.config.paths import ROOT
from src.forecasts.evidence.cells import is_cpu
from src.forecasts.evidence.imports import read_imports

_FOLDER = ROOT / "conf" / "gpu"
WHERE = "conf/gpu/"  # how the source of such a cell begins


def known_cells(measured: Iterable[str]) -> pd.DataFrame:
    """Those of devices other than the measured ones.

    Args:
        measured: devices with cells of their own, by whatever name they have here (`NVIDIA H200 (140 GiB, 700 W)`).
    """
    files = [str(path) for path in sorted(_FOLDER.glob("*.csv"))]
    cells = read_imports(files, {}).cells
    here = [*measured]
    there = [any(_same(name, other) for other in here) for name in cells["device"]]
    return (
        cells[[not each for each in there]]
        .assign(source=lambda rows: WHERE + rows["source"])
        .reset_index(drop=True)
    )


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
        return f"only {own} cells were measured here on {device}: others came with this program ({files[0]})"
    return f"nothing was measured here on {device}: its cells came with this program ({files[0]})"


def _same(known: str, here: str) -> bool:
    return here == known or (not is_cpu(here) and here.startswith(f"{known} ("))
