"""What a search is asked: its axis, the values along it, and what may not be said beside it."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from src.config.errors import ConfigError, accepted
from src.config.schema.search import SearchConf
from src.search.values import axis_values, listed_values

_DIMS = "model.dims"
_KEY = "hydra.sweeper"
_USUAL = ("batch", "resolution")


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
        return listed_values(conf.values)
    if len(conf.range) != 2:
        given = ",".join(map(str, conf.range))
        raise ConfigError(f"{_KEY}.range=[{given}]: two whole numbers are wanted: [1,16384]")
    low, high = conf.range
    return axis_values(low, high, conf.resolution, conf.multiple)


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
