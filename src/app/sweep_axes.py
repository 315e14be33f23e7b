"""What the axes of a sweep take in turn, and what tells its runs apart."""

from collections.abc import Sequence

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
