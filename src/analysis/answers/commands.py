"""The command that repeats one run: what its sweep was started by, with the run's own values in place of the axes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from src.analysis.answers.places import gpu_of
from src.analysis.runs.frame import Plain, Row
from src.analysis.runs.tracked.source import BESIDES, SHAPE
from src.config.paths import ROOT, command, config_dir_flag, outputs_argument, override
from src.config.schema.arms import overrides_of
from src.records.key import AXES
from src.records.record import RECORD_NAME, RecordError, read_record
from src.records.store import MANIFEST_NAME, read_manifest, run_folder, sweep_folder

_PROCESSES = "measure.processes"
_MORE_PROCESSES = 3
_NOT_OF_A_RUN = re.compile(r"(tracking|outputs|rerun|plan|launch\.\w+|sweep)\b")
_WORD = re.compile(r"[+~]?[\w./@-]+=")
_SWEPT = re.compile(r"[^\[\]{}(),]*,")  # the value of an axis: a list without brackets
_USUAL = {"gpu": "auto", "task": "latency", "seed": "0", "target": "denoiser", "frames": "0"}


def repeat(row: Row | Plain, outputs: Path) -> str:
    """The command that measures a run once more; without ``rerun=true`` it is skipped where it is measured."""
    return command("run", *config_dir_flag(), *_words(row, outputs), *outputs_argument(outputs))


def surer(rows: Sequence[Row], outputs: Path) -> str:
    """The command that measures the first of some runs in more processes, with those that differ in scheme only."""
    first = _words(rows[0], outputs)
    several = [str(row["quant"]) for row in rows if _besides(_words(row, outputs)) == _besides(first)]
    now = next((int(w.partition("=")[2]) for w in first if w.startswith(f"{_PROCESSES}=")), 1)
    done = max(now, int(rows[0]["speedup/processes"]) if pd.notna(rows[0]["speedup/processes"]) else 1)
    quant = ",".join(dict.fromkeys(several))
    kept = [f"quant={quant}" if w.startswith("quant=") else w for w in first if not w.startswith(_PROCESSES)]
    processes = f"{_PROCESSES}={max(_MORE_PROCESSES, 2 * done) if done > 1 else _MORE_PROCESSES}"
    flags = ["-m"] if "," in quant else []
    return command("run", *config_dir_flag(), *flags, *kept, processes, *outputs_argument(outputs))


def _besides(words: Iterable[str]) -> set[str]:
    """What of a command is neither the scheme nor how it was measured."""
    return {word for word in words if not word.startswith(("quant=", "measure"))}


def _words(row: Row | Plain, outputs: Path) -> list[str]:
    """The overrides of a run: its axes, then what its sweep's command says besides."""
    own = _own(row, _axes(run_folder(outputs, str(row["run_key"]), int(row["attempt"]))))
    given = [w for w in _sweep_words(str(row["sweep"]), outputs) if not _NOT_OF_A_RUN.match(w)]
    kept = []
    for word in given:
        key, _, value = word.partition("=")
        if key == "sweeps":
            own |= _pinned(value, row, own)
            kept += [word] if _sweep_axes(value) <= own.keys() else []
        elif key not in own and not _SWEPT.match(value):
            kept.append(word)
    sweeps = [word for word in kept if word.startswith("sweeps=")]
    return [*sweeps, *(f"{k}={v}" for k, v in own.items()), *(w for w in kept if w not in sweeps)]


def _own(row: Row | Plain, axes: Mapping[str, Any]) -> dict[str, str]:
    """The run's own value of every axis, those that are as usual left out."""
    own = {name: str(row[name]) for name in AXES if name in row and pd.notna(row[name])} | {
        name: str(value) for name, value in axes.items() if name in AXES
    }
    own["compile"] = own["compile"].partition(BESIDES)[0]
    own.pop("treatment", "")  # of the row: as its parameter was logged
    own |= overrides_of(own.pop("recipe", ""), str(axes.get("treatment", "")))
    if own.get("gpu", _USUAL["gpu"]) == _USUAL["gpu"]:
        own["gpu"] = gpu_of(row)
    probe = bool(pd.notna(row["M"])) and own.get("resolution", "0") == "0"
    own = {name: value for name, value in own.items() if value and _USUAL.get(name) != value}
    if probe:
        own.pop("resolution", None)
        sizes = dict(zip(SHAPE, (int(row["M"]) // int(row["batch"]), row["K"], row["N"]), strict=True))
        own |= {f"model.dims.{name}": str(size) for name, size in sizes.items()}
    others = {name: value for name, value in axes.items() if name not in AXES}
    return own | {
        name: override(name, str(v)).partition("=")[2] for name, v in others.items() if name not in own
    }


def _pinned(sweep: str, row: Row | Plain, own: Mapping[str, str]) -> dict[str, str]:
    """The sizes of a probe as its sweep names them, where that is several at once: ``model.dims={K:1024,N:1024}``."""
    if "model.dims" not in _sweep_axes(sweep) or pd.isna(row["M"]):
        return {}
    alone = {name for name in SHAPE if f"model.dims.{name}" in _sweep_axes(sweep)}
    return {"model.dims": "{" + ",".join(f"{name}:{row[name]}" for name in SHAPE if name not in alone) + "}"}


@cache
def _sweep_axes(name: str) -> frozenset[str]:
    """The axes of a file in sweeps/; of one that is not there an axis that no run has."""
    try:
        content = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text(encoding="utf-8"))
        return frozenset(content["hydra"]["sweeper"]["params"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return frozenset(["?"])


@cache
def _sweep_words(sweep: str, outputs: Path) -> list[str]:
    try:
        words = read_manifest(sweep_folder(outputs, sweep) / MANIFEST_NAME).command
    except (OSError, RecordError):
        return []
    return [word for word in words if _WORD.match(word)]


@cache
def _axes(folder: Path) -> dict[str, Any]:
    try:
        return read_record(folder / RECORD_NAME).axes
    except (OSError, RecordError):
        return {}
