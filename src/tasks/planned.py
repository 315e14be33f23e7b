"""An autoquant run: search a plan, let the whole model decide, and give up only what clearly does not win."""

from dataclasses import asdict, replace

from src.autoquant.plan import Plan
from src.autoquant.search import Autoquant
from src.autoquant.whole import Seen, WholeSearch
from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.measurement.memory import give_back
from src.measurement.rounds import estimate_speedup
from src.outcomes import ended
from src.records.record import write_json
from src.statistics.speedup import Verdict, verdict
from src.tasks.arms.arm import Arm
from src.tasks.arms.timing import is_part
from src.tasks.arms.treated import Treatment
from src.tasks.arms.untreated import Untreated
from src.tasks.conclusions.conclusion import doubts
from src.treatments.routes.making import search_first
from src.treatments.scheme import Scheme

_LOOK_S = 3.0  # of rounds: enough to choose between plans; the one that is chosen is measured in full
# Metrics of what is not done again with another plan: the search, and what the baseline was built and told of alone.
_OF_BEFORE = (
    "quantize/",
    "memory/build",
    "memory/quantize",
    "package/baseline_",
    "component/baseline_",
)


def treatment_by(scheme: Scheme, given: Untreated, run: RunContext) -> Treatment:
    """How the scheme makes the treated arm; one that plans may have several looked at."""
    if isinstance(scheme, Autoquant):  # which stands below the arms, and cannot make one
        return Planned(scheme, given, run)
    return Treatment(scheme, given, run)


class Planned(Treatment):
    """Treated arms made by plans, one at a time: by the given one, or what the scheme or the whole decides for."""

    scheme: Autoquant

    def __init__(self, scheme: Autoquant, given: Untreated, run: RunContext) -> None:
        super().__init__(scheme, given, run)
        self.plan = scheme.plan  # to be applied
        self.searches = self.plan is None
        self.looks = 0
        self._searched = self.rows  # with the reasons that searching gave
        self._arm: Arm | None = None  # kept until another one is asked for
        self._applied: dict[str, str] = {}

    def arm(self) -> Arm:
        """The treated arm by the plan, which is searched first unless there is one."""
        if self.plan is None:
            self.plan = self._search()
        return self._by(self.plan)

    def gives_up(self) -> bool:
        """Whether the plan, measured in full, clearly did not win; it is set aside then, for an empty one."""
        assert self.plan is not None
        layers = len(self.plan.schemes())
        if not (self.searches and self.scheme.looks and layers and _clearly_no_win(self.run)):
            return False
        _set_aside(self.run, layers)
        self.plan = self.plan.emptied("chosen by its trial, but as a whole the plan did not win")
        return True

    def note(self) -> None:
        """Keep the plan, with what was predicted of it, and why it was given up, if it was."""
        plan, run = self.plan, self.run
        assert plan is not None
        write_json(run.folder / "plan.json", plan.as_dict())
        self.scheme.note(plan, run, run.record.metrics["latency/baseline_median_ms"])
        if self.searches and not plan.schemes() and plan.wholes:
            _note_fall_back(plan, run)

    def _search(self) -> Plan:
        """Let the scheme make a plan, and look at plans as a whole if it does so."""
        given, run, conf = self.given, self.run, self.run.cfg
        model_ms = 0.0
        if self.scheme.looks:
            model_ms = given.arms.call_ms(run)
            self.scheme.host_bound = self._host_bound(model_ms)
        search_first(self.scheme, given.arms.baseline.workload, self.second, self._searched, run)
        assert self.scheme.plan is not None
        if not self.scheme.looks:
            return self.scheme.plan
        wholes = WholeSearch(self._look, model_ms, conf.measure.margin, conf.quant.whole_budget_s)
        return wholes.settle(self.scheme.plan.worth(model_ms, conf.quant.min_share))

    def _by(self, plan: Plan) -> Arm:
        """The treated arm by a plan."""
        if self._arm is None or self._applied != plan.schemes():
            self._free()
            self.scheme.plan = plan
            self._arm = self.made(self._searched)
            self._applied = plan.schemes()
        return self._arm

    def _look(self, plan: Plan) -> Seen | None:
        """Measure a plan in a few seconds; None where it cannot run as a whole, whatever its trials said."""
        run, conf = self.run, self.run.cfg.measure
        try:
            timed = self.given.arms.look(self._by(plan), _look_conf(conf), run, "autoquant wholes")
        except Exception as error:
            end = ended(error)
            if not end.outcome.is_finding:  # a bug, or a compiler that was killed: nothing of the plan
                raise
            self._free()
            return None
        self.looks += 1
        write_json(run.folder / f"rounds_whole_{self.looks}.json", asdict(timed.rounds))
        estimate = estimate_speedup(timed.rounds, conf)
        disturbed = "; ".join(reason for reason, _ in doubts(timed, run))
        return Seen(estimate, verdict(estimate, conf.margin), disturbed)

    def _host_bound(self, model_ms: float) -> bool:
        """Whether the unquantized model waits for the host; a part of one does not, inside its model."""
        if is_part(self.run.cfg):
            return False
        return any(host.bound for host in self.given.arms.host(model_ms, self.run).values())

    def _free(self) -> None:
        self._arm = None
        self.run.record.phases_s.pop("quantize", None)  # of an arm that is gone
        give_back(self.run.device)


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
        f"predicted {best.predicted:.3f}x): nothing was quantized"
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
