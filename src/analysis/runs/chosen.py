"""Rows that are chosen from one frame again and again: of very many each choice is copied once."""

from collections.abc import Callable
from functools import wraps
from weakref import ref

import pandas as pd

_MANY = 2000  # rows; fewer are chosen each time
Choice = Callable[[pd.DataFrame], pd.DataFrame]


def once(choice: Choice) -> Choice:
    """The same with its answers kept as long as the frames that they were chosen from, which nobody changes."""
    known: dict[int, tuple[ref[pd.DataFrame], pd.DataFrame]] = {}

    @wraps(choice)
    def chosen(frame: pd.DataFrame) -> pd.DataFrame:
        if len(frame) < _MANY:
            return choice(frame)
        number = id(frame)
        if number not in known:
            known[number] = ref(frame, lambda _: known.pop(number, None)), choice(frame)
        return known[number][1]

    return chosen
