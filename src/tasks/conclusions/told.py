"""What the record says of arms that were timed: verdict, times, memory, the compiler; and what is looked at then."""

from src.compilation.scopes import Compiled
from src.context import RunContext
from src.measurement.rounds import estimate_speedup
from src.tasks.arms.arm import Arm, warm_first_call
from src.tasks.arms.components import time_components
from src.tasks.arms.in_turn import InTurn
from src.tasks.arms.profiled import profile_arms
from src.tasks.arms.side_by_side import SideBySide
from src.tasks.arms.timing import Timed
from src.tasks.conclusions.conclusion import conclude
from src.tasks.conclusions.launches import host_metrics
from src.tasks.conclusions.metrics import (
    both_speedups,
    compile_metrics,
    device_metrics,
    latency_metrics,
    memory_metrics,
)
from src.tasks.conclusions.power_cap import counting_estimate


def tell_timed(
    timed: Timed, compiled: Compiled, arms: SideBySide | InTurn, treated: Arm, run: RunContext
) -> None:
    """Put into the record what arms that were timed say; components, profile, warm first calls follow, if asked."""
    _tell_speedup(timed, run)
    run.record.metrics |= memory_metrics(arms.baseline, treated, arms.beside_bytes, run.device)
    there = arms.there(treated)
    time_components(run, there)
    profile_arms(run, *there.values())
    _tell_compiled(compiled, {"baseline_": arms.baseline, "": treated}, there, run)


def _tell_speedup(timed: Timed, run: RunContext) -> None:
    record, batch = run.record, run.cfg.batch
    alternating = estimate_speedup(timed.rounds, run.cfg.measure)
    estimate = counting_estimate(alternating, timed, run)
    conclude(estimate, timed, run)
    record.metrics |= latency_metrics(timed.counted, estimate, batch)
    record.metrics |= both_speedups(timed, alternating, estimate, run.cfg)
    record.metrics |= device_metrics(timed, batch) | host_metrics(timed)


def _tell_compiled(compiled: Compiled, arms: dict[str, Arm], there: dict[str, Arm], run: RunContext) -> None:
    """First calls of both arms, again from the cache of those that are there; graph breaks, CUDA graphs."""
    record = run.record
    again = {prefix: warm_first_call(arm, run) for prefix, arm in there.items()}
    firsts = {prefix: (arm.first_call, again.get(prefix)) for prefix, arm in arms.items() if arm.first_call}
    record.metrics |= compile_metrics(firsts, compiled.counts, compiled.recompiles)
    record.details["graph_breaks"] = compiled.breaks
    if compiled.unrecorded and run.device.kind == "cuda":  # inductor counts a CPU's too
        said = "CUDA graphs: some compiled parts were not recorded as graphs; run.log has inductor's reasons"
        record.details.setdefault("warnings", []).append(said)
