"""What a sweep was asked: the words of its command that hold for each run, and what its file in sweeps/ says."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from src.app.arguments import parse
from src.config.errors import ConfigError
from src.config.paths import ROOT, config_dir_flag, override
from src.records.record import RecordError
from src.records.store import MANIFEST_NAME, read_manifest, sweep_folder

_FLAG = "--config-dir"
_MODULE = "src.run"  # of ``python -m src.run``; else the first word is the program
_OVERRIDES = "override /"
_SEARCHES = "hydra/sweeper"


@dataclass(frozen=True)
class Asked:
    """The overrides of a command, as typed, and the folder of configs that it was given."""

    words: Sequence[str] = ()
    folder: str | None = None

    @property
    def flags(self) -> list[str]:
        """What a command needs to be told to find the same configurations."""
        return config_dir_flag() or ([_FLAG, self.folder] if self.folder else [])

    def file(self, name: str) -> "SweepFile | None":
        """A file in sweeps/; None: there is none to be read."""
        own = [Path(folder) for folder in [*self.flags[1::2], *([self.folder] if self.folder else [])]]
        return next(
            filter(None, (_sweep_file(folder / "sweeps" / f"{name}.yaml") for folder in [*own, ROOT])), None
        )


@dataclass(frozen=True)
class SweepFile:
    """What a file in sweeps/ fixes, as words; its axes as it names them; whether it searches instead of sweeping."""

    words: Sequence[str] = field(default_factory=tuple)
    axes: Sequence[str] = field(default_factory=tuple)
    searches: bool = False


@cache
def asked(sweep: str, outputs: Path) -> Asked:
    """The command that started a sweep; nothing where that is not known."""
    try:
        words = read_manifest(sweep_folder(outputs, sweep) / MANIFEST_NAME).command
        start = words.index(_MODULE) if _MODULE in words else 0
        args = parse(words[start + 1 :], "run")
    except (OSError, RecordError, ConfigError):
        return Asked()
    return Asked([word for word in args.overrides if "=" in word or word.startswith("~")], args.config_dir)


@cache
def takes_several(word: str) -> bool:
    """Whether an override is an axis of a sweep."""
    try:
        return bool(OverridesParser.create().parse_override(word).is_sweep_override())
    except (HydraException, ConfigError):
        return False


@cache
def _sweep_file(path: Path) -> SweepFile | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        hydra = content.pop("hydra", {})
        groups = dict(_groups(content.pop("defaults", [])))
        axes = [str(name) for name in hydra["sweeper"].get("params") or {}]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    chosen = [f"{name}={option}" for name, option in groups.items() if not name.startswith("hydra/")]
    return SweepFile([*chosen, *_leaves(content)], axes, _SEARCHES in groups)


def _groups(defaults: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for each in defaults:
        if isinstance(each, dict):
            yield from ((str(name).removeprefix(_OVERRIDES), str(option)) for name, option in each.items())


def _leaves(content: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in content.items():
        key = f"{before}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        elif isinstance(value, str):
            yield f"{key}={value}" if "${" in value else override(key, value)
        else:
            yield f"{key}={json.dumps(value)}"
