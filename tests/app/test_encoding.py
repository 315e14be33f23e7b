"""What is printed fits the terminal: ASCII in place of signs that its encoding lacks, and never an error."""

import io
import sys
from pathlib import Path

import pytest

from src.app.encoding import fit_terminal
from src.run import main

PLAN = ("model=linear", "gpu=cpu", "quant=mxfp8", "plan=true")


class Terminal:
    """Stdout and stderr in one encoding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self.monkeypatch, self.encoding = monkeypatch, encoding

    def run(self, *argv: str) -> tuple[int, str, str]:
        """Status and what came out of `python -m src.run`."""
        streams = {name: io.TextIOWrapper(io.BytesIO(), self.encoding) for name in ("stdout", "stderr")}
        with self.monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["run.py", *argv])
            for name, stream in streams.items():
                patched.setattr(sys, name, stream)
            status = main()
            return status, *(_content(stream) for stream in streams.values())


def _content(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.fixture
def ascii_only(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch, "ascii")


def test_every_command_prints_on_an_ascii_terminal(ascii_only: Terminal, tmp_path: Path) -> None:
    for argv in (("--help",), (*PLAN, f"outputs={tmp_path}"), ("--help", "quant"), ("--list", "gpu=cpu")):
        status, listed, err = ascii_only.run(*argv)
        assert (status, err) == (0, ""), argv
        assert listed.isascii(), argv
    assert "K.N%16384" in listed
    assert " -> a GPU with float8" in listed


def test_a_sign_that_the_encoding_has_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    latin = Terminal(monkeypatch, "latin-1")
    status, out, err = latin.run(*PLAN, "dtype=bfloat16", 'model.name="größe×"', f"outputs={tmp_path}")
    assert (status, err) == (0, "")
    assert "model=größe×" in out
    assert " -> " in out


def test_a_mistake_is_one_line_whatever_the_user_typed(ascii_only: Terminal) -> None:
    for typed in ("größe", "→", "\udcff"):  # the last: a byte that is no text
        status, out, err = ascii_only.run(f"quant={typed}")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("error: ")
    assert "gr\\xf6\\xdfe" in ascii_only.run("quant=größe")[2]


@pytest.mark.parametrize(
    ("variables", "encoding"),
    [
        ({"LC_ALL": "C"}, "ascii"),
        ({"LC_ALL": "POSIX"}, "ascii"),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}, "utf-8"),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, "utf-8"),
        ({"LC_ALL": "C.UTF-8"}, "utf-8"),
        ({"LC_ALL": ""}, "utf-8"),
    ],
)
def test_a_plain_locale_is_taken_at_its_word(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], encoding: str
) -> None:
    for name in ("LC_ALL", "PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    fit_terminal()
    print("2.00× 1.9–2.1 · ✓ größe", end="")
    told = "2.00x 1.9-2.1 . yes gr\\xf6\\xdfe" if encoding == "ascii" else "2.00× 1.9–2.1 · ✓ größe"
    assert (stream.encoding, _content(stream)) == (encoding, told)


def test_other_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    fit_terminal()
    print("×", end="")
    assert stream.getvalue() == "×"
