"""One candidate on one layer, timed against the unquantized layer: what autoquant chooses by."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from src.autoquant.plan import Trial
from src.compilation.scopes import compile_module
from src.config.schema import MeasureConf
from src.context import RunContext
from src.measurement.paired import measure_interleaved
from src.measurement.rounds import estimate_speedup
from src.outcomes import ended
from src.quality.sqnr import compare
from src.records.record import Outcome
from src.timers.timer import Call, RoundTimer
from src.treatments.layers import LayerRow
from src.treatments.scheme import TorchaoScheme
from src.treatments.trying import is_refusal
from src.workloads.workload import Whole, Workload

_HOPELESS = 1.5  # times slower, at each of up to _LOOKS calls or _LOOK_MS: dropped
_LOOKS, _LOOK_MS = 8, 100.0


class Bench:
    """One layer, unquantized and compiled, that candidates are timed against."""

    def __init__(
        self, layer: nn.Linear, row: LayerRow, x: torch.Tensor, run: RunContext, host_bound: bool
    ) -> None:
        self.row, self.run = replace(row, fqn="inner"), run
        # Where the model waits for the host, a layer takes as long as launching it: calls back to back show that.
        self.cold, self.launches = run.cfg.measure.cache != "warm" and not host_bound, host_bound
        self.timer = RoundTimer(run.device, cold=self.cold, launches=self.launches)
        self.baseline = Workload(Whole(layer), (x,), {})
        self.quantizable = self.baseline.twin()
        compile_module(self.baseline.module, run.cfg.compile)

    def try_scheme(self, scheme: TorchaoScheme) -> tuple[Trial, float | None]:
        """Time one candidate; what cannot run is a trial with its reason.

        Returns:
            The trial, and ms per call of the unquantized layer where it was timed.
        """

        def timed(treated: Workload) -> tuple[Trial, float | None]:
            compile_module(treated.module, self.run.cfg.compile)
            return self._time(scheme.conf.name, treated)

        return self._tried(scheme, timed)

    def look(self, scheme: TorchaoScheme, trial: Trial) -> Trial:
        """A trial whose times are known, with what one call says of the output: uncompiled, and not timed.

        Of a candidate that cannot run here after all a trial with the reason.
        """

        def looked(treated: Workload) -> tuple[Trial, None]:
            quality = compare(self.quantizable.call(), treated.call())
            return replace(trial, sqnr_db=quality.get("quality/sqnr_db")), None

        return self._tried(scheme, looked)[0]

    def _tried(
        self, scheme: TorchaoScheme, work: Callable[[Workload], tuple[Trial, float | None]]
    ) -> tuple[Trial, float | None]:
        """What the work makes of the quantized layer; what cannot run is a trial with its reason."""
        name, run = scheme.conf.name, self.run
        try:
            scheme.check(run.device, run.cfg.dtype)
            treated = self.quantizable.twin()
            scheme.apply(treated, [replace(self.row)], run)
            return work(treated)
        except Exception as error:
            end = ended(error)
            if end.outcome is not Outcome.FAILED:
                return Trial(name, str(end.outcome), end.reason), None
            if is_refusal(error):
                return Trial(name, str(Outcome.UNSUPPORTED), end.reason), None
            raise

    def _time(self, name: str, treated: Workload) -> tuple[Trial, float | None]:
        baseline, run = self.baseline, self.run
        quality = compare(baseline.call().clone(), treated.call())  # a CUDA graph's output is overwritten
        sqnr_db = quality.get("quality/sqnr_db")
        slower, baseline_ms = times_slower(self.timer, baseline.call, treated.call)
        if slower > _HOPELESS:
            reason = f"dropped: {slower:.1f} times slower at first sight"
            return Trial(name, "ok", reason, 1 / slower, sqnr_db=sqnr_db), baseline_ms
        conf = _trial_conf(run.cfg.measure, run.cfg.quant.layer_budget_s)
        rounds = measure_interleaved(
            baseline.call, treated.call, run.device, conf, cold=self.cold, launches=self.launches
        )
        estimate = estimate_speedup(rounds, conf)
        trial = Trial(name, "ok", "", estimate.ratio, estimate.ci_low, estimate.ci_high, sqnr_db)
        return trial, float(rounds.as_arrays()[0].min())


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
