"""What a run has before its treatment: the workload, its layers, the unquantized arms.

In a process that takes several runs of one workload the first makes them, and the others find them.
"""

import gc
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from src.compilation.scopes import forget_compiled
from src.config.schema.arms import is_usual
from src.context import RunContext
from src.measurement.memory import Peaks, fits_twice, peak_memory
from src.quality.sqnr import on_cpu
from src.records.key import workload_key
from src.records.record import Record
from src.records.settled import note_otherwise, settled
from src.serialization.package import unload_packages
from src.tasks.arms.arm import Arm, prepare, prepare_again
from src.tasks.arms.baseline import choose_rival, prepare_rival
from src.tasks.arms.components import time_components
from src.tasks.arms.numbers import check_baseline_numbers, check_rival_numbers
from src.tasks.arms.profiled import profile_arms
from src.tasks.arms.recipe import baseline_run
from src.tasks.arms.timing import Timed, time_alone
from src.treatments.attached import UNQUANTIZED, built_anew
from src.treatments.layers import LayerRow, capture_layers, linear_shape
from src.treatments.routes.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.recipe import changes, recipe_refusals
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import Workload, build_workload

_DETAILS = ("pairing", "inductor", "baseline_not_measured")  # of a record: what making the arms finds out


@dataclass
class Untreated:
    """The unquantized arms, ready to be timed."""

    workload: Workload
    rows: list[LayerRow]  # for the run to fill in
    baseline: Arm
    rival: Arm | None = None  # in a faster dtype
    alone: Timed | None = None  # in turn: the baseline's rounds; it is freed then
    apart: bool = False  # the treated arm is no copy of the baseline: it is built anew
    reference: Any = None  # of a quantized baseline: the unquantized model's output, on the CPU
    shape: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    made_by: str = ""  # the run's key

    @property
    def together(self) -> bool:
        """Whether all arms are held at once, so that their rounds can alternate."""
        return self.alone is None

    @property
    def beside_bytes(self) -> int:
        """What they hold while a treated arm is measured."""
        if self.alone is not None:
            return 0
        arms = filter(None, (self.baseline, self.rival))
        return sum(arm.model_bytes + arm.workload.state_bytes() for arm in arms)

    @property
    def held_bytes(self) -> int:
        """What they hold between two runs: weights, and the arguments of a call."""
        arms = filter(None, (self.baseline, self.rival))
        return self.beside_bytes + sum(arm.workload.given_bytes() for arm in arms)

    def writes(self) -> tuple[int, ...]:
        """How often each weight was written to since it was made."""
        arms = filter(None, (self.baseline, self.rival))
        return tuple(weight._version for arm in arms for weight in arm.workload.module.parameters())

    def second(self, run: RunContext) -> Workload:
        """The same weights and inputs once more, to be treated: a copy, or built again where none can be made."""
        with run.phase("build"):
            twin = self.together and not self.apart
            return self.workload.twin() if twin else build_workload(run.cfg, run.device)


def untreated(run: RunContext) -> Untreated:
    """The run's unquantized arms: those of an earlier run of this process, where they are the same, or new ones.

    Raises:
        RunEndedError: the baseline gives no numbers, or the device has no kernel for the dtype.
    """
    kept = run.kept
    if kept is None:
        return _made(run)
    workload = workload_key(run.cfg, run.record.device)
    if kept.workload == workload:
        return _found(kept.content, run)
    kept.workload, kept.content = "", None  # the old ones go before new ones are made
    gc.collect()
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()
    made = _made(run)
    if made.together:
        kept.workload, kept.content = workload, replace(made, rows=_copied(made.rows))
    return made


def build(run: RunContext) -> tuple[Workload, list[LayerRow]]:
    """The unquantized workload and its layer table."""
    with run.phase("build"), peak_memory(run.device) as peaks:
        workload = build_workload(run.cfg, run.device)
        with recipe_refusals(run.cfg.recipe):
            rows, _ = capture_layers(workload, run.cfg.quant.components, keep=False)
    run.record.metrics |= peaks.of_the_phase().phase_metrics("build")
    run.record.shape = linear_shape(workload, rows)
    return workload, rows


