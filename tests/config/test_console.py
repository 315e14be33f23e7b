"""Tables where nobody's screen sets a width, and where one does."""

import io

import pytest
from rich.table import Table

from src.config.console import Terminal

PATH = "/data/" + "a-rather-long-folder/" * 6 + "checkpoint.safetensors"
PROSE = "every word of it " * 20


class Screen(io.StringIO):
    """A terminal of its own."""

    def isatty(self) -> bool:
        return True


def table() -> Table:
    made = Table(box=None)
    for head in ("workload", "treatment", "weights"):
        made.add_column(head, overflow="fold")
    made.add_row("a-model-of-ones-own b16 1024px", "float8_e4m3_row_with_layers · regional", PATH)
    return made


@pytest.mark.parametrize("screen", [True, False], ids=["screen", "pipe"])
def test_a_table_in_a_pipe_breaks_no_word_and_prose_keeps_its_width(screen: bool) -> None:
    out = Screen() if screen else io.StringIO()
    console = Terminal(file=out, width=100, color_system=None)
    console.print(table(), "")
    console.print(PROSE)
    lines = out.getvalue().splitlines()
    assert (
        any(PATH in line and "float8_e4m3_row_with_layers · regional" in line for line in lines) is not screen
    )
    prose = [line for line in lines if "every" in line or "word" in line]
    assert len(prose) == 4
    assert max(map(len, prose)) <= 100


def test_a_verdict_in_a_pipe_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where colours are asked for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    Terminal(file=out, width=100).print(table())
    assert len(out.getvalue().splitlines()) == 2


def test_a_sentence_in_a_cell_in_a_pipe_goes_on_below_at_a_word() -> None:
    out, without = io.StringIO(), io.StringIO()
    made = table()
    made.add_row("a-model", "int8wo", f"{PROSE}{PATH} once")
    for each, file in ((made, out), (table(), without)):
        Terminal(file=file, width=100).print(each)
    wide, lines = (file.getvalue().splitlines() for file in (without, out))
    assert max(map(len, lines)) == max(map(len, wide))
    assert sum(line.count(PATH) for line in lines) == 2
    assert PROSE.strip() in " ".join(out.getvalue().split())


@pytest.mark.parametrize("long", [1, 30])
def test_a_sentence_makes_no_row_wider_than_a_line_of_text(long: int) -> None:
    out = io.StringIO()
    made = Table(box=None)
    made.add_column("outcome")
    made.add_column("why", overflow="fold")
    made.add_row("oom", "every word of it " * long)
    Terminal(file=out, width=1000).print(made)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 100
    assert len(lines) == (2 if long == 1 else 8)
