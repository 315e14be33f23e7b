"""What a flag asks for instead of a run: `--help`, `--list`, `--cfg`, completion and the like."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from src.config.errors import ConfigError

if TYPE_CHECKING:
    from src.app.application import Application


def _help(app: "Application") -> None:
    from src.app.help import application_help, group_help

    groups = [word for word in app.overrides if "=" not in word]
    app.overrides = [word for word in app.overrides if "=" in word]
    whole = [] if groups else [application_help(app.compose(), app.loader, app.prog)]
    print(*whole, *(group_help(group, app.loader) for group in groups), sep="\n")


def _hydra_help(app: "Application") -> None:
    app.hydra.hydra_help(app.config_name, get_args_parser(), app.args)


def _cfg(app: "Application") -> None:
    args = app.args
    if args.package and OmegaConf.select(app.compose(), args.package) is None and args.package != "_global_":
        raise ConfigError(f"--package {args.package}: no such part of the configuration")
    app.hydra.show_cfg(app.config_name, app.overrides, args.cfg, args.package, args.resolve)


def _info(app: "Application") -> None:
    app.compose()  # what is wrong is told before Hydra reports it in its own way
    app.hydra.show_info(app.args.info, app.config_name, app.overrides)


def _completion(app: "Application") -> None:
    from src.app import completion

    command = completion.COMMANDS.get(" ".join(app.overrides))
    if command is None:
        app.hydra.shell_completion(app.config_name, app.overrides)
    else:
        print(command(app.prog, app.loader, app.config_name))


def _version(app: "Application") -> None:
    from src.app.help import versions

    print(versions())


def _list(app: "Application") -> None:
    from src.app.listing import list_schemes

    list_schemes(app.compose, app.loader, app.overrides)


COMMANDS: "dict[str, Callable[[Application], Any]]" = {
    "version": _version,
    "list": _list,
    "help": _help,
    "hydra_help": _hydra_help,
    "cfg": _cfg,
    "info": _info,
    "shell_completion": _completion,
}
