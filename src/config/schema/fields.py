"""Fields of the configuration's dataclasses: their metadata is data for two readers.

`src.checks.validation` reads ``min``, ``max`` and ``choices``, and `src.records.key` reads ``key``: a field with
``key=False`` cannot change a measured number, so it is not part of the run key; one with ``key=GIVEN`` is part of it
where it is not at its default, so that runs that do not have it keep their key.
"""

from dataclasses import field
from typing import Any

GIVEN = "given"


def bounded(default: Any, *, min: float | None = None, max: float | None = None, key: bool = True) -> Any:
    """A number within bounds, both included."""
    return field(default=default, metadata={"min": min, "max": max, "key": key})


def one_of(default: Any, *choices: str) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"choices": choices})


def aside(default: Any) -> Any:
    """A field outside the run key; mutable defaults are given as factories."""
    if callable(default):
        return field(default_factory=default, metadata={"key": False})
    return field(default=default, metadata={"key": False})
