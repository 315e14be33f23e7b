"""Which experiments a calibration makes, in which process, and what each one found."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is measured."""

    AA = "aa"  # a workload against a copy of itself
    SLOWDOWN = "slowdown"  # a workload against a copy that is delayed by a known time
    HARNESS = "harness"  # the harness' rounds of one callable against a bare loop around it
    BESIDE = "beside"  # the same with a copy in the other arm: what interleaving does to an arm


@dataclass(frozen=True)
class Spec:
    """An experiment to make."""

    kind: Kind
    slowdown: float = 0.0  # the delay put in, as a share of the workload's own time
    swapped: bool = False  # the baseline is the copy that was built second; in runs it is the first


@dataclass
class Experiment:
    """What one experiment found; beside it in ``experiments.jsonl`` stand its raw rounds."""

    kind: Kind
    slowdown: float
    swapped: bool
    process: int
    started_at: str
    seconds: float  # of the comparison, warm-up included
    crowded: bool = False  # other processes took CPU time that the measured threads needed: does not count
    foreign_cpus: float = 0.0
    speedup: float | None = None  # estimate of baseline / treated
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: str = ""
    truth: float | None = None  # the speedup put in, from the delays as they really were
    delay_ms: float | None = None  # per call, as it really was, median
    pairs: int = 0
    stop_reason: str = ""
    baseline_ms: float | None = None  # medians, per call
    treated_ms: float | None = None
    ratios: list[float] = field(
        default_factory=list
    )  # harness, beside: rounds / bare loop, one per repetition


def experiment(content: dict[str, Any]) -> Experiment:
    """An experiment from its JSON."""
    return Experiment(**(content | {"kind": Kind(content["kind"])}))


def plan(experiments: int, slowdowns: Sequence[float], processes: int, seed: int) -> list[list[Spec]]:
    """The experiments of each process, kinds mixed at random; never more processes than experiments of a kind.

    Each kind is dealt out evenly. Which copy is the baseline alternates within a kind and process, from a start
    drawn at random, so that every process with two of a kind has both.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    batches: list[list[Spec]] = [[] for _ in range(min(processes, experiments))]
    for slowdown in (0.0, *slowdowns):
        kind = Kind.SLOWDOWN if slowdown else Kind.AA
        order = rng.sample(range(len(batches)), len(batches))
        starts = [rng.random() < 0.5 for _ in batches]
        for number in range(experiments):
            turn, place = divmod(number, len(batches))
            process = order[place]
            batches[process].append(Spec(kind, slowdown, swapped=starts[process] ^ bool(turn % 2)))
    for batch in batches:
        batch += [Spec(Kind.HARNESS), Spec(Kind.BESIDE)]
        rng.shuffle(batch)
    return batches
