"""The task `latency`: build, treat, measure, compare. Reads top to bottom; the measured loop is one call."""

from dataclasses import asdict
from functools import partial

import torch

from src.autoquant.search import Autoquant
from src.compilation.scopes import compiler_counts, compiler_options, graph_break_reasons
from src.config.model_schema import PIPELINE
from src.context import RunContext
from src.measurement.paired import measure_interleaved
from src.measurement.rounds import Rounds, estimate_speedup
from src.quality.images import compare_images
from src.quality.sqnr import compare
from src.records.record import Outcome, write_json
from src.tasks.arm import Arm, prepare, warm_first_call
from src.tasks.ceilings import ceiling_metrics, note_ceilings
from src.tasks.conclusion import conclude, set_aside_emulated
from src.tasks.launches import host_metrics
from src.tasks.metrics import (
    both_speedups,
    compile_metrics,
    device_metrics,
    latency_metrics,
    memory_metrics,
)
from src.tasks.numbers import check_treated_numbers
from src.tasks.planned import PlannedArms, measure_planned
from src.tasks.power_cap import counting_estimate
from src.tasks.profiled import profile_arms
from src.tasks.timing import (
    Timed,
    cold_caches,
    energy_j,
    host_times,
    is_part,
    power_blocks,
    time_after,
    watched,
)
from src.tasks.untreated import Untreated, untreated
from src.treatments.loading import check_loading
from src.treatments.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.pipeline import check_weights


@torch.no_grad()
def measure_latency(run: RunContext) -> None:
    """Measure a treatment against its baseline and fill the record.

    Raises:
        RunEndedError: any outcome but ok.
    """
    scheme = make_scheme(run.cfg.quant)
    scheme.check(run.device, run.cfg.dtype)
    check_loading(run.cfg)
    check_weights(run.cfg)
    note_ceilings(run)
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        arms = untreated(run)
        second = partial(arms.second, run)
        conclude_with = partial(_measure_and_conclude, arms, run)
        if isinstance(scheme, Autoquant):
            planned = PlannedArms(scheme, arms.baseline, arms.alone, second, arms.rows, run)
            measure_planned(planned, conclude_with)
        else:
            treated = make_treated(scheme, arms.workload, second, arms.rows, run)
            conclude_with(prepare("treated", treated, run))
        write_json(run.folder / "layers.json", [row.as_dict() for row in arms.rows])
    set_aside_emulated(run.record)
    run.record.metrics |= ceiling_metrics(run.record)
    run.record.outcome = Outcome.OK


def _measure_and_conclude(arms: Untreated, run: RunContext, treated: Arm) -> None:
    """Time all arms, keep the raw rounds, and fill in what the record says of them."""
    record, conf = run.record, run.cfg.measure
    baseline, rival, alone = arms.baseline, arms.rival, arms.alone
    check_treated_numbers(treated.workload, treated.output, run)
    record.metrics |= compare(baseline.output, treated.output)
    if alone is None:
        with run.phase("compile baseline"):
            for arm in filter(None, (baseline, rival)):
                arm.call()  # autoquant's trials and warm first calls made Dynamo forget it
    compiled = compiler_counts()
    timed = _interleaved(baseline, treated, rival, run) if alone is None else time_after(alone, treated, run)
    recompiles = compiler_counts().since(compiled).graphs
    estimate = counting_estimate(estimate_speedup(timed.rounds, conf), timed, run)
    conclude(estimate, timed, run)
    record.metrics |= latency_metrics(timed.counted, estimate, run.cfg.batch)
    record.metrics |= both_speedups(timed.rounds, estimate, run.cfg)
    record.metrics |= device_metrics(timed, run.cfg.batch) | host_metrics(timed.host)
    record.metrics |= memory_metrics(baseline, treated, arms.beside_bytes, run.device)
    counts, breaks = compiler_counts(), graph_break_reasons()
    profile_arms(run, *([treated] if alone else [baseline, treated]))
    firsts = {
        prefix: (arm.first_call, None if alone and arm is baseline else warm_first_call(arm, run))
        for prefix, arm in (("baseline_", baseline), ("", treated))
        if arm.first_call is not None
    }
    record.metrics |= compile_metrics(firsts, counts, recompiles)
    record.details["graph_breaks"] = breaks
    if run.cfg.target == PIPELINE:
        with run.phase("compare images"):
            images, record.details["lpips"] = compare_images(baseline.output, treated.output)
        record.metrics |= images


def _interleaved(baseline: Arm, treated: Arm, rival: Arm | None, run: RunContext) -> Timed:
    """Rounds of all arms in turn, then the energy of each; the rounds are on disk whatever happens.

    In these rounds the baseline is what was the fastest of the unquantized arms.
    """
    rounds, others = Rounds(), {rival.name: rival.call} if rival else {}
    calls = (baseline.call, treated.call, *others.values())
    with watched(run.device, lambda: [call() for call in calls]) as watch:
        try:
            with run.phase("measure"):
                rounds = measure_interleaved(
                    baseline.call,
                    treated.call,
                    run.device,
                    run.cfg.measure,
                    cold=cold_caches(run.cfg),
                    launches=not is_part(run.cfg),
                    monitor=watch.monitor,
                    rounds=rounds,
                    others=others,
                )
        finally:
            if rounds.fastest_other():
                rounds = rounds.against_fastest(run.cfg.dtype)
            write_json(run.folder / "rounds.json", asdict(rounds))
        fastest = rival if rival and run.cfg.dtype in rounds.others else baseline
        blocks = power_blocks(fastest, treated, rounds, watch.monitor, run)
    arms = {"baseline_": (fastest, rounds.calls_per_round[0]), "": (treated, rounds.calls_per_round[1])}
    timed = Timed(rounds, [watch], energy_j(arms, watch.monitor, run), blocks=blocks)
    timed.host |= host_times(
        {"baseline_": (fastest, rounds.baseline_ms), "": (treated, rounds.treated_ms)}, run
    )
    return timed
