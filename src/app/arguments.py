"""The flags of the command line: Hydra's, with our errors; and the folders of configs they name."""

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery

from src.config.errors import ConfigError
from src.config.paths import COMMAND_LINE, config_source, readable


def parse(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """Hydra's flags and overrides, in any order (`quant=x -m batch=1,2`).

    Raises:
        ConfigError: a flag is unknown or lacks its value; an override has ``~``, and there is no home.
    """
    parser = _Parser(prog, parents=[get_args_parser()], conflict_handler="resolve", add_help=False)
    parser.add_argument("--version", action="store_true", help="Versions of quantpay and of what it measures")
    parser.add_argument(
        "--list", action="store_true", help="Every quantization scheme, and whether it runs here"
    )
    args = parser.parse_intermixed_args(argv)
    args.overrides = [readable(each) for each in args.overrides]
    if args.experimental_rerun:
        raise ConfigError("--experimental-rerun: not supported; a run's folder holds its config.yaml")
    return args


def search_path(args: argparse.Namespace, conf: Path) -> ConfigSearchPath:
    """Where configs are looked for: `--config-dir`, then `conf` or what `--config-path` names instead.

    Raises:
        ConfigError: there is no such folder.
    """
    primary = _folder("--config-path", args.config_path) if args.config_path else conf
    path = create_config_search_path(config_source(primary))
    if args.config_dir:
        extra = config_source(_folder("--config-dir", args.config_dir))
        path.prepend(COMMAND_LINE, extra, SearchPathQuery(provider="main"))
    return path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self._meant(message)}see {self.prog} --help")

    def _meant(self, message: str) -> str:
        """What an unknown flag may stand for: another flag, or a key, which has no dashes."""
        unknown = re.match(r"unrecognized arguments: (--[\w.]+)", message)
        if unknown is None:
            return ""
        near = get_close_matches(unknown[1], self._option_string_actions, n=1)
        return f"did you mean {near[0]}?; " if near else f"a key has no dashes: {unknown[1][2:]}=...; "


def _folder(flag: str, path: str) -> Path:
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise ConfigError(f"{flag} {path}: no such folder")
    return folder
