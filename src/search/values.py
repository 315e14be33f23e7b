"""The values that a search may measure along its axis: whole numbers, each about a ratio from the next."""

import math
from collections.abc import Sequence

from src.config.errors import ConfigError

FEWEST = 12  # values: a quarter of fewer is not two ends and a point between
_KEY = "hydra.sweeper"


def axis_values(low: int, high: int, resolution: float, multiple: int = 1) -> list[int]:
    """Both ends, and between them multiples of `multiple` near the powers of `resolution`.

    The powers count from 1, not from `low`, so that searches over overlapping ranges share their runs. Where whole
    numbers are further apart than the ratio, each of them is there.

    Raises:
        ConfigError: the range is empty, or has too few values to search among.
    """
    given = f"{_KEY}.range=[{low},{high}]"
    if not 1 <= low < high:
        raise ConfigError(
            f"{given}: two whole numbers are wanted, the first at least 1 and less than the second"
        )
    if off := [str(end) for end in (low, high) if end % multiple]:
        raise ConfigError(f"{given}: {' and '.join(off)} is no multiple of {_KEY}.multiple={multiple}")
    first, last = (math.log(end) / math.log(resolution) for end in (low, high))
    powers = (resolution**step for step in range(math.ceil(first), math.floor(last) + 1))
    rounded = {multiple * max(1, round(power / multiple)) for power in powers}
    apart = math.sqrt(resolution)  # from the ends, which are there in any case
    between = {value for value in rounded if low * apart < value < high / apart}
    values = sorted({low, high, *between})
    hint = f"{_KEY}.resolution={resolution:g} gives {len(values)} values in it"
    return _enough(values, f"{given}: {hint}", f"a smaller resolution, a wider range, or {_KEY}.multiple=1")


def listed_values(values: Sequence[int]) -> list[int]:
    """The values that a user lists, in order, each once.

    Raises:
        ConfigError: one is below 1, or there are too few to search among.
    """
    given = f"{_KEY}.values=[{','.join(map(str, values))}]"
    if wrong := [value for value in values if value < 1]:
        raise ConfigError(f"{given}: {wrong[0]} is less than 1")
    return _enough(sorted(set(values)), f"{given}: has {len(set(values))}", f"more, or {_KEY}.range")


def _enough(values: list[int], told: str, instead: str) -> list[int]:
    if len(values) < FEWEST:
        raise ConfigError(
            f"{told}, a search wants at least {FEWEST}; list them in a sweep, or give {instead}"
        )
    return values
