"""What Hydra makes for each file that it composes, made only where it is looked at: half of a composition.

For every list of defaults, 25 in a run, Hydra makes a config of all choices so far: an interpolation in the list may
name them. Hardly any list has one.
"""

from hydra._internal import defaults_list as hydras
from hydra._internal.defaults_list import Overrides
from hydra.core.default_element import InputDefault
from omegaconf import DictConfig

hydras_own = hydras._create_interpolation_map


def choices(overrides: Overrides, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
    """The choices that interpolations among the defaults may name; none where no default is an interpolation."""
    if any(each.is_interpolation() for each in defaults_list):
        return hydras_own(overrides, defaults_list, self_added)
    return DictConfig({})


def install() -> None:
    """Hydra asks `choices` from now on."""
    hydras._create_interpolation_map = choices
