"""What a search is asked: its axis, the values along it, and what may not be said beside it."""

import math
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from src.config.errors import ConfigError, accepted
from src.config.schema.search import SearchConf

_DIMS = "model.dims"
_KEY = "hydra.sweeper"
_USUAL = ("batch", "resolution")
FEWEST = 12  # values: a quarter of fewer is not two ends and a point between


def axis_key(axis: str, config: DictConfig) -> str:
    """The key of the axis: as given, or the model's dimension of that name.

    Raises:
        ConfigError: there is no such key, or its value is no whole number.
    """
    dims = OmegaConf.select(config, _DIMS) or {}
    key = f"{_DIMS}.{axis}" if axis in dims and axis not in config else axis
    there = OmegaConf.select(config, key, default=...)
    if there is ...:
        raise ConfigError(f"{_KEY}.axis={axis}: unknown key; {accepted(axis, [*dims, *_USUAL])}")
    if not isinstance(there, int) or isinstance(there, bool):
        raise ConfigError(
            f"{_KEY}.axis={axis}: its value is {_shown(there)}, no whole number; {accepted('', [*dims, *_USUAL])}"
        )
    return key


def values_of(conf: SearchConf) -> list[int]:
    """The values that may be measured.

    Raises:
        ConfigError: there are too few, or they are no range.
    """
    if conf.values:
        return _listed_values(conf.values)
    if len(conf.range) != 2:
        given = ",".join(map(str, conf.range))
        raise ConfigError(f"{_KEY}.range=[{given}]: two whole numbers are wanted: [1,16384]")
    low, high = conf.range
    return axis_values(low, high, conf.resolution, conf.multiple)


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


def _listed_values(values: Sequence[int]) -> list[int]:
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


def refuse_axis(key: str, job: Sequence[str]) -> None:
    """Refuse a job that sets the axis itself.

    Raises:
        ConfigError: it does.
    """
    for override in job:
        if override.partition("=")[0].lstrip("+") == key:
            raise ConfigError(
                f"{override}: is the axis of the search ({_KEY}.axis), which chooses its values; leave it out of the "
                f"command line and of {_KEY}.params"
            )


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return "a set of keys" if OmegaConf.is_config(value) else str(value)
