"""Where a kernel was measured, and how far beyond that it is foretold."""

import math

import pandas as pd

from src.forecasts.evidence.cells import SHAPE

_BEYOND = {  # times less, and times more, than what was measured, that is still foretold
    "M": (4.0, 128.0),  # more rows mean more to multiply, and that alone
    "K": (3.0, 3.0),
    "N": (3.0, 3.0),
}
_FEWEST = 2  # cells of a kernel


class Reach:
    """The cells of a kernel, of one device or of all."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.cells = len(rows)
        self.devices = list(dict.fromkeys(rows["device"]))
        self.shapes = set(map(tuple, rows[SHAPE].to_numpy().tolist()))
        self.spans = {side: (int(rows[side].min()), int(rows[side].max())) for side in SHAPE}

    @property
    def few(self) -> bool:
        """Whether they tell no more than the shapes that were measured."""
        return self.cells < _FEWEST

    def too_far(self, name: str, shape: tuple[int, int, int], tile: int) -> str:
        """Why they do not tell a shape: too few, too far from it; empty where they do.

        Args:
            name: the kernel's.
            shape: M, K, N.
            tile: up to so many rows take as long as one; 0: not known.
        """
        if self.few and shape not in self.shapes:
            return f"{self.cells} cell of {name}: at least {_FEWEST} are needed"
        for (side, (less, more)), value in zip(_BEYOND.items(), shape, strict=True):
            low, high = self.spans[side]
            if side == "M" and value <= tile:
                continue  # one tile, of as many rows as there may be
            if not low / less <= value <= high * more:
                times = less if value < low else more
                return (
                    f"{side}={value:,} is more than {times:g} times beyond the "
                    f"{low:,}-{high:,} measured of {name}"
                )
        return ""

    def doublings(self, m: int) -> float:
        """How far above the M that were measured M lies, less what a fit reaches by itself."""
        return max(0.0, math.log2(m / self.spans["M"][1] / _BEYOND["M"][0]))

    def nearest(self, m: int) -> int:
        """The M nearest to it between those that were measured."""
        low, high = self.spans["M"]
        return min(max(m, low), high)
