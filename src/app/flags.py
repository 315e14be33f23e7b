"""What a flag asks for instead of a run: `--help`, `--list`, `--cfg`, completion and the like."""

from collections.abc import Callable
from typing import Any

from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from src.app.command_line import CommandLine
from src.config.errors import ConfigError


def _help(line: CommandLine) -> None:
    from src.app.help import application_help, group_help

    groups = [word for word in line.overrides if "=" not in word]
    line.overrides = [word for word in line.overrides if "=" in word]
    whole = [] if groups else [application_help(line.compose(), line.loader, line.prog)]
    print(*whole, *(group_help(group, line.loader) for group in groups), sep="\n")


def _hydra_help(line: CommandLine) -> None:
    line.hydra.hydra_help(line.config_name, get_args_parser(), line.args)


def _cfg(line: CommandLine) -> None:
    args = line.args
    if args.package and OmegaConf.select(line.compose(), args.package) is None and args.package != "_global_":
        raise ConfigError(f"--package {args.package}: no such part of the configuration")
    line.hydra.show_cfg(line.config_name, line.overrides, args.cfg, args.package, args.resolve)


def _info(line: CommandLine) -> None:
    line.compose()  # what is wrong is told before Hydra reports it in its own way
    line.hydra.show_info(line.args.info, line.config_name, line.overrides)


def _completion(line: CommandLine) -> None:
    from src.app import completion

    command = completion.COMMANDS.get(" ".join(line.overrides))
    if command is None:
        line.hydra.shell_completion(line.config_name, line.overrides)
    else:
        print(command(line.prog, line.loader, line.config_name))


def _version(line: CommandLine) -> None:
    from src.app.help import versions

    print(versions())


def _list(line: CommandLine) -> None:
    from src.app.listing import list_schemes

    list_schemes(line.compose, line.loader, line.overrides)


COMMANDS: dict[str, Callable[[CommandLine], Any]] = {
    "version": _version,
    "list": _list,
    "help": _help,
    "hydra_help": _hydra_help,
    "cfg": _cfg,
    "info": _info,
    "shell_completion": _completion,
}
