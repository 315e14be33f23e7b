"""The first and the last place of a process that takes several runs: the baseline against its own twin.

They must come out equal, or something in the process is not as it should be.
"""

import torch

from src.compilation.scopes import compiler_options
from src.context import RunContext
from src.measurement.rounds import estimate_speedup
from src.outcomes import unsupported
from src.records.record import Outcome
from src.statistics.speedup import SpeedupEstimate, Verdict
from src.tasks.arms.arm import prepare
from src.tasks.arms.ceilings import note_ceilings
from src.tasks.arms.loops import alternate, watched_run
from src.tasks.arms.timing import Timed
from src.tasks.arms.untreated import Untreated, untreated
from src.tasks.conclusions.conclusion import conclude
from src.tasks.conclusions.metrics import latency_metrics

_TRIES = 2  # with another twin: where a copy lies in memory is chance, and what a run left behind is not


@torch.no_grad()
def measure_equal_pair(run: RunContext) -> None:
    """Measure the baseline against a second copy of it, and fill the record; `details.equal` says what came out.

    Raises:
        RunEndedError: the copy does not fit beside it; or as the baseline does.
    """
    note_ceilings(run)
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        given = untreated(run)
        if not given.arms.together:
            raise unsupported("there is no memory for a second copy beside the baseline")
        for number in range(1, _TRIES + 1):
            estimate = _measure(given, run, number)
            if came_out_equal(estimate, run.record.verdict, run.cfg.measure.margin):
                run.record.details["equal"] = True
                break
    run.record.outcome = Outcome.OK


def came_out_equal(estimate: SpeedupEstimate, verdict: str | None, margin: float) -> bool:
    """Whether a pair's verdict is neutral, or its interval holds 1 and is no wider than the neutral range.

    The latter is a pair that lies a little beside 1, as copies in other memory do, and that more rounds would decide.
    What is wider (noise, a busy machine) shows nothing of the process.
    """
    narrow = estimate.ci_high - estimate.ci_low <= 2 * margin
    return verdict == Verdict.NEUTRAL or (narrow and estimate.ci_low <= 1 <= estimate.ci_high)


def _measure(given: Untreated, run: RunContext, number: int) -> SpeedupEstimate:
    twin = prepare("treated", given.second(run), run)
    baseline = given.side_by_side.baseline
    with watched_run(run, baseline.call, twin.call) as watch:
        rounds = alternate(baseline, twin, watch, run, keep=f"rounds_{number}.json")
    estimate = estimate_speedup(rounds, run.cfg.measure)
    conclude(estimate, Timed(rounds, [watch]), run)
    run.record.details["tries"] = number
    run.record.metrics |= latency_metrics(rounds, estimate, run.cfg.batch)
    return estimate
