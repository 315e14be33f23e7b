"""The task `training`: steps of a model by a recipe, against steps of the same model without it."""

import math
import re
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from hydra.utils import instantiate

from src.compilation.scopes import compiled_by_now, compiler_counts, compiler_options
from src.context import RunContext
from src.devices.device import GIB
from src.outcomes import RunEndedError, ended, unsupported
from src.quality.sqnr import compare
from src.records.mlflow.points import LOSSES_NAME
from src.records.products import share_taken, with_products
from src.records.record import Outcome, write_json
from src.statistics.curves import curve_distance
from src.tasks.arms.arm import Arm, prepare
from src.tasks.arms.ceilings import ceiling_metrics, note_ceilings
from src.tasks.arms.side_by_side import SideBySide
from src.tasks.arms.untreated import build
from src.tasks.conclusions.conclusion import set_aside_emulated
from src.tasks.conclusions.told import tell_timed
from src.timers.steps import mark_step
from src.training.arm import FirstLook, TrainingArm, gradients_wanted, train_everything, training_arm
from src.training.gradients import gradient_sqnr_db
from src.training.lora import adapters, add_adapters, gradient_stops, put_adapters, saved_and_loaded
from src.training.recipe import work_of
from src.treatments.applied import first_line
from src.treatments.recipes import same_compiler_for_both, trained_with
from src.treatments.routes.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.pipeline import check_weights
from src.workloads.workload import Workload, build_workload

_OTHERS = "a scheme of weights alone, as quant=int8wo; or a training recipe: quant=training/float8_rowwise"
_NO_GRADIENT = re.compile(
    r"derivative|backward|gradient|autograd|requires? grad|grad_fn|inference tensor|not implemented|unimplemented",
    re.IGNORECASE,
)
_TARGET_SEED, _ROUNDING_SEED = 2, 3  # beside the run's own, for weights and inputs


@torch.no_grad()
def measure_training(run: RunContext) -> None:
    """Measure a recipe's steps against unquantized ones: time, memory, and how far apart the losses are.

    Raises:
        RunEndedError: any outcome but ok.
    """
    scheme = make_scheme(run.cfg.quant)
    trained_with(scheme, run.cfg.quant, adapters=run.cfg.training.lora.rank > 0)
    scheme.check(run.device, run.cfg.dtype)
    check_weights(run.cfg)
    note_ceilings(run)
    cards = [run.device.torch] if run.device.kind == "cuda" else []
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind), torch.random.fork_rng(cards):
        same_compiler_for_both()
        torch.manual_seed(
            run.cfg.seed + _ROUNDING_SEED
        )  # recipes that round stochastically draw from torch's own
        workload, rows = build(run)
        with gradients_wanted(workload.module) as wanted:
            own_baseline, look = _looked_at("baseline_", workload, {}, run)
        baseline = prepare("baseline", own_baseline, run)
        if run.device.kind == "cpu":  # what was seen is in the same memory
            baseline.peaks = baseline.peaks.less(look.held_bytes)
        second = partial(build_workload, run.cfg, run.device)  # the first one is trained already
        converted = make_treated(scheme, workload, second, rows, run)
        own, seen = _looked_at("", converted, run.cfg.quant.optimizer, run)
        _compare_first(look, seen, run)
        del look, seen
        treated = prepare("treated", own, run)
        given = own_baseline.given_bytes()  # is not shared: the treated arm was built anew
        treated.peaks, treated.compile_peaks = treated.peaks.less(given), treated.compile_peaks.less(given)
        _note_state(baseline, treated, run)
        _compare_curves(baseline, treated, run)
        if run.cfg.training.lora.rank:
            _compare_adapted(own_baseline, own, run)
        _time(SideBySide(baseline), treated, run)
    _tell_products([row.as_dict() for row in rows], wanted, run)
    set_aside_emulated(run.record)
    run.record.metrics |= ceiling_metrics(run.record)
    run.record.outcome = Outcome.OK


def _looked_at(
    prefix: str, workload: Workload, optimizer: dict[str, Any], run: RunContext
) -> tuple[TrainingArm, FirstLook]:
    """An arm before its first step, and what that step will do; the memory of its phases, under a metric prefix."""
    conf = run.cfg.training
    make = instantiate(optimizer or conf.optimizer, _partial_=True, _convert_="all")
    seed = run.cfg.seed + _TARGET_SEED
    with run.phase("gradients"):
        if conf.lora.rank:
            add_adapters(workload.module, conf.lora, seed)
        else:
            train_everything(workload.module)
        rated = partial(make, lr=conf.learning_rate)
        arm = training_arm(workload, rated, conf.steps, seed, probe=run.cfg.model.probe)
        look = _first_look(arm, run) if not prefix else arm.first_look()
    run.record.metrics |= {
        f"memory/{prefix}gradients_gib": look.gradient_bytes / GIB,
        f"memory/{prefix}activations_gib": look.saved_bytes / GIB,
    }
    return arm, look


