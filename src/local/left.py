"""What a sweep with a budget left to the forecast: in a file of its folder, and in lines for the terminal."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from src.planning.prospects import UNKNOWN, Prospect
from src.planning.teaching import SURE, sure_text
from src.records.store import LEFT_NAME

_SHOWN = 12  # rows on the terminal
_COLUMNS = ("verdict", "speedup", "low", "high", "sure")


def write_left(
    left: Mapping[int, Prospect], labels: Mapping[int, str], keys: Mapping[int, str], folder: Path
) -> Path:
    """`left.csv` in a sweep's folder: a row per run that was left to the forecast.

    Args:
        left: index -> what is predicted of it.
        labels: index -> the run in a line.
        keys: index -> its run key.
    """
    path = folder / LEFT_NAME
    names = list(dict.fromkeys(name for each in left.values() for name in each.axes))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run_key", "run", *_COLUMNS, "reason", *names])
        for index, each in left.items():
            numbers = [
                "" if value != value else f"{value:.4g}" for value in (each.speedup, each.low, each.high)
            ]
            told = [each.verdict, *numbers, f"{each.sure:.4g}", each.reason]
            writer.writerow([keys[index], labels[index], *told, *(each.axes.get(name, "") for name in names)])
    return path


def in_words(left: Mapping[int, Prospect], labels: Mapping[int, str], runs: int, path: Path) -> Iterator[str]:
    """What was left to the forecast, in lines: how much, the least sure of it, where all of it is.

    Args:
        left: as `Budget.left` gives it.
        labels: index -> the run in a line.
    """
    if not left:
        yield "launch.budget: no run is left to the forecast"
        return
    verdicts = [each.verdict for each in left.values()]
    listed = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    unsure = {index: each for index, each in left.items() if not each.is_sure}
    why = "the time is up" if unsure else "every other verdict is known well enough"
    yield f"launch.budget: {why}; {len(left)} of {runs} runs are left to the forecast, not measured: {listed}"
    if unsure:
        yield f"  {len(unsure)} of them are less than {SURE:.0%} sure, the least sure first:"
    yield from (f"  {labels[index]}: {predicted_text(each)}" for index, each in [*unsure.items()][:_SHOWN])
    if len(unsure) > _SHOWN:
        yield f"  and {len(unsure) - _SHOWN} more"
    yield f"  all that was left: {path}{'; the same command goes on' * bool(unsure)}"


def predicted_text(each: Prospect) -> str:
    """``helps 1.12x (0.93-1.36), sure 81%``; of what is only known to be slow at most how fast it is."""
    if each.verdict == UNKNOWN:
        return f"unknown: {each.reason}"
    sure = f"sure {sure_text(each.sure)}"
    if not math.isnan(each.speedup):
        return f"{each.verdict} {each.speedup:.2f}x ({each.low:.2f}-{each.high:.2f}), {sure}"
    most = "" if math.isnan(each.high) else f", at most {each.high:.2f}x"
    return f"{each.verdict}{most}, {sure}"
