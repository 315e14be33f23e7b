"""Which runs of a sweep share a process, and which of those the same rounds."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from src.config.schema.arms import is_usual
from src.config.schema.root import AUTO, RootConf
from src.launching.repetition import processes_of
from src.launching.standing import standing
from src.records.key import run_key, workload_key

SMALLEST = 3  # runs: fewer would pay more for the equal pairs than they save
LARGEST = 40  # runs: what is left behind adds up, and a last place that is not equal costs all of them
MOST_ARMS = 8  # treated ones in the same rounds
Settled = Callable[[RootConf], tuple[RootConf, dict[str, Any]]]  # with its dtype; its device, as a dict
Keys = list[str | None]  # of each run; None: it is by itself


def keys_of(configs: Sequence[RootConf], settled: Settled, outputs: Path) -> tuple[Keys, Keys]:
    """Of each run the key of those that it may share a process, and rounds, with; one that is measured has none."""
    shares: Keys = [None] * len(configs)
    rounds = list(shares)
    if len(configs) < SMALLEST or all(cfg.launch.share == "never" for cfg in configs):
        return shares, rounds
    known: set[str] = set()
    for index, cfg in enumerate(configs):
        run, device = settled(cfg)
        key = run_key(run, device)
        if key not in known and standing(outputs, key, run, lambda _: None) is None:
            known.add(key)
            shares[index] = group_key(run, device)
            rounds[index] = shares[index] and rounds_key(run, device)
    return shares, rounds


def together(runs: Sequence[tuple[RootConf, dict[str, Any]] | None]) -> list[list[list[int]]]:
    """The places of a plan's runs, by process, and in each those of the same rounds together.

    Args:
        runs: that are sent, their dtypes settled, with their devices as dicts; None: one that is not.
    """
    shares = [group_key(*run) if run else None for run in runs]
    rounds = [rounds_key(*run) if run and share else None for run, share in zip(runs, shares, strict=True)]
    return [in_the_same_rounds(indexes, rounds) for indexes in brought_together(shares)]


def group_key(cfg: RootConf, device: dict[str, Any]) -> str | None:
    """The same for all runs that may share a process; None: it has its own.

    Args:
        cfg: of the run, its dtype settled.
        device: that it is for, as a dict.
    """
    quant, measure = cfg.quant, cfg.measure
    own = (
        cfg.launch.share == "never"
        or "absent" in device
        or cfg.dtype == AUTO
        or not cfg.task.compares
        or cfg.task.steps
        or processes_of(cfg) > 1
        or (measure.pairing == "in_turn" or measure.profile)
        or (quant.where, quant.via) != ("device", "direct")
        or quant.candidates
        or quant.layers.sensitive._target_  # its trials make Dynamo forget what others compiled
        or not is_usual(cfg)
    )
    return None if own else workload_key(cfg, device, any_size=True)


def rounds_key(cfg: RootConf, device: dict[str, Any]) -> str | None:
    """The same for runs of a group that may be measured in the same rounds: of one probe, and measured alike."""
    if not (cfg.model.probe and cfg.task.together):
        return None
    return f"{workload_key(cfg, device)} {cfg.measure} {cfg.task.together}"


def in_the_same_rounds(indexes: Sequence[int], keys: Sequence[str | None]) -> list[list[int]]:
    """Of a group's runs those of one key together, at most 8, where the first one stands; each other by itself."""
    found: dict[Any, list[int]] = {}
    for index in indexes:
        key = keys[index]
        found.setdefault(index if key is None else key, []).append(index)
    return [runs[at : at + MOST_ARMS] for runs in found.values() for at in range(0, len(runs), MOST_ARMS)]


def brought_together(keys: Sequence[str | None]) -> list[list[int]]:
    """The indexes of the runs, those of one key together where its first one stands; a group of a few falls apart."""
    groups: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(index if key is None else key, []).append(index)
    return [part for group in groups.values() for part in _parts(group)]


def _parts(group: list[int]) -> list[list[int]]:
    if len(group) < SMALLEST:
        return [[index] for index in group]
    size = math.ceil(len(group) / math.ceil(len(group) / LARGEST))
    return [group[at : at + size] for at in range(0, len(group), size)]
