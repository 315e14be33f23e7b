"""Rules and their tests as they were last learned: of very many cells a few new ones change neither."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.config.program import program
from src.forecasts.evidence.cells import PLACE, SHAPE
from src.records.record import write_json
from src.regimes.rules import Condition, Rule
from src.regimes.trials import Trial

_MANY = 2000  # cells; fewer are learned from each time
_NEW = 0.02  # share of cells that are new, or gone, up to which nothing is learned again
_NAME = "learned.json"
_NOT_FINITE = ("nan", "inf", "-inf")

Learned = tuple[list[Rule], list[Trial], int]  # and how many cells are in neither


def recall(folder: Path | None, cells: pd.DataFrame, margin: float) -> Learned | None:
    """What was learned from these cells, or from nearly these; None where nothing usable is kept."""
    if folder is None or len(cells) < _MANY:
        return None
    try:
        kept = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        now, then = _prints(cells), np.array(kept["cells"], dtype=np.uint64)
        new = int((~np.isin(now, then)).sum())
        gone = int((~np.isin(then, now)).sum())
        if (kept["program"], kept["margin"]) != (program(), margin) or max(new, gone) > _NEW * len(now):
            return None
        return (
            [_rule(each) for each in kept["rules"]],
            [Trial(**_numbers(each)) for each in kept["trials"]],
            new,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(
    folder: Path | None, cells: pd.DataFrame, margin: float, rules: Sequence[Rule], trials: Sequence[Trial]
) -> None:
    """Keep what was learned; where it cannot be written, it is learned again."""
    if folder is None or len(cells) < _MANY:
        return
    content = {
        "program": program(),
        "margin": margin,
        "cells": _prints(cells).tolist(),
        "rules": [_plain(asdict(rule)) for rule in rules],
        "trials": [_plain(asdict(trial)) for trial in trials],
    }
    with contextlib.suppress(OSError):
        write_json(folder / _NAME, content)


def _prints(cells: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """A number per cell, by what it is and its speedup to three digits."""
    told = cells[[*PLACE, "quant", *SHAPE]].assign(speedup=np.log(cells["speedup"]).round(2))
    return pd.util.hash_pandas_object(told, index=False).to_numpy().astype(np.uint64)


def _rule(fields: dict[str, Any]) -> Rule:
    conditions = tuple(Condition(**_numbers(each)) for each in fields.pop("conditions"))
    return Rule(**_numbers(fields), conditions=conditions)


def _plain(value: Any) -> Any:
    """Without the numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _numbers(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) if value in _NOT_FINITE else value for name, value in fields.items()}
