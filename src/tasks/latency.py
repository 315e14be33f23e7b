"""The task `latency`: build, treat, measure, compare. Reads top to bottom; the measured loop is one call."""

from dataclasses import asdict
from functools import partial

import torch

from src.config.model_schema import PIPELINE
from src.measurement.image_quality import compare_images
from src.measurement.memory import fits_twice, peak_memory
from src.measurement.paired import measure_interleaved
from src.measurement.quality import compare
from src.measurement.rounds import Rounds, estimate_speedup
from src.records.record import Outcome, write_json
from src.tasks.arm import Arm, prepare, warm_first_call
from src.tasks.ceilings import ceiling_metrics, note_ceilings
from src.tasks.conclusion import conclude, set_aside_emulated
from src.tasks.context import RunContext
from src.tasks.launches import host_metrics
from src.tasks.metrics import compile_metrics, device_metrics, latency_metrics, memory_metrics
from src.tasks.numbers import check_baseline_numbers, check_treated_numbers
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
from src.treatments.autoquant import Autoquant
from src.treatments.compiling import compiler_counts, compiler_options, graph_break_reasons
from src.treatments.layers import LayerRow, capture_layers, linear_shape
from src.treatments.loading import check_loading
from src.treatments.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.model import size_bytes
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
    note_ceilings(run)
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        workload, rows = build(run)
        together = _together(workload, run)
        baseline = prepare("baseline", workload, run)
        check_baseline_numbers(workload, baseline.output, run)
        alone = None if together else _measure_and_free(baseline, run)
        second = partial(_second, workload, together, run)
        if isinstance(scheme, Autoquant):
            planned = PlannedArms(scheme, baseline, alone, second, rows, run)
            measure_planned(planned, lambda treated: _measure_and_conclude(baseline, treated, alone, run))
        else:
            treated = prepare("treated", make_treated(scheme, workload, second, rows, run), run)
            _measure_and_conclude(baseline, treated, alone, run)
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


def _together(workload: Workload, run: RunContext) -> bool:
    """Whether both arms are held at once, so that their rounds can alternate."""
    pairing = run.cfg.measure.pairing
    together = (
        fits_twice(size_bytes(workload.module), run.device) if pairing == "auto" else pairing != "in_turn"
    )
    run.record.details["pairing"] = "interleaved" if together else "in_turn"
    return together


def _second(workload: Workload, together: bool, run: RunContext) -> Workload:
    """A second copy of the same weights and inputs: beside the first, or built again after it was freed."""
    with run.phase("build"):
        return workload.twin() if together else build_workload(run.cfg, run.device)


def _measure_and_free(baseline: Arm, run: RunContext) -> Timed:
    timed = time_alone(baseline, run, "baseline_")
    profile_arms(run, baseline)
    baseline.workload.module.to_empty(device="meta")
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()
    return timed


def _measure_and_conclude(baseline: Arm, treated: Arm, alone: Timed | None, run: RunContext) -> None:
    """Time both arms, keep the raw rounds, and fill in what the record says of them."""
    record, conf = run.record, run.cfg.measure
    check_treated_numbers(treated.workload, treated.output, run)
    record.metrics |= compare(baseline.output, treated.output)
    if alone is None:
        with run.phase("compile baseline"):
            baseline.call()  # autoquant's trials and warm first calls made Dynamo forget it
    compiled = compiler_counts()
    timed = _interleaved(baseline, treated, run) if alone is None else time_after(alone, treated, run)
    recompiles = compiler_counts().since(compiled).graphs
    estimate = counting_estimate(estimate_speedup(timed.rounds, conf), timed, run)
    conclude(estimate, timed, run)
    record.metrics |= latency_metrics(timed.counted, estimate, run.cfg.batch)
    record.metrics |= device_metrics(timed, run.cfg.batch) | host_metrics(timed.host)
    record.metrics |= memory_metrics(
        baseline, treated, baseline.model_bytes if alone is None else 0, run.device
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


def _interleaved(baseline: Arm, treated: Arm, run: RunContext) -> Timed:
    """Rounds of both arms in turn, then the energy of each; the rounds are on disk whatever happens."""
    rounds = Rounds()
    with watched(run.device, lambda: (baseline.call(), treated.call())) as watch:
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
                )
        finally:
            write_json(run.folder / "rounds.json", asdict(rounds))
        blocks = power_blocks(baseline, treated, rounds, watch.monitor, run)
    arms = {"baseline_": (baseline, rounds.calls_per_round[0]), "": (treated, rounds.calls_per_round[1])}
    timed = Timed(rounds, [watch], energy_j(arms, watch.monitor, run), blocks=blocks)
    timed.host |= host_times(
        {"baseline_": (baseline, rounds.baseline_ms), "": (treated, rounds.treated_ms)}, run
    )
    return timed
