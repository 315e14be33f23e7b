"""Aliases: an option whose file says nothing but which other option it stands for, ``defaults: [int8wo]``.

Being files, they compose wherever Hydra takes an option (command line, sweeps, sweep files, defaults lists), tab
completion knows them, and a user adds one as any option. What is composed has the other option's name, so a record is
never kept under an alias.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType

_ALIAS = re.compile(r"(?:#.*\n)*defaults: *\[ *([\w.-]+) *\]\s*")


def aliases(group: str, loader: ConfigLoader) -> dict[str, str]:
    """Alias -> the option it stands for, among a group's options."""
    found = {option: _stands_for(group, option, loader) for option in _options(group, loader)}
    return {option: other for option, other in found.items() if other}


def without_aliases(group: str, options: Iterable[str], loader: ConfigLoader) -> list[str]:
    """The options that are no aliases, in their order."""
    other_names = aliases(group, loader)
    return [option for option in options if option not in other_names]


def option_text(group: str, option: str, loader: ConfigLoader) -> str:
    """The content of the option's file, from the first source that holds it; empty where there is none."""
    folders = [Path(source.path) for source in loader.get_sources() if source.scheme() == "file"]
    files = [folder / group / f"{option}.yaml" for folder in folders]
    return next((_text(file) for file in files if file.is_file()), "")


def _text(file: Path) -> str:
    """What can be read of it: whoever chooses the option is told the rest."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except PermissionError:
        return ""


def _options(group: str, loader: ConfigLoader) -> list[str]:
    return loader.get_group_options(group, ObjectType.CONFIG)


def _stands_for(group: str, option: str, loader: ConfigLoader) -> str:
    match = _ALIAS.fullmatch(option_text(group, option, loader))
    return match[1] if match else ""
