"""The command that repeats one run: what its sweep was started by, with the run's own values in place of the axes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from src.analysis.answers.asked import Asked, SweepFile, asked, takes_several
from src.analysis.answers.places import gpu_of
from src.analysis.runs.frame import Plain, Row
from src.analysis.runs.tracked.source import BESIDES, SHAPE
from src.config.paths import command, outputs_argument
from src.config.schema.arms import overrides_of
from src.records.key import AXES
from src.records.record import RECORD_NAME, RecordError, read_record
from src.records.store import run_folder

_PROCESSES = "measure.processes"
_MORE_PROCESSES = 3
_NOT_OF_A_RUN = re.compile(r"(tracking|outputs|rerun|plan|launch\.\w+|hydra[./](sweeper|mode|sweep)|sweep)\b")
_DIMS = "model.dims"
_USUAL = {"gpu": "auto", "task": "latency", "seed": "0", "target": "denoiser", "frames": "0"}


def repeat(row: Row | Plain, outputs: Path) -> str:
    """The command that measures a run once more; without ``rerun=true`` it is skipped where it is measured."""
    flags = asked(str(row["sweep"]), outputs).flags
    return command("run", *flags, *_words(row, outputs), *outputs_argument(outputs))


def surer(rows: Sequence[Plain], outputs: Path) -> str:
    """The command that measures the first of some runs in more processes, with those that differ in scheme only."""
    first, found = _words(rows[0], outputs), asked(str(rows[0]["sweep"]), outputs)
    several = [str(row["quant"]) for row in rows if _besides(_words(row, outputs)) == _besides(first)]
    now = next((_number(w.partition("=")[2]) for w in first if w.startswith(f"{_PROCESSES}=")), 1)
    done = max(now, int(rows[0]["speedup/processes"]) if pd.notna(rows[0]["speedup/processes"]) else 1)
    quant = ",".join(dict.fromkeys(several))
    kept = [f"quant={quant}" if w.startswith("quant=") else w for w in first if not w.startswith(_PROCESSES)]
    processes = f"{_PROCESSES}={max(_MORE_PROCESSES, 2 * done) if done > 1 else _MORE_PROCESSES}"
    flags = ["-m"] if "," in quant else []
    return command("run", *found.flags, *flags, *kept, processes, *outputs_argument(outputs))


def _number(text: str) -> int:
    """A whole number of an override, quoted or not; 1 where it is none."""
    bare = text.strip("'\"")
    return int(bare) if bare.isdecimal() else 1


def _besides(words: Iterable[str]) -> set[str]:
    """What of a command is neither the scheme nor how it was measured."""
    return {word for word in words if not word.startswith(("quant=", "measure"))}


def _words(row: Row | Plain, outputs: Path) -> list[str]:
    """The overrides of a run: its axes, then what its sweep's command says besides."""
    every = _every(row, _axes(run_folder(outputs, str(row["run_key"]), int(row["attempt"]))))
    own = {name: value for name, value in every.items() if value and _USUAL.get(name) != value}
    found = asked(str(row["sweep"]), outputs)
    given = [word for word in found.words if not _NOT_OF_A_RUN.match(word.lstrip("+~"))]
    names = [word.partition("=")[0] for word in given if not word.startswith("sweeps=")]
    first: list[str] = []
    for word in (word for word in given if word.startswith("sweeps=")):
        words, pinned, axes = _of_file(word, found, every, row)
        first, own, names = [*first, *words], own | pinned, [*names, *axes]
    kept = [word for word in given if not word.startswith("sweeps=") and _bare(word) not in own]
    fixed = {_bare(word) for word in kept} | own.keys()
    first = [word for word in first if word.startswith("sweeps=") or _bare(word) not in fixed]
    signs = {name.lstrip("+"): name for name in names}  # as it was given: ``+compile.options.x``
    told = [f"{signs.get(name, name)}={value}" for name, value in own.items()]
    return [*first, *told, *(word for word in kept if not takes_several(word))]


def _of_file(
    word: str, found: Asked, every: Mapping[str, str], row: Row | Plain
) -> tuple[list[str], dict[str, str], Sequence[str]]:
    """A sweep's file in a run's command: its name, or the words it stands for; values of its axes; their names.

    By its name it sweeps, so each of its axes is given. What searches, or has an axis that the run tells nothing of,
    is told in words.
    """
    file = found.file(word.partition("=")[2])
    if file is None:  # whoever repeats it is told so; without it something else would be measured
        return [word], {}, []
    pinned = _pinned(file, row, every)
    axes = {name.lstrip("+") for name in file.axes}
    if file.searches or not axes <= every.keys() | pinned.keys():
        return [*file.words], {}, file.axes
    return [word], {name: every[name] for name in axes & every.keys()} | pinned, file.axes


def _bare(word: str) -> str:
    """The key of an override."""
    return word.partition("=")[0].lstrip("+~")


def _every(row: Row | Plain, axes: Mapping[str, Any]) -> dict[str, str]:
    """The run's own value of every axis, as Hydra reads it."""
    own = {name: str(row[name]) for name in AXES if name in row and pd.notna(row[name])} | {
        name: str(value) for name, value in axes.items() if name in AXES
    }
    own["compile"] = own["compile"].partition(BESIDES)[0]
    own.pop("treatment", "")  # of the row: as its parameter was logged
    own |= overrides_of(own.pop("recipe", ""), str(axes.get("treatment", "")))
    if own.get("gpu", _USUAL["gpu"]) == _USUAL["gpu"]:
        own["gpu"] = gpu_of(row)
    others = {name: str(value) for name, value in axes.items() if name not in AXES and name not in own}
    if pd.notna(row["M"]) and own.get("resolution", "0") == "0":
        own.pop("resolution", None)
        sizes = dict(zip(SHAPE, (int(row["M"]) // int(row["batch"]), row["K"], row["N"]), strict=True))
        together = set(re.findall(r"(\w+) *:", others.get(_DIMS, "")))  # ``model.dims={K:1024,N:1024}``
        own |= {f"{_DIMS}.{name}": str(size) for name, size in sizes.items() if name not in together}
    return own | others


def _pinned(file: SweepFile, row: Row | Plain, every: Mapping[str, str]) -> dict[str, str]:
    """The sizes of a probe as its sweep names them, where that is several at once: ``model.dims={K:1024,N:1024}``."""
    if _DIMS not in file.axes or _DIMS in every or pd.isna(row["M"]):
        return {}
    alone = {name for name in SHAPE if f"{_DIMS}.{name}" in file.axes}
    return {_DIMS: "{" + ",".join(f"{name}:{row[name]}" for name in SHAPE if name not in alone) + "}"}


@cache
def _axes(folder: Path) -> dict[str, Any]:
    try:
        return read_record(folder / RECORD_NAME).axes
    except (OSError, RecordError):
        return {}
