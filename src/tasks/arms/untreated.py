"""What a run has before its treatment: the workload, its layers, the unquantized arms.

In a process that takes several runs of one workload the first makes them, and the others find them.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from src.config.schema.arms import is_usual
from src.context import RunContext
from src.measurement.memory import Peaks, fits_twice, give_back, peak_memory
from src.quality.sqnr import on_cpu
from src.records.key import workload_key
from src.records.record import Record
from src.records.settled import note_otherwise, settled
from src.tasks.arms.arm import prepare
from src.tasks.arms.baseline import choose_rival, prepare_rival
from src.tasks.arms.in_turn import InTurn, in_turn
from src.tasks.arms.numbers import check_baseline_numbers
from src.tasks.arms.recipe import baseline_run
from src.tasks.arms.side_by_side import SideBySide
from src.treatments.attached import UNQUANTIZED, built_anew
from src.treatments.layers import LayerRow, capture_layers, linear_shape
from src.treatments.routes.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.recipe import changes, recipe_refusals
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import Workload, build_workload

_DETAILS = ("pairing", "inductor", "baseline_not_measured")  # of a record: what making the arms finds out


@dataclass(frozen=True)
class Untreated:
    """The unquantized arms, and what a treated one is made from."""

    arms: SideBySide | InTurn
    rows: list[LayerRow]  # as they are before any treatment; each treated arm has its own
    apart: bool = False  # the treated arm is no copy of the baseline: it is built anew
    reference: Any = None  # of a quantized baseline: the unquantized model's output, on the CPU
    shape: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    made_by: str = ""  # the run's key

    @property
    def side_by_side(self) -> SideBySide:
        """The arms, where they stay beside the treated one."""
        assert isinstance(self.arms, SideBySide)
        return self.arms

    def second(self, run: RunContext) -> Workload:
        """The same weights and inputs once more, to be treated: a copy, or built again where none can be made."""
        with run.phase("build"):
            if isinstance(self.arms, SideBySide) and not self.apart:
                return self.arms.baseline.workload.twin()
            return build_workload(run.cfg, run.device)

    def tell(self, run: RunContext) -> None:
        """Put into another run's record what making the arms found out."""
        run.record.shape = dict(self.shape)
        run.record.details |= {name: _copy(value) for name, value in self.details.items()}
        run.record.details["baseline_made_by"] = self.made_by


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
        found: Untreated = kept.content
        found.tell(run)
        return replace(found, arms=found.side_by_side.again(run))
    kept.workload, kept.content = "", None  # the old ones go before new ones are made
    give_back(run.device)
    made = _made(run)
    if made.arms.together:
        kept.workload, kept.content = workload, made
    return made


def in_the_same_rounds(given: Untreated, run: RunContext) -> Untreated:
    """The arms of a run, for another one that is measured beside it."""
    given.tell(run)
    arms = given.side_by_side
    baseline = replace(arms.baseline, first_call=None, compile_peaks=Peaks())
    return replace(given, arms=replace(arms, baseline=baseline))


def build(run: RunContext) -> tuple[Workload, list[LayerRow]]:
    """The unquantized workload and its layer table."""
    with peak_memory(run.device) as peaks:
        workload, rows = _built(run)
    run.record.metrics |= peaks.of_the_phase().phase_metrics("build")
    return workload, rows


def _built(run: RunContext) -> tuple[Workload, list[LayerRow]]:
    with run.phase("build"):
        workload = build_workload(run.cfg, run.device)
        with recipe_refusals(run.cfg.recipe):
            rows, _ = capture_layers(workload, run.cfg.quant.components, keep=False)
    run.record.shape = linear_shape(workload, rows)
    return workload, rows


def _made(run: RunContext) -> Untreated:
    base, record = baseline_run(run), run.record
    faster = choose_rival(run) if is_usual(run.cfg) else None  # else the baseline is what was asked for
    workload, rows = build(base)
    if changes(run.cfg.recipe) != changes(base.cfg.recipe):
        rows = _built(run)[1]  # the treated arm may have other layers
        give_back(run.device)  # what is cached counts as taken where both arms are to fit
    together = _together(workload, faster, run)
    reference: Any = None
    if base.cfg.quant.name != UNQUANTIZED:
        reference = on_cpu(workload.call())
        workload = _quantized(workload, base)
    baseline = prepare("baseline", workload, base)
    check_baseline_numbers(workload, baseline.output, run)
    arms: SideBySide | InTurn = (
        SideBySide(baseline, prepare_rival(faster, run)) if together else in_turn(baseline, faster, run)
    )
    return Untreated(
        arms,
        rows,
        apart=built_anew(run.cfg, base.cfg),
        reference=reference,
        shape=record.shape,
        details={name: record.details[name] for name in _DETAILS if name in record.details},
        made_by=record.run_key,
    )


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


def _copy(value: Any) -> Any:
    """Of what stands in a record: the run adds to it."""
    return dict(value) if isinstance(value, dict) else value
