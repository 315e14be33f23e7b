"""The task `latency`: build, treat, measure, compare. Reads top to bottom; the measured loop is one call."""

from dataclasses import asdict
from functools import partial

import torch

from src.autoquant.known import DETAIL, layer_config, layer_settings
from src.autoquant.search import Autoquant
from src.compilation.scopes import (
    Compiled,
    compiler_counts,
    compiler_options,
    graph_break_reasons,
)
from src.config.schema.arms import is_usual
from src.context import RunContext
from src.measurement.paired import measure_interleaved
from src.measurement.power_blocks import PowerBlocks
from src.measurement.rounds import Rounds, estimate_speedup
from src.quality.sqnr import compare
from src.records.record import Outcome, write_json
from src.records.settled import settled
from src.tasks.arms.arm import Arm, prepare, warm_first_call
from src.tasks.arms.ceilings import ceiling_metrics, note_ceilings
from src.tasks.arms.components import time_components
from src.tasks.arms.numbers import check_treated_numbers
from src.tasks.arms.profiled import profile_arms
from src.tasks.arms.recipe import settle_recipe
from src.tasks.arms.timing import (
    Timed,
    Watch,
    cold_caches,
    conditions,
    energy_j,
    host_times,
    is_part,
    power_blocks,
    time_after,
    watched,
)
from src.tasks.arms.untreated import Untreated, untreated
from src.tasks.conclusions.conclusion import conclude, set_aside_emulated
from src.tasks.conclusions.generated import compare_generated
from src.tasks.conclusions.launches import host_metrics
from src.tasks.conclusions.metrics import (
    both_speedups,
    compile_metrics,
    device_metrics,
    latency_metrics,
    memory_metrics,
)
from src.tasks.conclusions.power_cap import counting_estimate
from src.tasks.planned import PlannedArms, measure_planned
from src.tasks.samples import compare_samples
from src.tasks.startup import measure_startup
from src.timers.steps import mark_step
from src.treatments.routes.loading import check_loading
from src.treatments.routes.making import make_treated
from src.treatments.scheme import Scheme, make_scheme
from src.workloads.pipeline import check_weights


@torch.no_grad()
def measure_latency(run: RunContext) -> None:
    """Measure a treatment against its baseline and fill the record.

    Raises:
        RunEndedError: any outcome but ok.
    """
    scheme = admitted(run)
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        arms = untreated(run)
        conclude_with = partial(measure_and_conclude, arms, run)
        if isinstance(scheme, Autoquant):
            second = partial(arms.second, run)
            planned = PlannedArms(scheme, arms.baseline, arms.alone, second, arms.rows, run)
            measure_planned(planned, conclude_with)
        else:
            conclude_with(treated_arm(scheme, arms, run))
    finish(arms, run)


def admitted(run: RunContext) -> Scheme:
    """The run's scheme, which this device can run with these weights.

    Raises:
        RunEndedError: it cannot.
    """
    settle_recipe(run)
    scheme = make_scheme(run.cfg.quant)
    scheme.check(run.device, run.cfg.dtype)
    check_loading(run.cfg)
    check_weights(run.cfg)
    note_ceilings(run)
    return scheme


def treated_arm(scheme: Scheme, arms: Untreated, run: RunContext) -> Arm:
    """The treated arm, compiled and called once."""
    workload = make_treated(scheme, arms.workload, partial(arms.second, run), arms.rows, run)
    return prepare("treated", workload, run)


def finish(arms: Untreated, run: RunContext) -> None:
    """What is left to do when all is measured."""
    write_json(run.folder / "layers.json", [row.as_dict() for row in arms.rows])
    if run.record.shape and run.cfg.quant.config and is_usual(run.cfg):
        run.record.details[DETAIL] = _as_a_layer(run)
    set_aside_emulated(run.record)
    run.record.metrics |= ceiling_metrics(run.record)
    run.record.outcome = Outcome.OK


def _as_a_layer(run: RunContext) -> dict[str, str]:
    """By what autoquant knows a run of one Linear."""
    cfg, device = run.cfg, run.device
    settings = layer_settings(cfg, device, cold=cold_caches(cfg), launches=not is_part(cfg))
    return {"settings": settings, "config": layer_config(cfg.quant, device)}


def compare_outputs(arms: Untreated, treated: Arm, run: RunContext) -> None:
    """How far the treated arm's output is from the baseline's; where that is quantized too, each from the
    unquantized model's.

    Raises:
        RunEndedError: `bad_numerics`, when it holds NaN or infinity.
    """
    check_treated_numbers(treated.workload, treated.output, run)
    if arms.reference is None:
        run.record.metrics |= compare(arms.baseline.output, treated.output)
        return
    own = compare(arms.reference, arms.baseline.output)
    run.record.metrics |= compare(arms.reference, treated.output)
    run.record.metrics |= {name.replace("/", "/baseline_"): value for name, value in own.items()}
    run.record.details["quality_against"] = "the unquantized model, uncompiled"