def _made(run: RunContext) -> Untreated:
    base = baseline_run(run)
    faster = choose_rival(run) if is_usual(run.cfg) else None  # else the baseline is what was asked for
    workload, rows = build(base)
    apart = built_anew(run.cfg, base.cfg)
    if changes(run.cfg.recipe) != changes(base.cfg.recipe):
        rows = _rows_of_treated(run)
        gc.collect()  # a pipeline's modules refer to each other
        if run.device.kind == "cuda":
            torch.cuda.empty_cache()  # what is cached counts as taken where both arms are to fit
    reference, together = None, _together(workload, faster, run)
    if base.cfg.quant.name != UNQUANTIZED:
        reference = on_cpu(workload.call())
        workload = _quantized(workload, base)
    baseline = prepare("baseline", workload, base)
    check_baseline_numbers(workload, baseline.output, run)
    alone = None if together else _measure_and_free(baseline, run, look=True)
    rival = prepare_rival(faster, run)
    if rival and not check_rival_numbers(rival, run):
        rival = None
    if alone and rival:
        alone.others[rival.name] = _measure_and_free(rival, run, look=False)
    record = run.record
    details = {name: record.details[name] for name in _DETAILS if name in record.details}
    return Untreated(
        workload, rows, baseline, rival, alone, apart, reference, record.shape, details, record.run_key
    )


def _rows_of_treated(run: RunContext) -> list[LayerRow]:
    """The layer table of a model with the treated arm's recipe, which may have other layers than the baseline."""
    with run.phase("build"):
        workload = build_workload(run.cfg, run.device)
        with recipe_refusals(run.cfg.recipe):
            rows, _ = capture_layers(workload, run.cfg.quant.components, keep=False)
    run.record.shape = linear_shape(workload, rows)
    return rows


def _quantized(workload: Workload, base: RunContext) -> Workload:
    """The baseline's workload with its own scheme; what was done is told apart, in the folder ``baseline``."""
    scheme = make_scheme(base.cfg.quant)
    scheme.check(base.device, base.cfg.dtype)
    rows, _ = capture_layers(workload, base.cfg.quant.components, keep=False)
    folder = base.folder / "baseline"
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(base.record.run_key, base.record.attempt, base.record.sweep, base.record.axes)
    aside = replace(base, record=record, folder=folder)
    return make_treated(scheme, workload, lambda: workload, rows, aside)


def in_the_same_rounds(arms: Untreated, run: RunContext) -> Untreated:
    """The arms of another run, for one that is measured beside it in this process."""
    assert run.kept is not None
    kept: Untreated = run.kept.content
    _tell(kept, run)
    baseline = replace(arms.baseline, first_call=None, compile_peaks=Peaks())
    return replace(arms, rows=_copied(kept.rows), baseline=baseline)


def _found(kept: Untreated, run: RunContext) -> Untreated:
    """The kept arms for one more run; they are compiled again, from the cache."""
    _tell(kept, run)
    rival = kept.rival
    baseline = prepare_again(kept.baseline, rival.model_bytes if rival else 0, run)
    if rival:
        rival = prepare_again(rival, baseline.model_bytes, run)
    return replace(kept, rows=_copied(kept.rows), baseline=baseline, rival=rival)


def _tell(kept: Untreated, run: RunContext) -> None:
    """Put into the record what making the arms found out."""
    run.record.shape = dict(kept.shape)
    run.record.details |= {name: _copy(value) for name, value in kept.details.items()}
    run.record.details["baseline_made_by"] = kept.made_by


def _together(workload: Workload, faster: str | None, run: RunContext) -> bool:
    """Whether all arms are held at once: where that is asked, or they fit; in a further process as in the first."""
    asked, more = run.cfg.measure.pairing, 0.0
    pairing = settled(run.record, "pairing") or asked
    if faster is not None:
        more = getattr(torch, faster).itemsize / getattr(torch, run.cfg.dtype).itemsize
    added_bytes = int((1 + more) * size_bytes(workload.module))
    together = pairing != "in_turn" and (asked == "interleaved" or fits_twice(added_bytes, run.device))
    if pairing == "interleaved" and not together:
        note_otherwise(run.record, "both arms no longer fitted in memory, so they were measured in turn")
    run.record.details["pairing"] = "interleaved" if together else "in_turn"
    return together


def _measure_and_free(arm: Arm, run: RunContext, *, look: bool) -> Timed:
    """Rounds of an unquantized arm by itself, and its energy; `look`: at components and profile too, if asked."""
    timed = time_alone(arm, run, "baseline_")
    if look:
        time_components(run, {"baseline_": arm})
        profile_arms(run, arm)
    unload_packages(arm.workload.module)
    arm.workload.module.to_empty(device="meta")
    forget_compiled(keep_reasons=True)  # else CUDA graphs keep their memory, and frozen weights stay
    gc.collect()
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()
    return timed


def _copied(rows: list[LayerRow]) -> list[LayerRow]:
    return [replace(row) for row in rows]


def _copy(value: Any) -> Any:
    """Of what stands in a record: the run adds to it."""
    return dict(value) if isinstance(value, dict) else value
