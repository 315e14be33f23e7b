"""How long a run will take on a card: by earlier runs, by its settings, or what is sure."""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from src.config.schema.root import RootConf, training_steps
from src.launching.repetition import processes_of
from src.planning.cards import Card
from src.planning.hours import GUESS, LADDER, LEAST, Estimate, History, guess_s
from src.planning.matrix import Launch, Promise
from src.planning.needs.footprint import Footprints
from src.planning.needs.trainings import can_be_guessed, planned_steps
from src.planning.needs.work import (
    least_of_run_s,
    least_of_training_s,
    rate_elsewhere_tflop_s,
    rate_tflop_s,
    slower_s,
)
from src.planning.parts import CEILINGS, CEILINGS_S, ROUNDS, guessed_parts
from src.records.key import axes_of
from src.records.record import Record
from src.records.store import iter_records
from src.training.recipe import work_of


class Times:
    """Of the runs of one sweep, in their order: the first on a device may measure its ceilings for all."""

    def __init__(self, outputs: Path, footprints: Footprints, launch: Launch) -> None:
        self.outputs, self.footprints, self.launch = outputs, footprints, launch
        self._ceilings: set[str] = set()  # places of the devices that an earlier run of the plan measures

    @cached_property
    def history(self) -> History:
        """The earlier runs in the outputs folder; unreadable ones are passed over."""
        return History(found for _, found in iter_records(self.outputs) if isinstance(found, Record))

    def estimate(self, cfg: RootConf, card: Card, places: list[str], slow_s: float) -> Estimate:
        """By what earlier runs took; else guessed where the budget says anything, or what it takes at least.

        Args:
            cfg: the run, its dtype settled.
            places: what records call its device.
            slow_s: `least_s`.
        """
        shapes = len({row.shape for row in self.footprints.of(cfg).rows})
        count, steps = processes_of(cfg), planned_steps(cfg)
        guess = guess_s(
            cfg.measure, cfg.quant, shapes, count, probe=cfg.model.probe, steps=training_steps(cfg)
        )
        found = self.history.estimate(
            axes_of(cfg), places, cfg.measure, max(guess, count * slow_s), count, steps, work_of(cfg)
        )  # fmt: skip
        if found.source == GUESS and not can_be_guessed(cfg):
            found = replace(found, source=LEAST, least_s=min(count * slow_s, found.seconds))
        return self._with_parts(found, cfg, card, places, count)

    def _with_parts(
        self, estimate: Estimate, cfg: RootConf, card: Card, places: list[str], processes: int
    ) -> Estimate:
        """With the parts of a guess, and with the device's ceilings where this run is the first to measure them."""
        kind = card.device.kind if card.device else "cuda"
        parts_s, seconds = dict(estimate.parts_s), estimate.seconds
        if estimate.source == GUESS:
            parts_s = guessed_parts(cfg, kind, processes, seconds)
        known = CEILINGS in parts_s or self._ceilings & {*places} or self.history.has_ceilings(places)
        least_s = estimate.least_s
        if cfg.measure.ceilings and cfg.task.compares and not known:
            self._ceilings.update(places)
            parts_s[CEILINGS], seconds, least_s = CEILINGS_S, seconds + CEILINGS_S, least_s + CEILINGS_S
        return replace(estimate, seconds=seconds, parts_s=parts_s, least_s=least_s)

    def slowed(
        self, estimate: Estimate, promise: Promise, cfg: RootConf, card: Card
    ) -> tuple[Estimate, float]:
        """The estimate, with what a treated arm takes that is predicted to be slower; runs of its own like know that.

        Args:
            cfg: the run, its dtype settled.

        Returns:
            It, and the seconds that a process takes at least by what is predicted; 0: nothing says.
        """
        if "quant" in LADDER.get(estimate.source, ()):
            return estimate, 0.0
        processes, least_s = processes_of(cfg), self.least_s(cfg, card)
        call_s = 0.0 if math.isnan(promise.baseline_ms) else promise.baseline_ms / 1e3
        slower = slower_s(least_s, promise.at_most, cfg.measure, call_s)
        more_s = processes * slower
        seconds = max(estimate.seconds, min(estimate.seconds + more_s, processes * cfg.measure.timeout_s))
        added_s = seconds - estimate.seconds
        parts_s = {name: s + added_s * (name == ROUNDS) for name, s in estimate.parts_s.items()}
        return replace(estimate, seconds=seconds, parts_s=parts_s), least_s + slower if slower else 0.0

    def least_s(self, cfg: RootConf, card: Card) -> float:
        """Seconds that multiplying takes in one process; 0: not known, or it neither compares speeds nor trains."""
        if card.device is None or not (cfg.task.compares or cfg.task.trains):
            return 0.0
        here = card.here and not self.launch.elsewhere
        dtype = cfg.model.training.precision if cfg.task.trains else cfg.dtype
        rate = rate_tflop_s(card.device, dtype) if here else rate_elsewhere_tflop_s(cfg.gpu.name, dtype)
        least = least_of_training_s if planned_steps(cfg) else least_of_run_s
        return least(cfg, rate, self.footprints) if rate else 0.0
