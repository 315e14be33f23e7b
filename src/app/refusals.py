"""What of a command line is refused before a configuration is checked: each in one line."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from src.config.errors import ConfigError

# What all runs of a sweep have in common -> why it takes no several values.
_ONE_OF_A_SWEEP = {
    "sweeps": "one sweep at a time, or the parameters of all are lost",
    "outputs": "a sweep has one folder; a path with a comma is quoted: 'outputs=\"a, b\"'",
    "tracking": "a sweep has one tracker",
}


def refuse_several(parsed: Sequence[Override]) -> None:
    """Raises ConfigError: several values for what all runs of a sweep have in common."""
    for override in parsed:
        said = _ONE_OF_A_SWEEP.get(override.key_or_group.partition(".")[0])
        if said and override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: {said}")


def refuse_no_folder(config: DictConfig, key: str) -> None:
    """Raises ConfigError: Hydra could not make this folder, for a file stands at its place or on the way to it."""
    given = OmegaConf.select(config, key, throw_on_missing=True)
    place = Path(str(given)).absolute()
    there = next((each for each in (place, *place.parents) if each.exists()), place)
    if there.is_file():
        raise ConfigError(f"{key}={given}: {there} is a file; give a folder, or leave {key} out")
