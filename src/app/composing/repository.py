"""Hydra's repository of configs, which reads a file once while it stays as it is: parsing is a third of composing."""

import copy
import pickle
from pathlib import Path
from typing import Any, Self

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

from src.config.errors import ConfigError

_Stamp = tuple[object, ...]
_READ: dict[tuple[str, ...], tuple[_Stamp, bytes]] = {}  # pickled: a composition changes what it is given


class Repository(ConfigRepository):
    """The configs of a search path; what was read is kept for the whole process."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Hydra takes a copy per composition, to give it other sources; their content is nobody's to change."""
        return copy.copy(self)

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
                known = _READ[key] = stamp, pickle.dumps(super().load_config(config_path))
            except (PermissionError, UnicodeDecodeError) as error:
                raise ConfigError(f"{_file(source, config_path)}: cannot be read ({error})") from error
        result: ConfigResult = pickle.loads(known[1])  # noqa: S301 - our own bytes
        return result

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
