"""Kernels' switches that are seen in what costs leave, where no source code tells them."""

from collections.abc import Iterator

import pandas as pd

from src.forecasts.costs import Array
from src.forecasts.evidence.kernels import Switch

_JUMP, _JUMPS = 0.25, 2  # in log speedup, and for how many (K, N) at least: a kernel's switch
_ROWS = 64  # values of M, the commonest, among which a switch is looked for


def seen_switches(cells: pd.DataFrame, left: Array) -> Iterator[tuple[str, Switch]]:
    """Where a scheme's residuals jump between two neighbouring M, for every (K, N) alike: its kernel switches there.

    The largest jump of a scheme counts; one that the source code tells has its own already.
    """
    rows = cells.assign(left=left)
    for quant, members in rows[rows["kernel"] == rows["quant"]].groupby("quant", sort=False):
        common = members["M"].value_counts().head(_ROWS).index
        among = members[members["M"].isin(common)]
        table = among.set_index(["device", "K", "N", "M"])["left"].unstack("M")
        steps = table.diff(axis=1).iloc[:, 1:]
        alike = (steps.gt(0).sum() == steps.count()) | (steps.lt(0).sum() == steps.count())
        height = steps.mean().abs().where(alike & (steps.count() >= _JUMPS), 0.0)
        if len(height) and height.max() > _JUMP:
            first = int(height.to_numpy().argmax())  # of the steps; its M stands one column on
            yield str(quant), Switch(int(table.columns[first]), int(table.columns[first + 1]))
