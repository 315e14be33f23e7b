"""Hydra's repository of configs, which reads a file once while it stays as it is: parsing is a third of composing."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import Container, OmegaConf

from src.config.errors import ConfigError

_Stamp = tuple[object, ...]
_READ: dict[tuple[str, ...], tuple[_Stamp, ConfigResult, bytes]] = {}  # all but the content, and the content


class _Read(ConfigResult):
    """A config as it was read; its content is a copy, as compositions change it, made when it is first looked at."""

    def __init__(self, read: ConfigResult, content: bytes) -> None:
        super().__init__(**vars(read))
        self._content: Container | bytes = content

    @property
    def config(self) -> Container:
        if isinstance(self._content, bytes):
            self._content = pickle.loads(self._content)  # noqa: S301 - our own bytes
        return cast(Container, self._content)

    @config.setter
    def config(self, config: Container) -> None:
        self._content = config


class Repository(ConfigRepository):
    """The configs of a search path: what was read is kept for the process, where it was for a composition."""

    _found: dict[tuple[str, ObjectType | None], ConfigSource | None] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Hydra takes a copy per composition, to give it other sources; their content is nobody's to change."""
        copied = copy.copy(self)
        copied._found = {}
        return copied

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look in these places; what was found in others is looked for again."""
        super().initialize_sources(config_search_path)
        self._found = None if self._found is None else {}

    def _find_object_source(self, config_path: str, object_type: ObjectType | None) -> ConfigSource | None:
        if self._found is None:
            return super()._find_object_source(config_path, object_type)
        key = config_path, object_type
        if key not in self._found:
            self._found[key] = super()._find_object_source(config_path, object_type)
        return self._found[key]

    def load_config(self, config_path: str) -> ConfigResult | None:
        """The config, from the first source that has it; None where none has.

        Raises:
            ConfigError: it may not be read, or is not UTF-8.
        """
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        stamp = _stamp(source, config_path) if source else None
        if source is None or stamp is None:
            return super().load_config(config_path)
        key = _place(source, config_path)
        known = _READ.get(key)
        if known is None or known[0] != stamp:
            try:
                read = super().load_config(config_path)
            except (PermissionError, UnicodeDecodeError) as error:
                raise ConfigError(f"{_file(source, config_path)}: cannot be read ({error})") from error
            assert read is not None
            known = _READ[key] = stamp, replace(read, config=OmegaConf.create()), pickle.dumps(read.config)
        return _Read(*known[1:])

    def state(self, config_path: str) -> _Stamp | None:
        """Where the config is from, and what is another once its content is; None where that can't be told."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        stamp = _stamp(source, config_path) if source else None
        return None if source is None or stamp is None else (*_place(source, config_path), *stamp)


def _place(source: ConfigSource, config_path: str) -> tuple[str, ...]:
    return source.scheme(), source.path, source.provider, config_path


def _stamp(source: ConfigSource, config_path: str) -> _Stamp | None:
    """Another one once the content is another; None where that can't be told."""
    if source.scheme() == "pkg":
        return ()
    if source.scheme() == "structured":
        return (ConfigStore.instance()._load(source._normalize_file_name(config_path)),)
    if source.scheme() != "file":
        return None
    found = _file(source, config_path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _file(source: ConfigSource, config_path: str) -> Path:
    return Path(source.path, source._normalize_file_name(config_path))