def measure_and_conclude(arms: Untreated, run: RunContext, treated: Arm) -> None:
    """Time all arms, keep the raw rounds, and fill in what the record says of them."""
    compare_outputs(arms, treated, run)
    if arms.together:
        with run.phase("compile baseline"):
            for arm in filter(None, (arms.baseline, arms.rival)):
                mark_step(run.device)
                arm.call()  # autoquant's trials and warm first calls made Dynamo forget it
    compiled = compiler_counts()
    timed = interleaved(arms, treated, run) if arms.alone is None else time_after(arms.alone, treated, run)
    recompiles = compiler_counts().since(compiled).graphs
    fill_in(timed, Compiled(compiler_counts(), graph_break_reasons(), recompiles), arms, treated, run)


def fill_in(timed: Timed, compiled: Compiled, arms: Untreated, treated: Arm, run: RunContext) -> None:
    """What the record says of arms that were timed; profile and warm first calls follow, if asked."""
    tell_timed(timed, compiled, arms, treated, run)
    measure_startup(treated, arms.rows, run)
    compare_generated(arms.baseline, treated, run)
    compare_samples(arms, treated, run)


def tell_timed(timed: Timed, compiled: Compiled, arms: Untreated, treated: Arm, run: RunContext) -> None:
    """What times, memory and the compiler say."""
    record, baseline, alone = run.record, arms.baseline, arms.alone
    alternating = estimate_speedup(timed.rounds, run.cfg.measure)
    estimate = counting_estimate(alternating, timed, run)
    conclude(estimate, timed, run)
    record.metrics |= latency_metrics(timed.counted, estimate, run.cfg.batch)
    record.metrics |= both_speedups(timed, alternating, estimate, run.cfg)
    record.metrics |= device_metrics(timed, run.cfg.batch) | host_metrics(timed)
    record.metrics |= memory_metrics(baseline, treated, arms.beside_bytes, run.device)
    time_components(run, {"": treated} if alone else {"baseline_": baseline, "": treated})
    profile_arms(run, *([treated] if alone else [baseline, treated]))
    firsts = {
        prefix: (arm.first_call, None if alone and arm is baseline else warm_first_call(arm, run))
        for prefix, arm in (("baseline_", baseline), ("", treated))
        if arm.first_call is not None
    }
    record.metrics |= compile_metrics(firsts, compiled.counts, compiled.recompiles)
    record.details["graph_breaks"] = compiled.breaks
    if compiled.unrecorded and run.device.kind == "cuda":  # inductor counts a CPU's too
        said = "CUDA graphs: some compiled parts were not recorded as graphs; run.log has inductor's reasons"
        record.details.setdefault("warnings", []).append(said)


def interleaved(arms: Untreated, treated: Arm, run: RunContext) -> Timed:
    """Rounds of all arms in turn, then the energy of each; the rounds are on disk whatever happens."""
    rounds, baseline, rival = Rounds(settled=settled(run.record, "against")), arms.baseline, arms.rival
    others = {rival.name: rival.call} if rival else {}
    calls = (baseline.call, treated.call, *others.values())
    with watched(run.device, lambda: [call() for call in calls], run.compilers) as watch:
        try:
            with run.phase("measure"):
                rounds = measure_interleaved(
                    baseline.call,
                    treated.call,
                    run.device,
                    run.cfg.measure,
                    conditions(run.cfg, watch.monitor),
                    rounds=rounds,
                    others=others,
                )
        finally:
            rounds = keep_rounds(rounds, run)
        blocks = power_blocks(fastest(arms, rounds, run), treated, rounds, watch.monitor, run)
    return timed_of(rounds, blocks, watch, arms, treated, run)


def keep_rounds(rounds: Rounds, run: RunContext) -> Rounds:
    """Write the rounds as they count: with the fastest of the unquantized arms as the baseline."""
    if rounds.fastest_other():
        rounds = rounds.against_fastest(run.cfg.dtype)
    write_json(run.folder / "rounds.json", asdict(rounds))
    return rounds


def fastest(arms: Untreated, rounds: Rounds, run: RunContext) -> Arm:
    """The arm whose rounds are the baseline's."""
    return arms.rival if arms.rival and run.cfg.dtype in rounds.others else arms.baseline


def timed_of(
    rounds: Rounds,
    blocks: PowerBlocks | None,
    watch: Watch,
    arms: Untreated,
    treated: Arm,
    run: RunContext,
) -> Timed:
    """The rounds, with the energy and the host's time of both arms, measured now."""
    baseline, sizes = fastest(arms, rounds, run), rounds.calls_per_round
    energies = {"baseline_": (baseline, sizes[0]), "": (treated, sizes[1])}
    timed = Timed(rounds, [watch], energy_j(energies, watch.monitor, run, blocks), blocks=blocks)
    times = {"baseline_": (baseline, rounds.baseline_ms), "": (treated, rounds.treated_ms)}
    timed.host |= host_times(times, run)
    return timed
