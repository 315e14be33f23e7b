"""The candidates on one layer, timed against the unquantized layer: what autoquant chooses by.

Those of one shape stand in the same rounds, with one baseline among them: k of them cost k + 1 arms and not 2 k, and
one warm-up. All are compared with the same rounds of it.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from src.autoquant.plan import Trial
from src.compilation.scopes import compile_module
from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.measurement.joint import measure_jointly
from src.measurement.paired import Conditions
from src.measurement.rounds import Rounds, estimate_speedup
from src.outcomes import RunEndedError, ended
from src.quality.sqnr import compare
from src.records.record import Outcome
from src.timers.timer import Call, RoundTimer
from src.treatments.layers import LayerRow
from src.treatments.scheme import TorchaoScheme
from src.treatments.trying import is_refusal
from src.workloads.workload import Whole, Workload

_HOPELESS = 1.5  # times slower, at each of up to _LOOKS calls or _LOOK_MS: dropped
_LOOKS, _LOOK_MS = 8, 100.0


@dataclass
class _Tried:
    """A candidate's trial so far."""

    scheme: TorchaoScheme
    trial: Trial
    baseline_ms: float | None = None  # of a call of the unquantized layer, where it was timed
    call: Call | None = None  # of what is still to be timed in rounds, which holds it in memory


class Bench:
    """One layer, unquantized and compiled, that candidates are timed against."""

    def __init__(
        self, layer: nn.Linear, row: LayerRow, x: torch.Tensor, run: RunContext, host_bound: bool
    ) -> None:
        self.row, self.run = replace(row, fqn="inner"), run
        # Where the model waits for the host, a layer takes as long as launching it: calls back to back show that.
        self.conditions = Conditions(run.cfg.measure.cache != "warm" and not host_bound, host_bound)
        self.timer = self.conditions.timer(run.device)
        self.baseline = Workload(Whole(layer), (x,), {})
        self.quantizable = self.baseline.twin()
        compile_module(self.baseline.module, run.cfg.compile)

    def try_schemes(self, schemes: Iterable[TorchaoScheme]) -> tuple[list[Trial], float | None]:
        """Time candidates; what cannot run is a trial with its reason.

        One that does not fit beside those that wait for their rounds is looked at again once these are over.

        Returns:
            A trial of each, and ms per call of the unquantized layer where it was timed.
        """
        tried: list[_Tried] = []
        for scheme in schemes:
            each = self._at_first_sight(scheme)
            if each.trial.outcome == Outcome.OOM and any(other.call for other in tried):
                self._time(tried)
                each = self._looked_at_again(scheme)
            tried.append(each)
        self._time(tried)
        known = [each.baseline_ms for each in tried if each.baseline_ms is not None]
        return [each.trial for each in tried], min(known, default=None)

    def look(self, scheme: TorchaoScheme, trial: Trial) -> Trial:
        """A trial whose times are known, with what one call says of the output: uncompiled, and not timed.

        Of a candidate that cannot run here after all a trial with the reason.
        """
        try:
            quality = compare(self.quantizable.call(), self._quantized(scheme).call())
        except Exception as error:
            if (end := _finding(error)) is None:
                raise
            return Trial(scheme.conf.name, str(end.outcome), end.reason)
        return replace(trial, sqnr_db=quality.get("quality/sqnr_db"))

    def _quantized(self, scheme: TorchaoScheme) -> Workload:
        """The layer as a candidate makes it, which may refuse to."""
        scheme.check(self.run.device, self.run.cfg.dtype)
        treated = self.quantizable.twin()
        scheme.apply(treated, [replace(self.row)], self.run)
        return treated

    def _at_first_sight(self, scheme: TorchaoScheme) -> _Tried:
        """A candidate compiled and called a few times."""
        name = scheme.conf.name
        try:
            treated = self._quantized(scheme)
            compile_module(treated.module, self.run.cfg.compile)
            return self._looked_at(scheme, treated)
        except Exception as error:
            if (end := _finding(error)) is None:
                raise
            return _Tried(scheme, Trial(name, str(end.outcome), end.reason))

    def _looked_at_again(self, scheme: TorchaoScheme) -> _Tried:
        gc.collect()  # of the others what only a circle of references holds
        return self._at_first_sight(scheme)

    def _looked_at(self, scheme: TorchaoScheme, treated: Workload) -> _Tried:
        name, baseline = scheme.conf.name, self.baseline
        quality = compare(baseline.call().clone(), treated.call())  # a CUDA graph's output is overwritten
        sqnr_db = quality.get("quality/sqnr_db")
        slower, baseline_ms = times_slower(self.timer, baseline.call, treated.call)
        if slower > _HOPELESS:
            reason = f"dropped: {slower:.1f} times slower at first sight"
            return _Tried(scheme, Trial(name, "ok", reason, 1 / slower, sqnr_db=sqnr_db), baseline_ms)
        return _Tried(scheme, Trial(name, "ok", sqnr_db=sqnr_db), baseline_ms, treated.call)

    def _time(self, tried: Sequence[_Tried]) -> None:
        """Rounds of all that wait for them; where one cannot go on each is made again and timed by itself."""
        waiting = [each for each in tried if each.call]
        if not waiting or (why := self._cannot_go_on(waiting)) is None:
            return
        for each in waiting:
            each.call, each.trial = None, Trial(each.trial.scheme, *why)
        for each in waiting if len(waiting) > 1 else ():
            again = self._looked_at_again(each.scheme)
            self._time([again])
            each.trial, each.baseline_ms = again.trial, again.baseline_ms

    def _cannot_go_on(self, waiting: Sequence[_Tried]) -> tuple[str, str] | None:
        """Take the rounds and let go of the candidates; the outcome and its reason where one ends them, else None."""
        run, conf = self.run, _trial_conf(self.run.cfg.measure, self.run.cfg.quant.layer_budget_s)
        rounds, calls = [Rounds() for _ in waiting], [each.call for each in waiting if each.call]
        try:
            measure_jointly(
                self.baseline.call,
                calls,
                run.device,
                conf,
                self.conditions,
                rounds=rounds,
            )
        except Exception as error:
            if (end := _finding(error)) is None:
                raise
            return str(end.outcome), end.reason
        for each, own in zip(waiting, rounds, strict=True):
            found, trial, each.call = estimate_speedup(own, conf), each.trial, None
            trial.speedup, trial.ci_low, trial.ci_high = found.ratio, found.ci_low, found.ci_high
            each.baseline_ms = float(own.as_arrays()[0].min())
        return None


