"""The task `latency`: build, treat, measure, compare. Reads top to bottom; the measured loop is one call."""

from dataclasses import asdict

import torch

from src.config.schema import PIPELINE
from src.measurement.image_quality import compare_images
from src.measurement.load import Load, cpu_load
from src.measurement.memory import fits_twice, peak_memory
from src.measurement.paired import (
    Rounds,
    estimate_speedup,
    measure_alone,
    measure_interleaved,
    rounds_in_turn,
)
from src.measurement.quality import compare
from src.measurement.statistics import SpeedupEstimate, Verdict, verdict
from src.records.record import Outcome, write_json
from src.tasks.arm import Arm, prepare, warm_first_call
from src.tasks.context import RunContext
from src.tasks.metrics import compile_metrics, latency_metrics, memory_metrics
from src.treatments.compiling import compiler_counts, compiler_options, graph_break_reasons
from src.treatments.layers import LayerRow, capture_layers, linear_shape
from src.treatments.scheme import Scheme, make_scheme
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
    with compiler_options(run.cfg.compile):
        workload, rows = _build(run)
        together = _together(workload, run)
        baseline = prepare("baseline", workload, run)
        alone_ms = [] if together else _measure_and_free(baseline, run)
        treated_workload = _second(workload, together, run)
        _quantize(scheme, treated_workload, rows, run)
        treated = prepare("treated", treated_workload, run)
        _measure_and_conclude(baseline, treated, alone_ms, run)
        if any(row.scheme for row in rows) and _must_fall_back(scheme, run):
            _note_fall_back(rows, run)
            treated = prepare("treated", _second(workload, together, run), run)
            _measure_and_conclude(baseline, treated, alone_ms, run)
            run.record.reason = "; ".join(filter(None, [run.record.details["fell_back"], run.record.reason]))
        write_json(run.folder / "layers.json", [row.as_dict() for row in rows])
    run.record.outcome = Outcome.OK


def _build(run: RunContext) -> tuple[Workload, list[LayerRow]]:
    """The unquantized workload and its layer table."""
    with run.phase("build"), peak_memory(run.device) as peaks:
        workload = build_workload(run.cfg, run.device)
        rows, _ = capture_layers(workload)
    run.record.metrics["memory/build_peak_gib"] = peaks.headline_gib
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


def _measure_and_free(baseline: Arm, run: RunContext) -> list[float]:
    with run.phase("measure"):
        times_ms = measure_alone(baseline.call, run.device, run.cfg.measure)
    baseline.workload.module.to_empty(device="meta")
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()
    return times_ms


def _quantize(scheme: Scheme, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
    scheme.search(workload, rows, run)
    with run.phase("quantize"), peak_memory(run.device) as peaks:
        scheme.apply(workload, rows, run)
        run.device.synchronize()
    run.record.metrics["quantize/time_s"] = run.record.phases_s["quantize"]
    run.record.metrics["quantize/layers"] = float(sum(bool(row.scheme) for row in rows))
    run.record.metrics["memory/quantize_peak_gib"] = peaks.headline_gib


def _measure_and_conclude(baseline: Arm, treated: Arm, alone_ms: list[float], run: RunContext) -> None:
    """Time both arms, keep the raw rounds, and fill in what the record says of them."""
    record, conf = run.record, run.cfg.measure
    record.metrics |= compare(baseline.output, treated.output)
    if not alone_ms:
        with run.phase("compile baseline"):
            baseline.call()  # autoquant's trials and warm first calls made Dynamo forget it
    compiled = compiler_counts()
    with run.phase("measure"), cpu_load() as load:
        if alone_ms:
            rounds = rounds_in_turn(alone_ms, measure_alone(treated.call, run.device, conf))
        else:
            rounds = measure_interleaved(baseline.call, treated.call, run.device, conf)
    write_json(run.folder / "rounds.json", asdict(rounds))
    recompiles = compiler_counts().since(compiled).graphs
    estimate = estimate_speedup(rounds, conf)
    _conclude(estimate, rounds, load, run)
    record.metrics |= latency_metrics(rounds, estimate, run.cfg.batch)
    record.metrics |= memory_metrics(baseline, treated, 0 if alone_ms else baseline.model_bytes)
    counts, breaks = compiler_counts(), graph_break_reasons()
    firsts = {
        prefix: (arm.first_call, None if alone_ms and arm is baseline else warm_first_call(arm, run))
        for prefix, arm in (("baseline_", baseline), ("", treated))
    }
    record.metrics |= compile_metrics(firsts, counts, recompiles)
    record.details["graph_breaks"] = breaks
    if run.cfg.target == PIPELINE:
        with run.phase("compare images"):
            images, record.details["lpips"] = compare_images(baseline.output, treated.output)
        record.metrics |= images


def _conclude(estimate: SpeedupEstimate, rounds: Rounds, load: Load, run: RunContext) -> None:
    """The verdict, and when there is none, why."""
    conf, record = run.cfg.measure, run.record
    found, record.reason, record.remedy = verdict(estimate, conf.margin), "", ""
    crowded = run.device.threads is not None and load.crowds(run.device.threads)
    if crowded:
        found = Verdict.INCONCLUSIVE
        record.reason = (
            f"other processes used {load.foreign_cpus:.1f} of {load.cpus} CPUs while {run.device.threads} threads "
            "were measured"
        )
        record.remedy = "a quiet machine, then rerun=true; or fewer threads (gpu=cpu gpu.threads=1)"
    elif found is Verdict.INCONCLUSIVE:
        record.reason = (
            f"the interval {estimate.ci_low:.3f}-{estimate.ci_high:.3f} crosses the margin of {conf.margin:.0%}; "
            f"measuring ended by {rounds.stop_reason} after {estimate.pairs} pairs"
        )
        record.remedy = "a larger measure.budget_s, or measure=standard"
    record.verdict = found
    record.metrics["load/foreign_cpus"] = round(load.foreign_cpus, 3)
    record.details |= {
        "stop_reason": rounds.stop_reason,
        "block_length": estimate.block_length,
        "warmup_pairs": rounds.warmup_pairs,
        "calls_per_round": list(rounds.calls_per_round),
        "measured_s": rounds.seconds,
        "crowded": crowded,
    }


def _must_fall_back(scheme: Scheme, run: RunContext) -> bool:
    return scheme.falls_back and run.record.verdict != Verdict.HELPS


def _note_fall_back(rows: list[LayerRow], run: RunContext) -> None:
    """Keep what the plan did aside, and start again with every layer unquantized."""
    record = run.record
    speedup, low, high = (record.metrics[f"speedup/{name}"] for name in ("median", "ci_low", "ci_high"))
    layers = sum(bool(row.scheme) for row in rows)
    record.details["plan_not_applied"] = {
        "verdict": str(record.verdict),
        "layers": layers,
        "metrics": record.metrics,
    }
    record.details["fell_back"] = (
        f"the plan for {layers} layers did not win as a whole ({speedup:.3f}x, {low:.3f}-{high:.3f}): "
        "nothing was quantized"
    )
    kept = ("quantize/", "memory/build", "memory/quantize")
    record.metrics = {name: value for name, value in record.metrics.items() if name.startswith(kept)}
    record.metrics["quantize/layers"] = 0.0
    (run.folder / "rounds.json").rename(run.folder / "rounds_plan.json")
    for row in rows:
        if row.scheme:
            row.scheme, row.reason = "", f"the plan chose {row.scheme}, but as a whole it did not win"
