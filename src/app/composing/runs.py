"""The runs that words would ask for, as typed configurations: for commands that ask about runs and start none."""

from collections.abc import Sequence

from hydra import version
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from src.app.composing.loader import Loader, loader_of_conf
from src.app.composing.sweep_axes import jobs
from src.checks.validation import validate
from src.config.errors import explained
from src.config.schema.root import RootConf, register


def run_configs(words: Sequence[str]) -> list[tuple[RootConf, list[str]]]:
    """Each run of `words`, which are as for `src.run`, with its own words: of listed values every combination.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    with explained():
        loader = _loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        return [(validate(loader.load_sweep_config(master, job)), job) for job in jobs(words, loader)]


def _loader() -> ConfigLoader:
    """Another one, for the primary config is another; over the folders that the command was given."""
    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        return Loader(hydra.config_loader().get_search_path())
    version.setbase("1.3")
    register()
    return loader_of_conf()
