"""An autoquant run: search a plan, let the whole model decide, and give up only what clearly does not win."""

import gc
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import torch

from src.autoquant.plan import Plan
from src.autoquant.search import Autoquant
from src.autoquant.whole import Seen, WholeSearch
from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.measurement.paired import measure_alone, measure_interleaved
from src.measurement.rounds import estimate_speedup, rounds_in_turn
from src.outcomes import ended
from src.records.record import write_json
from src.statistics.speedup import Verdict, verdict
from src.tasks.arms.arm import Arm, prepare
from src.tasks.arms.timing import Timed, conditions, host_times, is_part, watched
from src.tasks.conclusions.conclusion import doubts
from src.timers.steps import mark_step
from src.treatments.layers import LayerRow
from src.treatments.routes.making import Second, make_treated, search_first

_LOOK_S = 3.0  # of rounds: enough to choose between plans; the one that is chosen is measured in full
# Metrics of what is not done again with another plan: the search, and what the baseline was built and told of alone.
_OF_BEFORE = (
    "quantize/",
    "memory/build",
    "memory/quantize",
    "package/baseline_",
    "component/baseline_",
)


class PlannedArms:
    """Treated arms made by plans, one at a time, and looked at in rounds with the baseline."""

    def __init__(
        self,
        scheme: Autoquant,
        baseline: Arm,
        alone: Timed | None,
        second: Second,
        rows: list[LayerRow],
        run: RunContext,
    ) -> None:
        self.scheme, self.baseline, self.alone, self.second = scheme, baseline, alone, second
        self.rows, self.run = rows, run
        self.looks = 0
        self._untouched: list[LayerRow] = [replace(row) for row in rows]
        self._arm: Arm | None = None
        self._applied: dict[str, str] = {}

    def search(self) -> Plan:
        """Let the scheme make a plan, and look at plans as a whole if it does so; the one that is to be applied."""
        run, conf = self.run, self.run.cfg
        model_ms = 0.0
        if self.scheme.looks:
            model_ms = self._model_ms()
            self.scheme.host_bound = self._host_bound(model_ms)
        search_first(self.scheme, self.baseline.workload, self.second, self.rows, run)
        assert self.scheme.plan is not None
        self._untouched = [replace(row) for row in self.rows]
        if not self.scheme.looks:
            return self.scheme.plan
        wholes = WholeSearch(self.look, model_ms, conf.measure.margin, conf.quant.whole_budget_s)
        return wholes.settle(self.scheme.plan.worth(model_ms, conf.quant.min_share))

    def arm(self, plan: Plan) -> Arm:
        """The treated arm by this plan; the last one is kept until another is asked for."""
        if self._arm is None or self._applied != plan.schemes():
            self._free()
            for row, untouched in zip(self.rows, self._untouched, strict=True):
                row.scheme, row.reason = untouched.scheme, untouched.reason
            self.scheme.plan = plan
            workload = make_treated(self.scheme, self.baseline.workload, self.second, self.rows, self.run)
            self._arm = prepare("treated", workload, self.run)
            self._applied = plan.schemes()
        return self._arm

    def look(self, plan: Plan) -> Seen | None:
        """Measure a plan in a few seconds; None where it cannot run as a whole, whatever its trials said."""
        try:
            timed = self._time(self.arm(plan))
        except Exception as error:
            end = ended(error)
            if not end.outcome.is_finding:  # a bug, or a compiler that was killed: nothing of the plan
                raise
            self._free()
            return None
        self.looks += 1
        write_json(self.run.folder / f"rounds_whole_{self.looks}.json", asdict(timed.rounds))
        estimate = estimate_speedup(timed.rounds, self.run.cfg.measure)
        disturbed = "; ".join(reason for reason, _ in doubts(timed, self.run))
        return Seen(estimate, verdict(estimate, self.run.cfg.measure.margin), disturbed)

    def _time(self, arm: Arm) -> Timed:
        run, baseline, conf = self.run, self.baseline, _look_conf(self.run.cfg.measure)
        if self.alone is None:
            with run.phase("compile baseline"):
                mark_step(run.device)
                baseline.call()  # the trials made Dynamo forget it
            with (
                run.phase("autoquant wholes"),
                watched(run.device, lambda: (baseline.call(), arm.call()), run.compilers) as watch,
            ):
                under = conditions(run.cfg, watch.monitor)
                rounds = measure_interleaved(baseline.call, arm.call, run.device, conf, under)
            return Timed(rounds, [watch])
        with run.phase("autoquant wholes"), watched(run.device, arm.call, run.compilers) as watch:
            treated = measure_alone(arm.call, run.device, conf, conditions(run.cfg, watch.monitor))
        return Timed(rounds_in_turn(self.alone.rounds, treated), [*self.alone.watches, watch])

    def _model_ms(self) -> float:
        """A call of the unquantized model, to judge what the trials promise by."""
        if self.alone is not None:
            return float(np.median(self.alone.rounds.baseline_ms))
        timer = conditions(self.run.cfg).timer(self.run.device)
        return min(timer.ms_per_call(self.baseline.call, 1) for _ in range(3))

    def _host_bound(self, model_ms: float) -> bool:
        """Whether the unquantized model waits for the host; a part of one does not, inside its model."""
        if is_part(self.run.cfg):
            return False
        arms = {"baseline_": (self.baseline, [model_ms])}
        hosts = host_times(arms, self.run) if self.alone is None else self.alone.host
        return any(host.bound for host in hosts.values())

    def _free(self) -> None:
        self._arm = None
        self.run.record.phases_s.pop("quantize", None)  # of an arm that is gone
        gc.collect()
        if self.run.device.kind == "cuda":
            torch.cuda.empty_cache()


