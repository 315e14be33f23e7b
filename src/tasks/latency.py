"""The task `latency`: build, treat, measure, compare. Reads top to bottom; the measured loop is one call."""

import torch

from src.autoquant.known import DETAIL, layer_config, layer_settings
from src.compilation.scopes import Compiled, compiled_by_now, compiler_counts, compiler_options
from src.config.schema.arms import is_usual
from src.context import RunContext
from src.quality.sqnr import compare, is_zero
from src.records.record import Outcome, write_json
from src.tasks.arms.arm import Arm
from src.tasks.arms.ceilings import ceiling_metrics, note_ceilings
from src.tasks.arms.numbers import check_treated_numbers
from src.tasks.arms.recipe import settle_recipe
from src.tasks.arms.timing import Timed, cold_caches, is_part
from src.tasks.arms.untreated import Untreated, untreated
from src.tasks.conclusions.conclusion import set_aside_emulated
from src.tasks.conclusions.generated import compare_generated, of_the_baseline
from src.tasks.conclusions.roofline import roofline_metrics
from src.tasks.conclusions.told import tell_timed
from src.tasks.planned import treatment_by
from src.tasks.samples import compare_samples
from src.tasks.startup import measure_startup
from src.treatments.layers import LayerRow
from src.treatments.routes.loading import check_loading
from src.treatments.scheme import Scheme, make_scheme
from src.workloads.pipeline import check_weights

_ZEROS = (
    "the unquantized output is all zeros: it says nothing of quality; other weights (model.weights) would"
)


@torch.no_grad()
def measure_latency(run: RunContext) -> None:
    """Measure a treatment against its baseline and fill the record, in the order of docs/measurement.md.

    Raises:
        RunEndedError: any outcome but ok.
    """
    scheme = admitted(run)
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        given = untreated(run)
        treatment = treatment_by(scheme, given, run)
        measure_arm(given, treatment.arm(), run)
        if treatment.gives_up():
            measure_arm(given, treatment.arm(), run)
        treatment.note()
    finish(treatment.rows, run)


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


def measure_arm(given: Untreated, treated: Arm, run: RunContext) -> None:
    """Compare outputs, time all arms, and fill in what the record says of them."""
    compare_outputs(given, treated, run)
    given.arms.compile_again(run)
    before = compiler_counts()
    timed = given.arms.measure(treated, run)
    fill_in(timed, compiled_by_now(before), given, treated, run)


def compare_outputs(given: Untreated, treated: Arm, run: RunContext) -> None:
    """How far the treated arm's output is from the baseline's; where that is quantized too, each from the
    unquantized model's. Of one whose output is all zeros nothing is known then, and that is said.

    Raises:
        RunEndedError: `bad_numerics`, when it holds NaN or infinity.
    """
    check_treated_numbers(treated.workload, treated.output, run)
    baseline = given.arms.baseline.output
    against = baseline if given.reference is None else given.reference
    run.record.metrics |= compare(against, treated.output)
    if is_zero(against):
        run.record.details.setdefault("warnings", []).append(_ZEROS)
    if given.reference is None:
        return
    run.record.metrics |= of_the_baseline(compare(given.reference, baseline))
    run.record.details["quality_against"] = "the unquantized model, uncompiled"


def fill_in(timed: Timed, compiled: Compiled, given: Untreated, treated: Arm, run: RunContext) -> None:
    """What the record says of arms that were timed; then what else is compared of them, if asked."""
    tell_timed(timed, compiled, given.arms, treated, run)
    measure_startup(treated, run)
    compare_generated(given.arms.baseline, treated, given.reference, run)
    compare_samples(given, treated, run)


def finish(rows: list[LayerRow], run: RunContext) -> None:
    """What is left to do when all is measured.

    Args:
        rows: the layers, with what was done to each.
        run: its record is filled in but for this.
    """
    write_json(run.folder / "layers.json", [row.as_dict() for row in rows])
    if run.record.shape and run.cfg.quant.config and is_usual(run.cfg):
        run.record.details[DETAIL] = _as_a_layer(run)
    set_aside_emulated(run.record)
    run.record.metrics |= ceiling_metrics(run.record)
    run.record.metrics |= roofline_metrics(run.record, run.cfg)
    run.record.outcome = Outcome.OK


def _as_a_layer(run: RunContext) -> dict[str, str]:
    """By what autoquant knows a run of one Linear."""
    cfg, device = run.cfg, run.device
    settings = layer_settings(cfg, device, cold=cold_caches(cfg), launches=not is_part(cfg))
    return {"settings": settings, "config": layer_config(cfg.quant, device)}
