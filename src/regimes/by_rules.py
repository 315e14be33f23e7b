"""quant=regime: a plan by what the rules predict of each shape; no layer is timed.

Of a candidate that would be taken one call is looked at, for whether it runs and how good its output is. What is
applied is measured as any other treatment, and the record has what was predicted beside what came.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import nn

from src.autoquant.contest import by_bias, is_below_floor, unquantized
from src.autoquant.plan import UNQUANTIZED, Choice, Plan, Shape, Trial
from src.autoquant.search import Autoquant
from src.config.paths import command
from src.config.schema.quant import QuantConf
from src.context import RunContext
from src.forecasts.models.asking import Rules, ToldLayer, Treated
from src.outcomes import RunEndedError
from src.planning.matrix import Promise
from src.records.record import Outcome
from src.treatments.layers import LayerRow, capture_layers, why_not
from src.workloads.workload import Workload

PREDICTED, UNKNOWN = "predicted", "unknown"  # outcomes of trials that were not made
_NO_GAIN = "no candidate is surely predicted to gain"
_DETAIL = "regime"


class ByRules(Autoquant):
    """Chooses among candidates layer by layer, by forecasts."""

    looks = False

    def __init__(self, conf: QuantConf) -> None:
        super().__init__(conf)
        self.told: Promise | None = None  # of the whole model

    def made(self, workload: Workload, by_shape: Mapping[Shape, list[LayerRow]], run: RunContext) -> Plan:
        """A plan by the rules; they are asked in another process, the outputs are looked at in this one."""
        every, samples = capture_layers(workload, self.conf.components)
        with Rules(run.cfg, run.record.device) as rules:
            with run.phase("rules"):
                told = rules.layers({shape: self._fitting(rows[0], run) for shape, rows in by_shape.items()})
            if why := told.refused or _nothing_known(told.shapes):
                reason = f"quant=regime: the rules say nothing here: {why}"
                raise RunEndedError(Outcome.FAILED, reason, _REMEDY)
            with run.phase("look at outputs"):
                choices = [
                    self._by_rules(workload.module, layers, samples[shape], told.shapes[shape], run)
                    for shape, rows in by_shape.items()
                    for layers in by_bias(workload.module, rows)
                ]
            with run.phase("rules"):
                plan = self._worth(self.plan_of(choices, run), rules, every)
        run.record.details[_DETAIL] = {"notes": told.notes, "shapes": _tally(plan)}
        return plan

    def note(self, plan: Plan, run: RunContext, model_ms: float) -> None:
        """What was predicted beside what came; of a plan that was given nothing was."""
        if self.told is None:
            return
        metrics = run.record.metrics
        came = {name: metrics[f"speedup/{part}"] for name, part in _CAME.items()}
        told = {
            name: each for name, each in asdict(self.told).items() if each == each
        }  # no nan: JSON has none
        found = {"predicted": told, "came": {"verdict": str(run.record.verdict)} | came}
        run.record.details[_DETAIL] |= found
        if self.told.verdict != UNKNOWN:
            metrics |= {f"regime/predicted_{name}": getattr(self.told, name) for name in _CAME}
        if not plan.schemes():
            (reason, shapes), *_ = Counter(choice.reason for choice in plan.choices).most_common()
            why = f"nothing was quantized; in {shapes} of {len(plan.choices)} shapes: {reason}"
            run.record.details["fell_back"] = why
            run.record.reason = "; ".join(filter(None, [why, run.record.reason]))

    def _fitting(self, row: LayerRow, run: RunContext) -> list[str]:
        """The candidates that may take a layer."""
        requires = {name: scheme.requires(run.device) for name, scheme in self.candidates.items()}
        return [name for name in requires if not why_not(row, self.conf.layers, requires[name])]

    def _by_rules(
        self, module: nn.Module, layers: list[LayerRow], x: torch.Tensor, told: ToldLayer, run: RunContext
    ) -> Choice:
        """What a shape gets: of the candidates that are predicted to gain the best whose output will do."""
        choice = unquantized(layers)
        choice.baseline_ms = told.baseline_ms
        trials = {name: _as_trial(name, promise) for name, promise in told.candidates.items()}
        bench = self.bench(module, layers[0], x, run)
        for name in told.gaining:
            trial = trials[name] = bench.look(self.candidates[name], trials[name])
            trial.below_floor = is_below_floor(trial, self.conf)
            if trial.outcome == PREDICTED and not trial.below_floor:
                choice.scheme, choice.reason = name, f"predicted {_span(trial)} in its shape"
                break
            if trial.below_floor:
                floor = f"quant.min_sqnr_db={self.conf.min_sqnr_db}"
                trial.reason = f"predicted faster, but {trial.sqnr_db:.1f} dB is below {floor}"
        choice.trials = [*trials.values()]
        choice.reason = choice.reason or _why_none(choice.trials)
        return choice

    def _worth(self, plan: Plan, rules: Rules, rows: list[LayerRow]) -> Plan:
        """Without the shapes that are predicted to save too little of the model's time; the whole is predicted."""
        self.told, model_ms = rules.whole(_treated(plan, rows))
        worth = plan.worth(model_ms, self.conf.min_share) if model_ms > 0 else plan
        if worth.schemes() != plan.schemes():
            self.told, _ = rules.whole(_treated(worth, rows))
        return worth


_CAME = {"speedup": "ratio", "low": "ci_low", "high": "ci_high"}
_REMEDY = (
    f"{command('run', 'sweeps=linear_shapes')} measures single layers, which the rules are made of; or "
    "quant=autoquant, which times this model's own"
)


def _nothing_known(shapes: Mapping[Shape, ToldLayer]) -> str:
    """Why nothing is known of any candidate on any shape; empty where something is."""
    told = [promise for layer in shapes.values() for promise in layer.candidates.values()]
    known = [promise for promise in told if promise.verdict != UNKNOWN]
    return "" if known or not told else told[0].reason


def _treated(plan: Plan, rows: list[LayerRow]) -> Treated:
    schemes, reasons = plan.schemes(), plan.reasons()
    treated: Counter[tuple[Shape, str, str]] = Counter()
    for row in rows:
        scheme = schemes.get(row.fqn, "")
        treated[row.shape, scheme, "" if scheme else reasons.get(row.fqn, "left alone")] += row.calls
    return treated


def _as_trial(name: str, told: Promise) -> Trial:
    if told.verdict == UNKNOWN:
        return Trial(name, UNKNOWN, told.reason)
    return Trial(name, PREDICTED, told.reason, told.speedup, told.low, told.high)


def _why_none(trials: list[Trial]) -> str:
    """Why a shape is left alone."""
    unknown = [trial for trial in trials if trial.outcome == UNKNOWN]
    if trials and len(unknown) == len(trials):
        return f"unknown: {unknown[0].reason}"
    poor = next((trial.reason for trial in trials if trial.below_floor), "")
    return poor or (_NO_GAIN if trials else "no candidate fits")


def _tally(plan: Plan) -> dict[str, int]:
    """How many shapes are quantized, left alone, and left alone because nothing is known of them."""
    return dict(Counter(_kind(choice) for choice in plan.choices))


def _kind(choice: Choice) -> str:
    if choice.scheme != UNQUANTIZED:
        return "quantized"
    return UNKNOWN if choice.reason.startswith(UNKNOWN) else "left alone"


def _span(trial: Trial) -> str:
    return f"{trial.speedup:.2f}x ({trial.ci_low:.2f}-{trial.ci_high:.2f})"
