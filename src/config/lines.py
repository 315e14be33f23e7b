"""Texts that fit in a line."""


def runs_in_words(number: int) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number:,} run{'' if number == 1 else 's'}"


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of what an error says, at most so many characters; of one that says nothing its kind."""
    lines = str(error).strip().splitlines()
    return clipped(lines[0] if lines else type(error).__name__, most)


def clipped(text: str, most: int = 300) -> str:
    """At most so many characters of a text; an ellipsis stands for the rest."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
