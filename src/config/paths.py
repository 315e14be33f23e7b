"""A path, or any other text, as Hydra, SQLAlchemy and a shell take it: the one place that quotes."""

import re
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

from hydra.core.override_parser.types import Quote, QuotedString

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, or of what was installed
_SQLITE = "sqlite:///"
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.-]*")  # means itself in an override
_ENCODED = re.compile(r"\?|%(?=[0-9A-Fa-f]{2})")  # in a database's URI
_WORDS = ("null", "true", "false", "nan", "inf")  # but for these
_INSTALLED = "quantpay"  # pyproject.toml: quantpay, quantpay-collect, ...


def config_source(folder: Path) -> str:
    """A folder as an entry of Hydra's search path, which knows no percent-encoding: not `Path.as_uri`."""
    return f"file://{folder.absolute()}"


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


def command(name: str, *arguments: str) -> str:
    """A line for a shell that calls one of the programs, in the way that this process was called.

    Args:
        name: ``run``, ``analyze``, ``collect`` or ``calibrate``.
        arguments: overrides and flags.
    """
    return shlex.join([*_program(name), *arguments])


def this_command() -> list[str]:
    """The words that this process was called by, as a shell can call it again."""
    return [*_program("run"), *sys.argv[1:]]


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


def _program(name: str) -> list[str]:
    called = Path(sys.argv[0])
    if not called.name.startswith(_INSTALLED):
        return ["python", "-m", f"src.{name}"]
    program = called.with_name(_INSTALLED if name == "run" else f"{_INSTALLED}-{name}")
    return [program.name if shutil.which(program.name) else str(program)]
