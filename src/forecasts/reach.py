"""Where a kernel was measured, and how far beyond that it is predicted."""

import pandas as pd

from src.forecasts.evidence.cells import SHAPE

Shape = tuple[int, int, int]  # M, K, N
_BEYOND = {  # times less, and times more, than what was measured, that is still predicted
    "M": (4.0, 4.0),
    "K": (3.0, 3.0),
    "N": (3.0, 3.0),
}
_GROWN = 128.0  # the same above M, where it is known what more rows take: they are more to multiply, and that alone
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

    def too_far(self, name: str, shape: Shape, grows: bool) -> str:
        """Why they do not tell a shape: too few, too far from it; empty where they do.

        Args:
            name: the kernel's.
            shape: the shape.
            grows: whether it is known what many more rows take.
        """
        if self.few and shape not in self.shapes:
            return f"{self.cells} cell of {name}: at least {_FEWEST} are needed"
        for (side, (less, more)), value in zip(_BEYOND.items(), shape, strict=True):
            low, high = self.spans[side]
            most = _GROWN if side == "M" and grows else more
            if not low / less <= value <= high * most:
                times = less if value < low else most
                why = "" if grows or side != "M" or value < low else ", which do not tell what more rows take"
                return (
                    f"{side}={value:,} is more than {times:g} times beyond the "
                    f"{low:,}-{high:,} measured of {name}{why}"
                )
        return ""

    def holds(self, shape: Shape) -> bool:
        """Whether each side of a shape lies between those that were measured."""
        return all(
            low <= value <= high for value, (low, high) in zip(shape, self.spans.values(), strict=True)
        )

    def nearest(self, m: int) -> int:
        """The M nearest to it between those that were measured."""
        low, high = self.spans["M"]
        return min(max(m, low), high)
