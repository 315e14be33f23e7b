"""Hydra's configuration loader, with a check that it lacks and without composing a sweep's common part again."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.app.composing import choices
from src.app.composing.merged import Before, kept, start_of_last_part
from src.app.composing.repository import Repository
from src.checks.input_types import type_inputs
from src.checks.validation import validated
from src.config.aliases import without_aliases
from src.config.errors import ConfigError, accepted
from src.config.paths import ROOT, config_source, literal
from src.config.schema.root import RootConf


@contextmanager
def _composing() -> Iterator[None]:
    """What Hydra and OmegaConf stumble over without a word of their own is a configuration's fault all the same."""
    try:
        yield
    except (AttributeError, TypeError, KeyError, AssertionError) as error:
        if isinstance(error, OmegaConfBaseException):
            raise
        said = str(error).partition("\n")[0]
        raise ConfigError(
            f"the configuration cannot be composed: {type(error).__name__}: {said}; a key or an option has a value "
            "of another kind than its file"
        ) from error


class Loader(ConfigLoaderImpl):
    """Jobs of a sweep that choose the same group options share one composition.

    Composing costs about 0.05 s, applying a job's values to a copy a fifth of that. The result equals Hydra's own
    (tests/app/test_loader.py), whose private functions are used here: hydra-core is pinned.

    ``checked`` holds the jobs of a sweep that were validated and are yet to be launched, by their overrides: pickled,
    as ten thousand of them have to fit in memory.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        choices.install()
        self.repository = Repository(config_search_path)
        self._composed: dict[tuple[str, ...], bytes] = {}
        self.checked: dict[tuple[str, ...], bytes] = {}
        self._overrides: dict[str, Override] = {}
        self._primary: str | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose; an override without a key, or of a group by no name, is refused, which Hydra does not."""
        self._primary = config_name
        for override in OverridesParser.create(self).parse_overrides(overrides):
            if not override.key_or_group:
                raise ConfigError(f"{override.input_line}: no key before the '='; write key=value")
            self._refuse_no_name(override)
        with _composing():
            config = super().load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        _name_places(config)
        return config

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose one job of a sweep, from a copy of what it shares with the others."""
        parsed = self._parsed(sweep_overrides)
        if any(override.is_hydra_override() for override in parsed) or self._has_searchpath(master_config):
            return super().load_sweep_config(master_config, sweep_overrides)
        self.validate_sweep_overrides_legal(parsed, RunMode.RUN, from_shell=True)
        chosen = [self._chooses_option(override) for override in parsed]
        config = self._base(master_config, list(compress(parsed, chosen)))
        with _composing():
            self._apply_overrides_to_config(
                [o for o, choice in zip(parsed, chosen, strict=True) if not choice], config
            )
        config.hydra.overrides.task = list(sweep_overrides)
        naming = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            parsed, naming.exclude_keys, naming.item_sep, naming.kv_sep
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        """Compose the files; then the inputs of the model have their type, whatever nesting they are given in."""
        return kept("typed", defaults, repo, lambda: self._typed(defaults, repo))

    def _typed(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        config = self._merged(defaults, repo)
        type_inputs(config)
        return config

    def _merged(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        """By Hydra, to which the files before the last part of the defaults are one, already merged."""
        start = start_of_last_part(defaults)
        if start:
            first = defaults[:start]
            before = kept("", first, repo, lambda: self._merged(first, repo))
            defaults = [Before(before), *defaults[start:]]
        return super()._compose_config_from_defaults_list(defaults, repo)

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        if isinstance(default, Before):
            return ConfigResult("", "", default.merged, {})
        return super()._load_single_config(default, repo)

    def list_groups(self, parent_name: str) -> list[str]:
        """At the top only the groups that the primary config chooses from: others can't be overridden."""
        names = super().list_groups(parent_name)
        if parent_name or self._primary is None:
            return names
        chosen = self.compute_defaults_list(self._primary, [], RunMode.MULTIRUN).overrides.known_choices
        return [name for name in names if name in chosen or name == "hydra"]

    def _base(self, master: DictConfig, choices: Sequence[Override]) -> DictConfig:
        name = master.hydra.job.config_name
        shared = cast(list[str], OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False))
        overrides = [*shared, *(str(choice.input_line) for choice in choices)]
        key = (name, *overrides)
        if key not in self._composed:
            self._composed[key] = pickle.dumps(self.load_configuration(name, overrides, RunMode.RUN))
        config: DictConfig = pickle.loads(self._composed[key])  # noqa: S301 - our own bytes, copied faster than by deepcopy
        return config

    def _parsed(self, lines: Sequence[str]) -> list[Override]:
        """Each line read once: it stands in many jobs of a sweep."""
        new = [line for line in dict.fromkeys(lines) if line not in self._overrides]
        self._overrides |= zip(new, OverridesParser.create(self).parse_overrides(new), strict=True)
        return [self._overrides[line] for line in lines]

    def _chooses_option(self, override: Override) -> bool:
        return self.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _has_searchpath(self, master: DictConfig) -> bool:
        """Whether groups may exist that `_chooses_option` does not know."""
        return bool(master.hydra.searchpath)

    def _refuse_no_name(self, override: Override) -> None:
        if override.is_sweep_override() or override.is_delete() or not self._chooses_option(override):
            return
        value = override.value()
        if not all(isinstance(name, str) for name in (value if isinstance(value, list) else [value])):
            group = override.key_or_group
            options = accepted(
                str(override.value()), without_aliases(group, self.get_group_options(group), self)
            )
            raise ConfigError(f"{override.input_line}: {group} wants the name of an option; {options}")


def loader_of_conf() -> Loader:
    """A loader of the options that come along."""
    return Loader(create_config_search_path(config_source(ROOT / "conf")))


def _name_places(config: DictConfig) -> None:
    """Hydra notes folders as they are, where an interpolation in a name would be one."""
    runtime = config.hydra.runtime
    runtime.cwd = literal(str(Path.cwd()))
    for source in runtime.config_sources:
        noted: Any = OmegaConf.to_container(source, resolve=False)
        source.path = literal(noted["path"])


def check_job(
    loader: ConfigLoader, master: DictConfig, overrides: Sequence[str], varied: dict[str, str]
) -> None:
    """Compose and validate one job of a sweep; `checked_jobs` then hands it out without doing it again.

    Args:
        varied: what tells it from the other jobs of the sweep.

    Raises:
        ConfigError: it is wrong.
    """
    config = loader.load_sweep_config(master, list(overrides))
    kind = OmegaConf.get_type(config)
    if kind not in (None, dict):
        checked = validated(config, kind)
        if isinstance(checked, RootConf):
            checked = replace(checked, varied=varied)
        if isinstance(loader, Loader):
            loader.checked[tuple(overrides)] = pickle.dumps(checked)


def checked_jobs(
    loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
) -> Iterator[RootConf]:
    """The jobs of a sweep as validated, typed configurations, one after another.

    Raises:
        ConfigError: one was not checked before, and is wrong.
    """
    for overrides in jobs:
        kept = loader.checked.pop(tuple(overrides), None) if isinstance(loader, Loader) else None
        if kept is not None:
            yield pickle.loads(kept)  # noqa: S301 - our own bytes
        else:
            yield validated(loader.load_sweep_config(master, list(overrides)), RootConf)
