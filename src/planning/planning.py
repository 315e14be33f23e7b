"""`plan=true`: the matrix is printed, nothing is launched. The one function that every launcher calls instead."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

from src.config.durations import duration
from src.config.noise import quiet_libraries
from src.config.schema.arms import is_usual, recipe_keys
from src.config.schema.root import AUTO, GpuConf, RootConf
from src.devices.capability import EMULATE, Capability, Status, capability
from src.launching.standing import is_settled, standing
from src.outcomes import RunEndedError
from src.planning.cards import Card, card_of
from src.planning.guessed import in_shared_rounds, never_less
from src.planning.hours import GUESS, LEAST, Estimate
from src.planning.matrix import HERE, Fate, Group, Launch, Matrix, PlannedRun, Promise, plan_axes
from src.planning.needs.arms import Arms, arms_of, nothing_fits
from src.planning.needs.footprint import Footprints
from src.planning.needs.memory import Forecast, forecast
from src.planning.needs.smaller import SMALLER, sizes_that_fit
from src.planning.needs.step import of_one_step
from src.planning.needs.trainings import planned_steps
from src.planning.terminal import print_matrix
from src.planning.times import Times
from src.records.key import run_key
from src.treatments.recipe_check import settled
from src.workloads.dtype import DtypeRates, auto_dtype, scheme_takes

ALL = "all"  # plan=all: every run in a row of its own

Predict = Callable[[Path, Footprints], Callable[[RootConf], Promise]]  # outputs folder -> run -> its speedup


def show_plan(configs: Sequence[RootConf], launch: Launch = HERE, predict: Predict | None = None) -> None:
    """Print what a launcher would do with these runs.

    Args:
        configs: validated, all of one sweep.
    """
    with quiet_libraries():
        matrix = plan_runs(configs, launch, predict)
    print_matrix(matrix, every=any(cfg.plan == ALL for cfg in configs))


def plan_runs(configs: Sequence[RootConf], launch: Launch = HERE, predict: Predict | None = None) -> Matrix:
    """What is predicted of every run; nothing is built but outlines, nothing is written."""
    outputs = Path(configs[0].outputs)
    planner = _Planner(launch, outputs)
    promises = predict(outputs, planner.footprints) if predict else None
    runs = [planner.planned(cfg) for cfg in configs]
    if promises:
        runs = [planner.promised(run, cfg, promises) for run, cfg in zip(runs, configs, strict=True)]
    runs = in_shared_rounds(never_less(runs), configs, planner.groups, launch)
    return Matrix(runs, list(planner.groups.values()), launch)


class _Planner:
    """What the runs of a sweep share, each found once: cards, footprints, capabilities, earlier runs."""

    def __init__(self, launch: Launch, outputs: Path) -> None:
        self.launch, self.outputs = launch, outputs
        self.groups: dict[str, Group] = {}
        self.footprints = Footprints()
        self.times = Times(outputs, self.footprints, launch)
        self._cards: dict[str, Card] = {}
        self._capabilities: dict[tuple[str, ...], Capability] = {}
        self._made: dict[tuple[str, ...], Arms] = {}
        self._forecasts: dict[tuple[str, ...], tuple[Forecast, tuple[str, str]]] = {}
        self._keys: dict[str, int] = {}  # of runs -> their places in the sweep
        self._seen = 0  # runs

    def planned(self, cfg: RootConf) -> PlannedRun:
        """One run."""
        self._seen += 1
        card, group, asked = self._card(cfg.gpu), self._group(cfg), cfg
        cfg = self._with_dtype(cfg, card)
        axes = plan_axes(cfg)
        if skipped := self._skipped(asked if self.launch.key else cfg, card):
            fate, reason, remedy, first = skipped
            return PlannedRun(axes, group.name, fate, Estimate(0.0, GUESS), reason, remedy, repeats=first)
        try:
            cfg = self._settled(cfg, card)
        except RunEndedError as error:
            return self._unsupported(cfg, card, error.reason, error.remedy)
        if refused := self._refused(cfg, card):
            return self._unsupported(cfg, card, *refused)
        memory, misfit = self._forecast(cfg, card)
        if any(misfit):
            return self._unsupported(cfg, card, *misfit)
        slow_s = self.times.least_s(cfg, card)
        estimate = self.times.estimate(cfg, card, self._places(cfg, card), slow_s)
        if card.memory_gib and memory.exceeds(card.memory_gib):
            kind = card.device.kind if card.device else "cuda"
            remedy = sizes_that_fit(cfg, self._arms(cfg, kind), kind, card.memory_gib)
            reason = f"GiB of {card.memory_gib:.3g}, in the phase {memory.peak_phase}"
            return PlannedRun(axes, group.name, Fate.OOM, estimate, reason, remedy, memory)
        if estimate.source in (GUESS, LEAST) and slow_s > cfg.measure.timeout_s:
            limit = f"measure.timeout_s={cfg.measure.timeout_s:g}"
            reason = f"its products alone take {duration(slow_s)} there, and {limit} ends it before"
            steps = "model.training.steps" if cfg.task.trains else "training.steps"
            remedy = f"fewer {steps}, or a larger measure.timeout_s" if planned_steps(cfg) else SMALLER
            return PlannedRun(axes, group.name, Fate.TIMEOUT, estimate, reason, remedy, memory)
        return PlannedRun(axes, group.name, Fate.RUN, estimate, memory=memory)

    def promised(self, run: PlannedRun, cfg: RootConf, promises: Callable[[RootConf], Promise]) -> PlannedRun:
        """With its predicted speedup, if it would be measured and compares any, and the time of an arm far slower."""
        sent = run.fate in (Fate.RUN, Fate.OOM, Fate.TIMEOUT)
        treats = bool(cfg.quant.config or cfg.quant.candidates)
        steps = bool(planned_steps(cfg))  # of a training nothing is predicted
        if steps or not (sent and treats and cfg.task.compares and is_usual(cfg)):
            return run
        cfg = replace(cfg, dtype=run.axes["dtype"])
        promise = promises(cfg)
        estimate, needs_s = self.times.slowed(run.estimate, promise, cfg, self._card(cfg.gpu))
        run = replace(run, promise=promise, estimate=estimate)
        guessed = estimate.source in (GUESS, LEAST)
        if run.fate is not Fate.RUN or not guessed or needs_s <= cfg.measure.timeout_s:
            return run
        bound = "at most " if math.isnan(promise.speedup) else ""
        reason = (
            f"predicted {bound}{promise.at_most:.2g} times as fast: its fewest calls take {duration(needs_s)}, and "
            f"measure.timeout_s={cfg.measure.timeout_s:g} ends it before"
        )
        return replace(run, fate=Fate.TIMEOUT, reason=reason, remedy=SMALLER)

    def _unsupported(self, cfg: RootConf, card: Card, reason: str, remedy: str) -> PlannedRun:
        estimate = self.times.history.unsupported(self._places(cfg, card))
        return PlannedRun(plan_axes(cfg), self._group(cfg).name, Fate.UNSUPPORTED, estimate, reason, remedy)

    def _with_dtype(self, cfg: RootConf, card: Card) -> RootConf:
        """With what dtype=auto will stand for: of a device here as a run finds it, else as its entry says."""
        if cfg.dtype != AUTO:
            return cfg
        if card.device and card.here:
            from src.tasks.arms.baseline import with_dtype

            quiet = replace(
                cfg, measure=replace(cfg.measure, ceilings=False)
            )  # for a plan nothing long is measured
            return replace(cfg, dtype=with_dtype(quiet, card.device).dtype)
        takes = scheme_takes(cfg, card.device.kind if card.device else "cuda")
        guess = DtypeRates(
            {"float32": 1.0} if card.device else {}
        )  # of an older GPU; of an unknown one bfloat16
        capability_of = card.device.compute_capability if card.device else None
        return replace(cfg, dtype=auto_dtype(capability_of, takes, lambda: guess))

    def _places(self, cfg: RootConf, card: Card) -> list[str]:
        """What a run's device is called in records: the one opened here by its name, others by the option's too."""
        own = [card.device.name] if card.device else []
        return own if card.here and not self.launch.elsewhere else [*own, cfg.gpu.name]

    def _card(self, gpu: GpuConf) -> Card:
        key = repr(gpu)
        if key not in self._cards:
            self._cards[key] = card_of(gpu, elsewhere=self.launch.elsewhere)
        return self._cards[key]

    def _group(self, cfg: RootConf) -> Group:
        request = (self.launch.request or own_request)(cfg)
        name = repr((cfg.gpu, request))
        return self.groups.setdefault(name, Group(name, cfg.gpu.name, self._card(cfg.gpu), request))

    def _skipped(self, cfg: RootConf, card: Card) -> tuple[Fate, str, str, int | None] | None:
        """Whether a launcher would pass the run over, why, what would help, and the place of the one it repeats."""
        if cfg.rerun or (self.launch.key is None and not card.here):
            return None
        key = (
            self.launch.key(cfg)
            if self.launch.key
            else run_key(cfg, card.device.as_dict() if card.device else {})
        )
        if key in self._keys:
            return Fate.REPEATED, "the sweep holds this run more than once", "", self._keys[key]
        self._keys[key] = self._seen - 1
        done = standing(self.outputs, key, cfg, _unheard)
        if done is None or (self.launch.elsewhere and not done.device) or not is_settled(done):
            sent = (Fate.UNDER_WAY, "sent by an earlier sweep", "", None)
            return sent if key in self.launch.under_way else None
        return (
            Fate.DONE,
            f"measured before: {done.verdict or done.outcome}",
            "rerun=true measures again",
            None,
        )

    def _settled(self, cfg: RootConf, card: Card) -> RootConf:
        """The run as it is on the card: of a ladder's earlier steps what can be had there.

        Raises:
            RunEndedError: card or model cannot have the recipe.
        """
        if card.device is None or (is_usual(cfg) and not recipe_keys(cfg.recipe)):
            return cfg
        return settled(cfg, card.device)[0]

    def _refused(self, cfg: RootConf, card: Card) -> tuple[str, str] | None:
        """Why the card cannot run the scheme, and what would: the words of the record that a run would write."""
        if card.device is None:
            return None if self.launch.elsewhere else (card.source, card.remedy)
        if cfg.quant.plan is not None:
            return None
        key = (repr(cfg.quant), repr(cfg.gpu), cfg.dtype)
        if key not in self._capabilities:
            self._capabilities[key] = capability(cfg.quant, card.device, cfg.dtype)
        found = self._capabilities[key]
        if found.status is Status.OK or (found.status is Status.EMULATED and cfg.quant.emulate):
            return None
        emulate = [EMULATE] if found.status is Status.EMULATED else []
        return found.reason, "; ".join(filter(None, [found.remedy, *emulate]))

    def _forecast(self, cfg: RootConf, card: Card) -> tuple[Forecast, tuple[str, str]]:
        """The memory that the run takes, and why no layer fits its scheme, if so, with the remedy."""
        kind = card.device.kind if card.device else "cuda"
        own = (planned_steps(cfg), cfg.training, cfg.task.compares, cfg.treatment)
        key = (self._made_of(cfg, kind), repr((own, cfg.gpu, cfg.measure.pairing)))
        if key not in self._forecasts:
            arms = self._arms(cfg, kind)
            footprint, rows = arms.treated.footprint, arms.treated.rows
            misfit = ("", "") if footprint.trouble else nothing_fits(rows, cfg.quant, kind)
            self._forecasts[key] = forecast(cfg, arms, kind, card.memory_gib), misfit
        return self._forecasts[key]

    def _arms(self, cfg: RootConf, kind: str) -> Arms:
        """What both arms of a run are made of."""
        key = (self._made_of(cfg, kind), repr((cfg.treatment, cfg.task.compares)))
        if key not in self._made:
            self._made[key] = arms_of(cfg, self.footprints.of, kind)
        return self._made[key]

    def _made_of(self, cfg: RootConf, kind: str) -> str:
        """Equal for runs whose treated arms, and what can be taken from them for a baseline, are made of the same."""
        return repr((Footprints.key(of_one_step(cfg)), cfg.quant, cfg.compile, cfg.recipe, kind))


def own_request(cfg: RootConf) -> Mapping[str, Any]:
    """What a run's GPU entry asks of a cluster, as far as it asks anything."""
    request = getattr(cfg.gpu, "slurm", None)
    asked = asdict(request) if is_dataclass(request) and not isinstance(request, type) else {}
    return {name: value for name, value in asked.items() if value}


def _unheard(warning: str) -> None:
    """An unreadable record is the launcher's to tell."""
