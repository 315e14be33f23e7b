"""What is printed fits who reads it: ASCII in place of signs that a terminal lacks, silence where nobody reads on."""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNS = str.maketrans(
    {
        **dict.fromkeys("–—─━", "-"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("\u00a0\u2009\u202f", " "),
        "×": "x",
        "·": ".",
        "→": "->",
        "…": "...",
        "✓": "yes",
        "✗": "no",
        "±": "+-",
        "≤": "<=",
        "≥": ">=",
        "²": "^2",
        "ᵀ": "^T",
        "°": " deg ",
        "µ": "u",
        "▲": "^",
        "▼": "v",
        "│": "|",
        "•": "*",
    }
)
_NAME = "quantpay.ascii"  # of the error handler


def fit_terminal() -> None:
    """Let stdout and stderr print every text: what their encoding lacks in ASCII, the rest as an escape (``\\xe4``).

    ``LC_ALL=C`` is taken at its word, where Python takes it for UTF-8.
    """
    codecs.register_error(_NAME, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if _says_ascii() else None, errors=_NAME)


@contextmanager
def quiet_when_nobody_reads() -> Iterator[None]:
    """`--help | head` is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _says_ascii() -> bool:
    """Whether the user names a locale without signs, and no encoding instead of its own."""
    plain = os.environ.get("LC_ALL") in ("C", "POSIX")
    return plain and not any(os.environ.get(name) for name in ("PYTHONIOENCODING", "PYTHONUTF8"))


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_SIGNS)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end