def measure_planned(arms: PlannedArms, measure: Callable[[Arm], None]) -> None:
    """Measure the run's plan: one that was given as it is, else the one that the scheme, or the whole, decides for.

    Args:
        arms: makes the treated arms.
        measure: times an arm in full, and fills the record.
    """
    run, scheme, given = arms.run, arms.scheme, arms.scheme.plan
    plan = given or arms.search()
    treated = arms.arm(plan)
    measure(treated)
    if given is None and scheme.looks and plan.schemes() and _clearly_no_win(run):
        _set_aside(run, len(plan.schemes()))
        plan = plan.emptied("chosen by its trial, but as a whole the plan did not win")
        measure(arms.arm(plan))
    write_json(run.folder / "plan.json", plan.as_dict())
    scheme.note(plan, run, run.record.metrics["latency/baseline_median_ms"])
    if given is None and not plan.schemes() and plan.wholes:
        _note_fall_back(plan, run)


def _clearly_no_win(run: RunContext) -> bool:
    """A verdict that noise leaves open, or that is withheld, is none."""
    return run.record.verdict in (Verdict.NEUTRAL, Verdict.HURTS)


def _set_aside(run: RunContext, layers: int) -> None:
    """Keep what the plan did, measured in full, before the run starts again with nothing quantized."""
    record = run.record
    record.details["plan_not_applied"] = {
        "verdict": str(record.verdict),
        "layers": layers,
        "metrics": record.metrics,
    }
    record.metrics = {name: value for name, value in record.metrics.items() if name.startswith(_OF_BEFORE)}
    for path in [*run.folder.glob("rounds.json"), *run.folder.glob("power_blocks.json")]:
        path.rename(path.with_stem(f"{path.stem}_plan"))


def _note_fall_back(plan: Plan, run: RunContext) -> None:
    """Say why nothing was quantized; a doubt about the last measurement stays beside it."""
    record = run.record
    aside = record.details.get("plan_not_applied")
    best = max(plan.wholes, key=lambda whole: whole.speedup)
    layers = aside["layers"] if aside else sum(best.layers.values())
    found = aside["metrics"] if aside else {}
    speedup, low, high = (
        found.get(f"speedup/{name}", own)
        for name, own in (("ratio", best.speedup), ("ci_low", best.ci_low), ("ci_high", best.ci_high))
    )
    record.details["fell_back"] = (
        f"{best.what}, for {layers} layers, did not win as a whole ({speedup:.3f}x, {low:.3f}-{high:.3f}; "
        f"foretold {best.foretold:.3f}x): nothing was quantized"
    )
    record.reason = "; ".join(filter(None, [record.details["fell_back"], record.reason]))


def _look_conf(conf: MeasureConf) -> MeasureConf:
    """The run's protocol with a budget for a choice."""
    return replace(
        conf,
        budget_s=min(conf.budget_s, _LOOK_S),
        max_warmup_s=min(conf.max_warmup_s, _LOOK_S / 2),
        target_ci_width=max(conf.target_ci_width, 0.02),
    )
