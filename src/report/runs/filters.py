"""What a reader can filter by: a choice per property in which the runs differ, and each element's own properties."""

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from src.analysis.verdicts import status, statuses

_COLUMNS = {
    "model": "model",
    "device": "device",
    "dtype": "dtype",
    "scheme": "quant",
    "batch": "batch",
    "verdict": "",
}


class Filters:
    """The values of each property, numbered; an element names those it has: ``data-f="m0 s3"``."""

    def __init__(self, runs: pd.DataFrame) -> None:
        found = {name: runs[column] for name, column in _COLUMNS.items() if column}
        found["verdict"] = statuses(runs)
        self._numbers: dict[str, dict[str, int]] = {}
        for name, values in found.items():
            known = sorted({value for value in values.unique() if pd.notna(value) and value != ""})
            self._numbers[name] = {str(value): number for number, value in enumerate(known)}

    def attribute(self, row: Any, *names: str) -> str:
        """The attribute of an element that stands for a run, or for what runs have in common.

        Args:
            row: the run's columns, or those of a group of runs.
            names: the properties that the element has; all where none is given.
        """
        tokens = []
        for name in names or _COLUMNS:
            value = str(status(row) if name == "verdict" else row[_COLUMNS[name]])
            number = self._numbers[name].get(value)
            tokens += (
                [f"{_letter(name)}{number}"] if number is not None and len(self._numbers[name]) > 1 else []
            )
        return f' data-f="{" ".join(tokens)}"' if tokens else ""

    def html(self) -> str:
        """The form; empty where the runs differ in nothing. It shows itself where scripts run."""
        choices = "".join(
            _choice(name, numbers) for name, numbers in self._numbers.items() if len(numbers) > 1
        )
        if not choices:
            return ""
        return (
            f'<form class="filters" aria-label="Filters" hidden>{choices}<output aria-live="polite"></output>'
            '<button type="button" hidden>show all</button></form>'
        )


def _choice(name: str, numbers: Mapping[str, int]) -> str:
    options = "".join(
        f'<option value="{_letter(name)}{n}">{escape(value)}</option>' for value, n in numbers.items()
    )
    return f'<label>{name}<select name="{name}"><option value="">all</option>{options}</select></label>'


def _letter(name: str) -> str:
    """One letter per property: dtype is ``t``, for ``d`` is device."""
    return "t" if name == "dtype" else name[0]
