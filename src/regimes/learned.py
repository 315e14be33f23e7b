"""Rules and tests of forecasts; of very many cells they are kept, and learned again where cells differ.

The rules of a scheme in a place are kept as long as its cells there are the same; those that speak of times also as
long as the unquantized arm's costs are, which other schemes' cells tell too. The tests are a statistic of a sample of
all cells: they are kept until more than a few of these are new.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.analysis.runs.tracked.kept import pieces
from src.config.program import program
from src.forecasts.evidence.cells import PLACE, SHAPE, prints
from src.forecasts.family import Family, as_told
from src.forecasts.forecast import Forecaster, Place
from src.forecasts.unquantized import Unquantized
from src.records.record import write_json
from src.regimes.features import PLAIN
from src.regimes.rules import Condition, Rule, rules
from src.regimes.trials import Trial, trials

_NEW = 0.1  # share of cells that are new, or gone, up to which the tests are not made again
_NAME = "trials.json"
_FOLDS = 4  # of each kind of trial in a report, which is to be quick; the benchmark leaves out each thing
_TRIED = ("one (K, N)", "one M", "one device")
_SIDES = 3  # (K, N), without which leaving one out is no test
_MOST_TRIED = 600  # cells; more are tested on a sample of so many


@dataclass(frozen=True)
class _Scheme:
    """A scheme in a place: what its rules are made of."""

    place: Place
    quant: str
    prints: npt.NDArray[np.uint64]  # of its cells
    family: Callable[[], Family]  # that it is of

    def rests_on(self, margin: float) -> str:
        """Tells what its rules rest on from anything else."""
        told = f"{program()} {margin} {self.place} {self.quant}".encode()
        return md5(told + self.prints.tobytes(), usedforsecurity=False).hexdigest()

    @property
    def baseline(self) -> Unquantized:
        """What the unquantized arm costs there."""
        return self.family().arms.baselines[self.place.device]


def known_rules(forecaster: Forecaster, folder: Path | None = None) -> list[Rule]:
    """The rules of every scheme in every place that it has cells enough of.

    Args:
        forecaster: with the cells.
        folder: of everything that is kept; None: nothing is.
    """
    schemes, margin = [*_schemes(forecaster)], forecaster.margin
    prints = [each.rests_on(margin) for each in schemes]

    @cache
    def make(number: int) -> list[dict[str, Any]]:
        each = schemes[number]
        return [asdict(rule) for rule in rules(each.family(), each.place, each.quant, margin)]

    found = pieces(folder, {"what": "rules"}, prints, make)
    of_times = [number for number, each in enumerate(found) if _of_times(each)]
    told = [f"{prints[number]} {schemes[number].baseline}" for number in of_times]
    again = pieces(folder, {"what": "rules of times"}, told, lambda place: make(of_times[place]))
    found = [*(dict(enumerate(found)) | dict(zip(of_times, again, strict=True))).values()]
    return [_rule(told) for each in found for told in each]


def _of_times(told: list[dict[str, Any]]) -> bool:
    """Whether a rule has a condition that is computed with the unquantized arm's costs."""
    return any(condition["feature"] >= PLAIN for rule in told for condition in rule["conditions"])


def _schemes(forecaster: Forecaster) -> Iterator[_Scheme]:
    for together in forecaster.together():
        cells = together.reset_index(drop=True)
        told, family = prints(cells), cache(partial(as_told, cells))
        for (device, quant), rows in cells.groupby(["device", "quant"], sort=True):
            place = Place(str(device), *(str(rows[name].iloc[0]) for name in PLACE[1:]))
            yield _Scheme(place, str(quant), told[rows.index], family)


def _rule(told: dict[str, Any]) -> Rule:
    return Rule(**told | {"conditions": tuple(Condition(**each) for each in told["conditions"])})


def known_trials(cells: pd.DataFrame, margin: float, folder: Path | None = None) -> tuple[list[Trial], int]:
    """How far forecasts can be trusted, by tests on these cells, or on nearly these.

    Args:
        cells: of all places.
        margin: a speedup within it is neutral.
        folder: of everything that is kept; None: nothing is.

    Returns:
        The tests; how many cells came since they were made.
    """
    path, now = folder / _NAME if folder else None, _rounded(cells)
    if path and (before := _recalled(path, now, margin)):
        return before
    tried = cells if len(cells) <= _MOST_TRIED else cells.sample(_MOST_TRIED, random_state=0)
    several = tried[["K", "N"]].drop_duplicates().shape[0] >= _SIDES
    found = trials(tried, margin, _FOLDS, _TRIED) if several else []
    if path:
        told = {"program": program(), "margin": margin, "cells": now.tolist()}
        told["trials"] = json.dumps([*map(asdict, found)])  # with nan, which the file itself may not have
        with contextlib.suppress(OSError):  # then they are made again
            write_json(path, told)
    return found, 0


def _recalled(path: Path, now: npt.NDArray[np.uint64], margin: float) -> tuple[list[Trial], int] | None:
    """What is kept of nearly these cells, and how many are new; None where nothing usable is kept."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        then = np.array(kept["cells"], dtype=np.uint64)
        new, gone = int((~np.isin(now, then)).sum()), int((~np.isin(then, now)).sum())
        if (kept["program"], kept["margin"]) != (program(), margin) or max(new, gone) > _NEW * len(now):
            return None
        return [Trial(**each) for each in json.loads(kept["trials"])], new
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _rounded(cells: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """A number per cell, by what it is and its speedup to 1 %."""
    told = cells[[*PLACE, "quant", *SHAPE]].assign(speedup=np.log(cells["speedup"]).round(2))
    return pd.util.hash_pandas_object(told, index=False).to_numpy().astype(np.uint64)
