"""The task `latency`: build, treat, measure, compare. Reads top to bottom; the measured loop is one call."""

from dataclasses import asdict
from functools import partial

import torch

from src.autoquant.search import Autoquant
from src.compilation.scopes import compiler_counts, compiler_options, graph_break_reasons
from src.config.model_schema import PIPELINE
from src.context import RunContext
from src.measurement.memory import fits_twice, peak_memory
from src.measurement.paired import measure_interleaved
from src.measurement.rounds import Rounds, estimate_speedup
from src.quality.images import compare_images
from src.quality.sqnr import compare
from src.records.record import Outcome, write_json
from src.tasks.arm import Arm, prepare, warm_first_call
from src.tasks.baseline import choose_rival, prepare_rival
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
from src.tasks.numbers import check_baseline_numbers, check_rival_numbers, check_treated_numbers
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
    time_alone,
    watched,
)
from src.treatments.layers import LayerRow, capture_layers, linear_shape
from src.treatments.loading import check_loading
from src.treatments.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.model import size_bytes
from src.workloads.pipeline import check_weights
from src.workloads.workload import Workload, build_workload


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
    faster = choose_rival(run)
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        workload, rows = build(run)
        together = _together(workload, faster, run)
        baseline = prepare("baseline", workload, run)
        check_baseline_numbers(workload, baseline.output, run)
        alone = None if together else _measure_and_free(baseline, run, "baseline_")
        rival = prepare_rival(faster, run)
        if rival and not check_rival_numbers(rival, run):
            rival = None
        if alone and rival:
            alone.others[rival.name] = _measure_and_free(rival, run, None)
        second = partial(_second, workload, together, run)
        conclude_with = partial(_measure_and_conclude, baseline, rival, alone, run)
        if isinstance(scheme, Autoquant):
            measure_planned(PlannedArms(scheme, baseline, alone, second, rows, run), conclude_with)
        else:
            conclude_with(prepare("treated", make_treated(scheme, workload, second, rows, run), run))
        write_json(run.folder / "layers.json", [row.as_dict() for row in rows])
    set_aside_emulated(run.record)
    run.record.metrics |= ceiling_metrics(run.record)
    run.record.outcome = Outcome.OK


def build(run: RunContext) -> tuple[Workload, list[LayerRow]]:
    """The unquantized workload and its layer table."""
    with run.phase("build"), peak_memory(run.device) as peaks:
        workload = build_workload(run.cfg, run.device)
        rows, _ = capture_layers(workload, run.cfg.quant.components, keep=False)
    run.record.metrics |= peaks.phase_metrics("build")
    run.record.shape = linear_shape(rows)
    return workload, rows


def _together(workload: Workload, faster: str | None, run: RunContext) -> bool:
    """Whether all arms are held at once, so that their rounds can alternate."""
    pairing, more = run.cfg.measure.pairing, 0.0
    if faster is not None:
        more = getattr(torch, faster).itemsize / getattr(torch, run.cfg.dtype).itemsize
    added_bytes = int((1 + more) * size_bytes(workload.module))
    together = fits_twice(added_bytes, run.device) if pairing == "auto" else pairing != "in_turn"
    run.record.details["pairing"] = "interleaved" if together else "in_turn"
    return together


def _second(workload: Workload, together: bool, run: RunContext) -> Workload:
    """A second copy of the same weights and inputs: beside the first, or built again after it was freed."""
    with run.phase("build"):
        return workload.twin() if together else build_workload(run.cfg, run.device)


def _measure_and_free(arm: Arm, run: RunContext, prefix: str | None) -> Timed:
    """Rounds of an arm by itself; with a metric prefix also its energy and its profile, if asked."""
    timed = time_alone(arm, run, prefix)
    if prefix is not None:
        profile_arms(run, arm)
    arm.workload.module.to_empty(device="meta")
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()
    return timed


def _measure_and_conclude(
    baseline: Arm, rival: Arm | None, alone: Timed | None, run: RunContext, treated: Arm
) -> None:
    """Time all arms, keep the raw rounds, and fill in what the record says of them."""
    record, conf = run.record, run.cfg.measure
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
    record.metrics |= memory_metrics(
        baseline, treated, _beside_bytes(baseline, rival) if alone is None else 0, run.device
    )
    counts, breaks = compiler_counts(), graph_break_reasons()
    profile_arms(run, *([treated] if alone else [baseline, treated]))
    firsts = {
        prefix: (arm.first_call, None if alone and arm is baseline else warm_first_call(arm, run))
        for prefix, arm in (("baseline_", baseline), ("", treated))
    }
    record.metrics |= compile_metrics(firsts, counts, recompiles)
    record.details["graph_breaks"] = breaks
    if run.cfg.target == PIPELINE:
        with run.phase("compare images"):
            images, record.details["lpips"] = compare_images(baseline.output, treated.output)
        record.metrics |= images


def _beside_bytes(baseline: Arm, rival: Arm | None) -> int:
    return baseline.model_bytes + (rival.model_bytes if rival else 0)


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