def _finding(error: Exception) -> RunEndedError | None:
    """What an exception says of a candidate; None: it is a failure."""
    end = ended(error)
    if end.outcome.is_finding:
        return end
    return RunEndedError(Outcome.UNSUPPORTED, end.reason) if is_refusal(error) else None


def times_slower(timer: RoundTimer, baseline: Call, treated: Call) -> tuple[float, float]:
    """How many times slower the treated call is at first sight: by the quickest of a few calls of each.

    A long call is not repeated for long; a short one is, for a stall of the machine looks like a slow kernel.

    Returns:
        The ratio, and the baseline's ms.
    """
    baseline_ms, treated_ms = [timer.ms_per_call(baseline, 1)], [timer.ms_per_call(treated, 1)]
    while (
        min(treated_ms) > _HOPELESS * min(baseline_ms)
        and sum(treated_ms) < _LOOK_MS
        and len(treated_ms) < _LOOKS
    ):
        treated_ms.append(timer.ms_per_call(treated, 1))
        baseline_ms.append(timer.ms_per_call(baseline, 1))
    return min(treated_ms) / min(baseline_ms), min(baseline_ms)


def _trial_conf(conf: MeasureConf, budget_s: float) -> MeasureConf:
    """The run's protocol with a budget per trial; 2 % is resolution enough for a choice."""
    return replace(
        conf,
        budget_s=budget_s,
        max_warmup_s=budget_s / 2,
        min_round_ms=min(conf.min_round_ms, 2.0),
        target_ci_width=max(conf.target_ci_width, 0.04),
    )
