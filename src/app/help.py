"""The application's help: its text is `hydra.help` of the primary config, its groups are what `conf/` holds."""

import re
import textwrap
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
_WIDTH = 118


def versions() -> str:
    """The installed versions, found without importing anything heavy."""
    return "\n".join(f"{name} {_version(name)}" for name in _MEASURED)


def application_help(config: DictConfig, loader: ConfigLoader, prog: str) -> str:
    """What `--help` prints."""
    template = Template(config.hydra.help.template)
    text = template.safe_substitute(PROG=prog, GROUPS=_groups(config, loader))
    return re.sub(
        r"python -m src\.(analyze|compare|collect|calibrate)\b", lambda found: command(found[1]), text
    )


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
    return "\n".join(f"{option:{width}}{text}" for option, text in described.items())


def _groups(config: DictConfig, loader: ConfigLoader) -> str:
    chosen = config.hydra.runtime.choices
    groups = [
        str(name)
        for name in reversed(list(chosen))
        if not str(name).startswith("hydra/") and "@" not in str(name)
    ]
    groups += ["hydra/launcher"] if chosen["hydra/launcher"] != "basic" else []
    width = max(map(len, groups), default=0) + 2
    return "\n".join(_group(name, str(chosen[name]), width, loader) for name in groups)


def _group(name: str, chosen: str, width: int, loader: ConfigLoader) -> str:
    options = without_aliases(name, loader.get_group_options(name, ObjectType.CONFIG), loader)
    chosen = aliases(name, loader).get(chosen, chosen)
    listed = " ".join(f"{option}*" if option == chosen else option for option in options)
    head, indent = f"  {name:{width}}", " " * (width + 2)
    return textwrap.fill(
        listed,
        _WIDTH,
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
