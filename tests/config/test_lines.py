"""What errors say, cut to a line."""

import pytest

from src.config.lines import clipped, first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n a\nb"), "a"),
        (ValueError(), "ValueError"),
        (KeyError(" \n"), r"' \n'"),
        (OSError(" \n"), "OSError"),
    ],
)
def test_of_an_error_the_first_line_is_told_or_its_kind(error, line):
    assert first_line(error) == line


def test_what_is_cut_off_is_seen():
    assert (clipped("abcd", 4), clipped("abcde", 4)) == ("abcd", "abc…")
    assert len(first_line(ValueError("x" * 999))) == 300
