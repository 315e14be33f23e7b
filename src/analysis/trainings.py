"""Loss curves of trainings, as far as they are on this disk: those of one seed and data are compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from src.analysis.runs.frame import TRAINING, Row
from src.config.schema.training import TrainingConf
from src.records.mlflow.points import LOSSES_NAME
from src.records.store import run_folder
from src.statistics.curves import curve_distance

UNQUANTIZED = "unquantized"
_MOST = 60  # runs whose curves are read, the newest
_STEPS, _WHOLE = "training.", "model.training."  # what says how, of either task
_TOLD = ("seed", "steps", "batch", "learning_rate")  # by the last part of their names, in every title
_PRECISION = f"{_WHOLE}precision"  # of a whole training: it tells curves apart, not figures
_ASIDE = {f"{_WHOLE}{each.name}" for each in fields(TrainingConf) if not each.metadata.get("key", True)} | {
    f"{_STEPS}emulate"
}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built in


@dataclass(frozen=True)
class Curve:
    """The losses of one training by a recipe, and those of the unquantized one of the same seed and data."""

    losses: list[float]
    baseline: list[float]  # empty: there is none

    @property
    def distance(self) -> float | None:
        """Mean distance of both, as a share of the unquantized one's mean loss; None: there is nothing to compare."""
        return curve_distance(self.baseline, self.losses) if self.baseline and self.losses else None

    @property
    def apart(self) -> str:
        """The same in words."""
        return share(self.distance)


def share(value: object) -> str:
    """A distance of curves as ``0.55 %``; empty where there is none."""
    return f"{100 * value:.3g} %" if isinstance(value, float) and pd.notna(value) else ""


@dataclass(frozen=True)
class Curves:
    """What can be drawn together."""

    told: str  # the settings that they have in common, ``seed=0, steps=60``
    name: str = UNQUANTIZED  # of the first curve
    unquantized: list[float] = field(default_factory=list)
    by_recipe: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class _Read:
    """What is on disk of one run."""

    row: Row
    losses: dict[str, list[float]]
    settings: dict[str, str]

    @property
    def common(self) -> tuple[tuple[str, str], ...]:
        """What curves that are compared have in common."""
        return tuple(sorted((name, text) for name, text in self.settings.items() if name != _PRECISION))


def curves_of(runs: pd.DataFrame, outputs: Path) -> list[Curves]:
    """The curves of runs of one workload and device, of one of both tasks, by what they have in common.

    Args:
        runs: rows of `src.analysis.runs.frame`; of several alike the newest counts.
        outputs: where the runs' folders are.
    """
    groups: dict[tuple[tuple[str, str], ...], list[_Read]] = {}
    for read in _found(runs.sort_values("started_at").tail(_MOST), outputs):
        groups.setdefault(read.common, []).append(read)
    differing = {name for key in groups for name, _ in {*key} ^ {*next(iter(groups))}}
    make = _steps if (runs["task"] == TRAINING).all() else _whole
    return [make(_named(group), _told(group, differing)) for group in groups.values()]


def _found(runs: pd.DataFrame, outputs: Path) -> Iterator[_Read]:
    for _, row in runs.iterrows():
        folder = run_folder(outputs, str(row["run_key"]), int(row["attempt"]))
        try:
            losses = json.loads((folder / LOSSES_NAME).read_text(encoding="utf-8"))
            config = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), _Loader)  # noqa: S506 - safe
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if losses.get("loss"):
            yield _Read(row, losses, dict(_settings(config, row["task"])))


def _settings(config: Mapping[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """What a curve depends on beside the recipe."""
    of_steps = ("training", "model.factory", "model.dims", "model.weights")
    parts = of_steps if task == TRAINING else ("model.training", "model.factory")
    yield "seed", str(config["seed"])
    for part in parts:
        value: Any = config
        for name in part.split("."):
            value = value.get(name, {})
        yield from ((name, text) for name, text in _flat(part, value) if name not in _ASIDE)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, str(value)


def _told(group: Sequence[_Read], differing: set[str]) -> str:
    """The settings that every title has, and those in which the figures differ."""
    settings, modes = dict(group[0].common), {str(each.row["compile"]) for each in group}
    short = {name: name.removeprefix(_WHOLE).removeprefix(_STEPS) for name in settings}
    usual = (name for name in settings if short[name] in _TOLD)
    first = sorted(usual, key=lambda name: _TOLD.index(short[name]))
    others = sorted(name for name in settings if name in differing and name not in first)
    mode = [f"compile={each}" for each in modes if len(modes) == 1 and each != "none"]
    return ", ".join([*(f"{short[name]}={settings[name]}" for name in [*first, *others]), *mode])


def _named(group: Sequence[_Read]) -> dict[str, _Read]:
    """By recipe, with options, compile mode and precision where these differ; of several alike the last."""
    each = [_parts(read) for read in group]
    telling = [place for place in range(4) if place == 0 or len({parts[place] for parts in each}) > 1]
    return {
        ", ".join(parts[i] for i in telling if parts[i]): read
        for parts, read in zip(each, group, strict=True)
    }


def _parts(read: _Read) -> tuple[str, str, str, str]:
    row = read.row
    name = UNQUANTIZED if row["quant"] == "none" else str(row["quant"])
    return name, str(row["variant"]), f"compile={row['compile']}", read.settings.get(_PRECISION, "")


def _steps(group: Mapping[str, _Read], told: str) -> Curves:
    """Of `task=training`: each run has both arms' curves, and the unquantized ones are alike."""
    losses = {name: each.losses for name, each in group.items()}
    made = {name: Curve(each["loss"], each["baseline_loss"]) for name, each in losses.items()}
    return Curves(told, unquantized=[*losses.values()][-1]["baseline_loss"], by_recipe=made)


def _whole(group: Mapping[str, _Read], told: str) -> Curves:
    """Of `task=train`: each run is one curve, held against the unquantized one, of float32 if there is one."""
    losses = {name: each.losses["loss"] for name, each in group.items()}
    plain = [name for name, each in group.items() if each.row["quant"] == "none"]
    if not plain:
        return Curves(told, by_recipe={name: Curve(own, []) for name, own in losses.items()})
    best = max(plain, key=lambda name: group[name].settings.get(_PRECISION) == "float32")
    base = losses.pop(best)
    return Curves(told, best, base, {other: Curve(own, base) for other, own in losses.items()})
