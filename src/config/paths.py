"""A path, or any other text, as Hydra, SQLAlchemy and a shell take it: the one place that quotes."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString

from src.config.errors import ConfigError
from src.config.tracking_uri import without_password

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or of what was installed
COMMAND_LINE = "command-line"  # who names a folder of configs by --config-dir
_FILE = "file://"
_SQLITE = "sqlite:///"
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.-]*")  # means itself in an override
_NO_WORD = re.compile(r"[^A-Za-z0-9_ \t/+.$%*@?|:-]")  # of Hydra's grammar, outside of quotes
_STRUCTURED = re.compile(
    r"""['"\[\]{}()]"""
)  # a value with one of these says itself what is text, but for a path
_PATH = re.compile(r"\s*\.{0,2}/")  # nothing else that Hydra reads begins so
_INTERPOLATION = re.compile(r"\$\{[^}]*\}")
_HOME = re.compile(
    r"""(?<=[=,:\[{'"])~(?=/)|(?<=[:,] )~(?=/)|(?<=[=,])~$"""
)  # a shell leaves it, and Hydra does not know it
_ENCODED = re.compile(r"\?|%(?=[0-9A-Fa-f]{2})")  # in a database's URI
_WORDS = ("null", "true", "false", "nan", "inf")  # but for these
_PYTHON = "python"
_INSTALLED = "quantpay"  # pyproject.toml: quantpay, quantpay-collect, ...


def config_source(folder: Path) -> str:
    """A folder as an entry of Hydra's search path, which knows no percent-encoding: not `Path.as_uri`."""
    return f"{_FILE}{folder.absolute()}"


def config_folders() -> list[Path]:
    """The folders on disk that this command looks for configurations in, that of `--config-dir` first.

    Where no command is under way: `conf`.
    """
    return [folder for _, folder in _config_places()] or [ROOT / "conf"]


def config_dir_flag() -> list[str]:
    """What a command needs to be told to find the configurations of this one's `--config-dir`, if it has one."""
    given = [folder for provider, folder in _config_places() if provider == COMMAND_LINE]
    return [word for folder in given for word in ("--config-dir", str(folder))]


def _config_places() -> list[tuple[str, Path]]:
    """Hydra's search path, as far as it is of folders: who named each, and it."""
    hydra = GlobalHydra.instance()
    if not hydra.is_initialized():
        return []
    path = hydra.config_loader().get_search_path().get_path()
    named = [(str(each.provider), each.path or "") for each in path]
    return [(provider, Path(at.removeprefix(_FILE))) for provider, at in named if at.startswith(_FILE)]


def literal(text: str) -> str:
    """Text that OmegaConf resolves to just this: what looks like an interpolation is none."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1]}{found[1]}\\${{", text)


def override(key: str, value: str | Path) -> str:
    """The override that sets a key to this very text; not yet quoted for a shell."""
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return f"{key}={text}"
    marks = Quote.single if '"' in text else Quote.double  # so that a shell's single ones go around
    return f"{key}={QuotedString(literal(text), marks).with_quotes()}"


def readable(override: str) -> str:
    """An override as a person types it, as one that Hydra reads: ``outputs=~/größe #1 (2)`` with home, and in quotes.

    Only what Hydra's grammar has no place for is taken for text; what has a meaning there keeps it.

    Raises:
        ConfigError: there is no home folder to put in place of ``~``.
    """
    key, equals, value = _HOME.sub(lambda _: home(override), override).partition("=")
    signs, several = _INTERPOLATION.sub("", value), value.split(",")
    if "\\" in value or (signs != value and several[1:]):
        return key + equals + value
    if _STRUCTURED.search(signs) and not all(_PATH.match(each) for each in several):
        return key + equals + value
    return key + equals + ",".join(_quoted(each.strip()) for each in several)


def _quoted(text: str) -> str:
    signs = _INTERPOLATION.sub("", text)
    meant = _NO_WORD.search(signs) or _STRUCTURED.search(signs)
    marks = Quote.single if '"' in text else Quote.double
    return QuotedString(text, marks).with_quotes() if meant else text


def home(wanted_by: str) -> str:
    """The user's home folder.

    Raises:
        ConfigError: there is none, as in a container with a user that nobody knows; `wanted_by` says what needs it.
    """
    try:
        return str(Path.home())
    except RuntimeError as error:
        raise ConfigError(f"{wanted_by}: there is no home folder for ~; give the whole path") from error


def at_home(path: str) -> str:
    """A path with home in place of ``~``; as it is, where nobody knows of one."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's raises


def command(name: str, *arguments: str) -> str:
    """A line for a shell that calls one of the programs, in the way that this process was called.

    Args:
        name: ``run``, ``analyze``, ``collect`` or ``calibrate``.
        arguments: overrides and flags.
    """
    return shlex.join([*_program(name), *arguments])


def this_command() -> list[str]:
    """The words that this process was called by, as a shell can call it again; but for passwords."""
    return [*_program("run"), *map(without_password, sys.argv[1:])]


def outputs_argument(outputs: Path) -> list[str]:
    """What a command needs to be told to find these outputs; nothing where it looks there anyway."""
    return [] if outputs.resolve() == Path("outputs").resolve() else [override("outputs", outputs)]


def database_uri(path: str | Path) -> str:
    """A SQLite database as SQLAlchemy and MLflow name it; a relative path stays relative.

    Encoded is only what would mean something else: MLflow makes a database's folder, and does not decode.
    """
    return _SQLITE + _ENCODED.sub(lambda found: f"%{ord(found[0]):02X}", str(path))


def database_path(uri: str) -> Path | None:
    """The file of a SQLite database; None for any other tracker."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0]))


def in_environment(name: str) -> list[str]:
    """How a shell calls a program of this Python's environment: Python itself, or one that is also a module.

    By its name where the shell finds it so, as in an activated environment, else by the path of this Python.
    """
    found, own = shutil.which(name), Path(sys.executable)
    if found is not None and Path(found).parent.samefile(own.parent):
        return [name]
    if name != _PYTHON:
        return [*in_environment(_PYTHON), "-m", name]
    here = Path.cwd()
    return [str(own.relative_to(here) if own.is_relative_to(here) else own)]


def _program(name: str) -> list[str]:
    called = Path(sys.argv[0])
    if not called.name.startswith(_INSTALLED):
        return [*in_environment(_PYTHON), "-m", f"src.{name}"]
    program = called.with_name(_INSTALLED if name == "run" else f"{_INSTALLED}-{name}")
    return [program.name if shutil.which(program.name) else str(program)]
