"""What the axes of a sweep take in turn, and what tells its runs apart."""

from collections.abc import Iterator, Sequence
from itertools import product

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType

from src.config.aliases import without_aliases
from src.config.errors import ConfigError


def swept_values(override: Override) -> list[str]:
    """The values that a listed sweep takes in turn; a glob takes options by their own names, not by aliases.

    Raises:
        ConfigError: there is none.
    """
    values = list(override.sweep_string_iterator())
    if override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        taken = values
    else:
        assert override.config_loader is not None
        taken = without_aliases(override.key_or_group, values, override.config_loader)
    if not taken:
        only = f"; aliases are not matched: {', '.join(values)}" if values else ""
        raise ConfigError(f"{override.input_line}: no value to sweep over{only}")
    return taken


def jobs(lines: Sequence[str], loader: ConfigLoader) -> list[list[str]]:
    """The overrides of each job: every combination of the listed values.

    Raises:
        ConfigError: an axis has no listed values, or is Hydra's own.
    """
    overrides = OverridesParser.create(loader).parse_overrides(list(lines))
    axes = {override.get_key_element(): list(_values(override)) for override in overrides}
    return [list(job) for job in product(*axes.values())]


def _values(override: Override) -> Iterator[str]:
    """The overrides that one axis takes in turn."""
    line, key = str(override.input_line), override.get_key_element()
    if not override.is_sweep_override():
        yield line
    elif override.is_hydra_override():
        raise ConfigError(f"{line}: a sweep has one setting of Hydra's own; give a single value")
    elif not override.is_discrete_sweep():
        raise ConfigError(f"{line}: an interval has no listed values; write {key}=1,2,4 or {key}=range(1,5)")
    else:
        yield from (f"{key}={value}" for value in swept_values(override))


def varied(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """For each job of a sweep the keys in which the jobs differ, with its values as on the command line.

    Args:
        jobs: the overrides of each, the same keys in the same order.
    """
    axes = [[override.partition("=") for override in axis] for axis in zip(*jobs, strict=True)]
    differing = [axis for axis in axes if len({value for _, _, value in axis}) > 1]
    return [{key.lstrip("+"): value for key, _, value in job} for job in zip(*differing, strict=True)] or [
        {}
    ] * len(jobs)