def _first_look(arm: TrainingArm, run: RunContext) -> FirstLook:
    """What the treated arm's first step will do.

    Raises:
        RunEndedError: `unsupported`, a scheme for inference has no gradient; or one that ends in some layer, so
            that what is before it would learn wrongly.
    """
    conf, why, look = run.cfg.quant, "", None
    with gradient_stops(arm.module) as stopped:
        try:
            look = arm.first_look()
        except (RuntimeError, AssertionError) as error:
            if conf.trains or not _of_derivatives(error):
                raise
            why = first_line(error)
    if stopped:
        more = f" and {len(stopped) - 1} more" * (len(stopped) > 1)
        why = f"its layers pass no gradient on ({stopped[0]}{more})"
    if look is None or stopped:
        raise unsupported(f"quant={conf.name} does not train: {why}", _OTHERS)
    return look


def _of_derivatives(error: Exception) -> bool:
    """Whether an error says that something has no derivative, or that the backward asks what it cannot do.

    A device that is lost, or a disk that is full, says nothing of the scheme.
    """
    end = ended(error)
    if end.outcome is not Outcome.FAILED or end.remedy or isinstance(error.__cause__, OSError):
        return False
    return isinstance(error, (NotImplementedError, AssertionError)) or bool(_NO_GRADIENT.search(str(error)))


def _tell_products(rows: list[dict[str, Any]], wanted: dict[str, set[str]], run: RunContext) -> None:
    """The layer table with each layer's three matmuls; what share of their work the recipe took."""
    told = with_products(rows, wanted)
    write_json(run.folder / "layers.json", told)
    run.record.metrics["training/flop_share"] = share_taken(told)


def _note_state(baseline: Arm, treated: Arm, run: RunContext) -> None:
    """What the optimizers keep, once they have stepped."""
    for prefix, arm in (("baseline_", baseline), ("", treated)):
        run.record.metrics[f"memory/{prefix}optimizer_gib"] = arm.workload.state_bytes() / GIB


def _compare_first(baseline: FirstLook, treated: FirstLook, run: RunContext) -> None:
    """Output and gradient of the first step: the weights are the same."""
    run.record.metrics |= compare(baseline.output, treated.output)
    found = gradient_sqnr_db(baseline.gradients, treated.gradients)
    if found is not None:
        run.record.metrics["quality/gradient_sqnr_db"] = found


def _compare_curves(baseline: Arm, treated: Arm, run: RunContext) -> None:
    """Finish the loss curves of both arms, keep them to where they are numbers, and tell how far apart they are.

    Raises:
        RunEndedError: `bad_numerics`, a loss is no number.
    """
    curves: dict[str, list[float]] = {}
    with run.phase("loss curves"):
        for arm in (baseline, treated):
            assert isinstance(arm.workload, TrainingArm)
            curves[arm.name] = arm.workload.curve(partial(mark_step, run.device))
    kept = {name: [*takewhile(math.isfinite, losses)] for name, losses in curves.items()}
    write_json(run.folder / LOSSES_NAME, {"loss": kept["treated"], "baseline_loss": kept["baseline"]})
    for name, losses in curves.items():
        if len(kept[name]) < len(losses):
            step = len(kept[name])
            raise RunEndedError(
                Outcome.BAD_NUMERICS,
                f"the {name} arm's loss of step {step + 1} is {losses[step]}",
                "a smaller training.learning_rate; or another dtype or recipe",
            )
    run.record.details["trained"] = {"steps": run.cfg.training.steps, "step": work_of(run.cfg)}
    run.record.metrics |= {
        "training/steps": float(run.cfg.training.steps),
        "training/baseline_first_loss": curves["baseline"][0],
        "training/baseline_loss": curves["baseline"][-1],
        "training/loss": curves["treated"][-1],
        "quality/loss_distance": curve_distance(curves["baseline"], curves["treated"]),
    }


def _compare_adapted(baseline: TrainingArm, treated: TrainingArm, run: RunContext) -> None:
    """Save and load the trained adapters, and tell what the baseline's give beside quantized weights.

    Raises:
        RunEndedError: `failed`, what was loaded does not give what was saved.
    """
    every = sum(parameter.numel() for parameter in treated.module.parameters())
    own, others = adapters(treated.module), adapters(baseline.module)
    with run.phase("adapters"), torch.compiler.set_stance("force_eager"):
        before, wanted = treated.output(), baseline.output()
        size = saved_and_loaded(treated.module, run.folder)
        after = treated.output()
        put_adapters(treated.module, others)
        adapted = compare(wanted, treated.output())
        put_adapters(treated.module, own)
    if not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
        raise RunEndedError(
            Outcome.FAILED, "the adapters that were loaded give another output than those saved"
        )
    if "quality/sqnr_db" in adapted:
        run.record.metrics["quality/adapted_sqnr_db"] = adapted["quality/sqnr_db"]
    run.record.metrics |= {
        "training/trained_share": sum(each.numel() for each in own.values()) / every,
        "training/adapters_gib": size / GIB,
    }


def _time(arms: SideBySide, treated: Arm, run: RunContext) -> None:
    """Steps of both arms in turn: what a call is to a forward, a step is here."""
    before = compiler_counts()
    timed = arms.measure(treated, run)
    tell_timed(timed, compiled_by_now(before), arms, treated, run)
    for arm in (arms.baseline, treated):  # each round went on with the training
        mark_step(run.device)
        if not math.isfinite(loss := float(arm.call())):
            said = f"the {arm.name} arm's loss is {loss} after the rounds: what was timed may be steps of no numbers"
            run.record.details.setdefault("warnings", []).append(said)
