"""What a sweep with a budget measures next: what takes most doubt away, from itself and its neighbours, for its time.

A run's doubt is how improbable its predicted verdict is; all of it where nothing is predicted. A run of one Linear
teaches others of its place (device, compile mode, dtype), the more the nearer their shapes are, and less across
schemes. Any other run teaches itself alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SURE = 0.95  # probability from which on a predicted verdict is known well enough
_MOST_SURE = 0.99  # that is told as a number
_DOUBLINGS = (1.4, 1.0, 1.0)  # of M, K, N within which a shape teaches another
_OTHER_SCHEME = 0.3  # of what it teaches its own
_TOLD_BY = 2  # runs of a scheme, from which on what is not predicted lies too far from them

Array = npt.NDArray[np.float64]
Shape = tuple[int, int, int]  # M, K, N


def sure_text(sure: float) -> str:
    """``87%``; nothing predicted is certain, so beyond 99 % it is ``>99%``."""
    return ">99%" if sure > _MOST_SURE else f"{sure:.0%}"


@dataclass(frozen=True)
class Lesson:
    """A run that may be measured, or was."""

    seconds: float
    sure: float = 0.0  # probability of its predicted verdict; 0: nothing is predicted
    shape: Shape | None = None  # of one Linear
    scheme: str = ""
    place: str = ""  # what must be equal for it to teach others
    group: str = ""  # that it shares a process with; empty: with none

    @property
    def is_open(self) -> bool:
        """Whether its verdict is not known well enough."""
        return self.sure < SURE


def next_lessons(
    to_come: Sequence[Lesson],
    learned: Sequence[Lesson],
    least_s: float,
    most_s: float,
    shared: int = 1,
) -> list[int]:
    """Which runs to measure before anything is predicted anew, in this order.

    Args:
        to_come: that were not measured.
        learned: that were.
        least_s: seconds that they are to take together at least, if there are so many.
        most_s: that each of them, after those before it, must fit in.
        shared: how many at least, of a group; all are of the first one's group.

    Returns:
        Indexes of `to_come`; none where nothing is open, or fits.
    """
    seconds = np.array([each.seconds for each in to_come])
    near, doubt = _near(to_come, to_come), _doubts(to_come, learned)
    free = np.array([each.is_open for each in to_come], dtype=bool)
    chosen: list[int] = []
    spent_s = 0.0
    least = 1
    while spent_s < least_s or len(chosen) < least:
        fits = free & (spent_s + seconds <= most_s)
        if not fits.any():
            break
        gain = np.where(fits, near @ doubt / np.maximum(seconds, 1e-9), -1.0)
        best = int(gain.argmax())
        if not chosen:
            free &= np.array([each.group == to_come[best].group for each in to_come], dtype=bool)
            least = shared if to_come[best].group else 1
        chosen.append(best)
        free[best] = False
        spent_s += float(seconds[best])
        doubt = doubt * (1 - near[best])
    return chosen


def _doubts(to_come: Sequence[Lesson], learned: Sequence[Lesson]) -> Array:
    """How much is not known of each run; where nothing is predicted, measured neighbours take some of it away."""
    doubts = np.array([1 - each.sure for each in to_come])
    if not learned:
        return doubts
    new = np.array([each.sure == 0 and _met(each, learned) < _TOLD_BY for each in to_come], dtype=bool)
    return np.where(new, doubts * (1 - _near(to_come, learned)).prod(axis=1), doubts)


def _met(lesson: Lesson, learned: Sequence[Lesson]) -> int:
    """How many runs of its scheme and place were measured."""
    return sum((each.scheme, each.place) == (lesson.scheme, lesson.place) for each in learned)


def _near(rows: Sequence[Lesson], columns: Sequence[Lesson]) -> Array:
    """How much of the doubt about each row a column would take away: all of its own, nothing of what is apart."""
    found = np.zeros((len(rows), len(columns)))
    told = [np.array([each.shape is not None for each in side], dtype=bool) for side in (rows, columns)]
    if all(each.any() for each in told):
        logs = [
            np.log2(np.array([each.shape or (1, 1, 1) for each in side], dtype=float))
            for side in (rows, columns)
        ]
        apart = (logs[0][:, None] - logs[1][None]) / np.array(_DOUBLINGS)
        near = np.exp(-np.sum(apart**2, axis=2) / 2)
        alike = [_same(rows, columns, name) for name in ("scheme", "place")]
        found = np.where(np.outer(*told), near * np.where(alike[0], 1.0, _OTHER_SCHEME) * alike[1], 0.0)
    if rows is columns:
        np.fill_diagonal(found, 1.0)
    return found


def _same(rows: Sequence[Lesson], columns: Sequence[Lesson], name: str) -> npt.NDArray[np.bool_]:
    one, other = (np.array([getattr(each, name) for each in side], dtype=object) for side in (rows, columns))
    return np.asarray(one[:, None] == other[None], dtype=bool)
