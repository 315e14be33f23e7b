"""The application's help: its text is `hydra.help` of the primary config, its groups are what `conf/` holds."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from string import Template

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

from src.config.aliases import aliases, option_text, without_aliases
from src.config.errors import ConfigError, accepted
from src.config.paths import command

_MEASURED = ("quantpay", "torch", "torchao", "diffusers", "transformers", "hydra-core", "mlflow")
_WIDTH = 118  # of the text as it is written
_FULL = 90  # characters of a line that was broken, not ended
_LEAST_WIDTH = 50
_NAMED = re.compile(r"\s*\S.*?\s{2,}(?=\S)")  # of a line what comes before its description
_COMMAND = re.compile(r"\s+\S*(python|quantpay)\S* ")


def versions() -> str:
    """The installed versions, found without importing anything heavy."""
    return "\n".join(f"{name} {_version(name)}" for name in _MEASURED)


def application_help(config: DictConfig, loader: ConfigLoader, prog: str) -> str:
    """What `--help` prints."""
    template = Template(config.hydra.help.template)
    width = min(_WIDTH, terminal_width() or _WIDTH)
    text = template.safe_substitute(PROG=prog, GROUPS=_groups(config, loader, width))
    text = re.sub(
        r"python -m src\.(analyze|compare|collect|calibrate)\b", lambda found: command(found[1]), text
    )
    return fitted(text, width) if width < _WIDTH else text


def group_help(group: str, loader: ConfigLoader) -> str:
    """What `--help GROUP` prints: each option with its description.

    Raises:
        ConfigError: there is no such group.
    """
    options = loader.get_group_options(group, ObjectType.CONFIG)
    if not options:
        raise ConfigError(f"--help {group}: no such group; {accepted(group, loader.list_groups(''))}")
    width = max(map(len, options)) + 2
    other_names = aliases(group, loader)
    described = {
        option: f"alias of {other_names[option]}"
        if option in other_names
        else _description(group, option, loader)
        for option in options
    }
    lines = "\n".join(f"{option:{width}}{text}" for option, text in described.items())
    columns = terminal_width()
    return fitted(lines, columns) if columns else lines


def terminal_width() -> int | None:
    """Columns of the terminal that is printed to, or of the variable COLUMNS; None where there is neither."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return max(_LEAST_WIDTH, shutil.get_terminal_size().columns)


def fitted(text: str, width: int) -> str:
    """Text with its long lines broken: each goes on below its own description; commands stay whole."""
    found: list[str] = []
    for line in _paragraphs(text.splitlines()):
        if len(line) <= width or _COMMAND.match(line):
            found.append(line)
            continue
        head = line[: _description_at(line)]
        hanging = " " * (len(head) if len(head) < width // 2 else 4)
        found += textwrap.wrap(line[len(head) :], width, initial_indent=head, subsequent_indent=hanging,
                               break_on_hyphens=False, break_long_words=False)  # fmt: skip
    return "\n".join(found)


def _description_at(line: str) -> int:
    """Where a line's description begins, behind its name and two spaces; of one without a name its indent."""
    told = _NAMED.match(line)
    return len(told[0]) if told else len(line) - len(line.lstrip())


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Lines, those joined that go on where the line before was full: with its indent, or below its description."""
    joined, *rest = lines or [""]
    for line in rest:
        goes_on = line.strip() and len(joined) > _FULL and not _NAMED.match(line)
        if goes_on and len(line) - len(line.lstrip()) == _description_at(joined):
            joined = f"{joined} {line.strip()}"
            continue
        yield joined
        joined = line
    yield joined


def _groups(config: DictConfig, loader: ConfigLoader, columns: int) -> str:
    chosen = config.hydra.runtime.choices
    groups = [
        str(name)
        for name in reversed(list(chosen))
        if not str(name).startswith("hydra/") and "@" not in str(name)
    ]
    groups += ["hydra/launcher"] if chosen["hydra/launcher"] != "basic" else []
    width = max(map(len, groups), default=0) + 2
    return "\n".join(_group(name, str(chosen[name]), width, loader, columns) for name in groups)


def _group(name: str, chosen: str, width: int, loader: ConfigLoader, columns: int) -> str:
    options = without_aliases(name, loader.get_group_options(name, ObjectType.CONFIG), loader)
    chosen = aliases(name, loader).get(chosen, chosen)
    listed = " ".join(f"{option}*" if option == chosen else option for option in options)
    head, indent = f"  {name:{width}}", " " * (width + 2)
    return textwrap.fill(
        listed,
        columns,
        initial_indent=head,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _description(group: str, option: str, loader: ConfigLoader) -> str:
    """The option's key `description`, else the comments at its head, from the first source that holds it."""
    text = option_text(group, option, loader)
    if described := re.search(r"^description: *(.*)", text, flags=re.MULTILINE):
        return described[1]
    head = takewhile(lambda line: line.startswith("#"), text.splitlines())
    comments = [line.lstrip("# ") for line in head if not re.match(r"# *@", line)]
    return " ".join(" ".join(comments).split())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"
