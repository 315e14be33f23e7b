"""Kernels' switches that are seen in what costs leave, where no source code tells them."""

from collections.abc import Iterator

import pandas as pd

from src.forecasts.costs import Array
from src.forecasts.evidence.kernels import Switch

_JUMP, _JUMPS = 0.25, 2  # in log time, and for how many (K, N) at least: a kernel's switch
_ROWS = 64  # values of M, the commonest, among which a switch is looked for


def seen_switches(cells: pd.DataFrame, left: Array) -> Iterator[tuple[str, Switch]]:
    """Where a scheme's residuals jump between two neighbouring M, for every (K, N) alike: its kernel switches there.

    One that the source code tells has its own already.
    """
    rows = cells.assign(left=left)
    for quant, members in rows[rows["kernel"] == rows["quant"]].groupby("quant", sort=False):
        if switch := jump(members, ["device", "K", "N"]):
            yield str(quant), switch


def jump(rows: pd.DataFrame, layer: list[str]) -> Switch | None:
    """Where residuals jump the most between two neighbouring M, for every layer alike.

    Args:
        rows: with a column `left`, what costs leave of a logarithm.
        layer: columns beside M that tell layers apart.
    """
    common = rows["M"].value_counts().head(_ROWS).index
    table = rows[rows["M"].isin(common)].set_index([*layer, "M"])["left"].unstack("M")
    steps = table.diff(axis=1).iloc[:, 1:]
    alike = (steps.gt(0).sum() == steps.count()) | (steps.lt(0).sum() == steps.count())
    height = steps.mean().abs().where(alike & (steps.count() >= _JUMPS), 0.0)
    if not len(height) or height.max() <= _JUMP:
        return None
    first = int(height.to_numpy().argmax())  # of the steps; its M stands one column on
    return Switch(int(table.columns[first]), int(table.columns[first + 1]))
