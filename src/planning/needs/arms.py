"""What each arm of a run is made of: its workload's footprint, and its weights once its scheme is applied."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from src.compilation.inductor import uses_cuda_graphs
from src.config.schema.arms import baseline_of, compiled_as
from src.config.schema.quant import QuantConf, RequiresConf
from src.config.schema.root import CompileConf, RootConf
from src.planning.needs.footprint import Footprint
from src.planning.needs.step import of_one_step
from src.treatments.layers import LayerRow, fits_none, what_fits, why_not


@dataclass(frozen=True)
class ArmNeeds:
    """Bytes of one arm."""

    footprint: Footprint  # of its workload, with its recipe, unquantized
    rows: list[LayerRow]  # its layers, with why the scheme leaves them alone
    model: int  # its weights, once the scheme is applied
    largest: int = 0  # the unquantized weight of the largest layer that the scheme takes; 0: it takes none
    graphs: bool = False  # whether its compiled parts are CUDA graphs


class Arms(NamedTuple):
    """Both arms of a run; the baseline of a task that compares nothing is the treated arm itself."""

    baseline: ArmNeeds
    treated: ArmNeeds


def arms_of(cfg: RootConf, footprint_of: Callable[[RootConf], Footprint], kind: str) -> Arms:
    """Both arms of a run.

    Args:
        kind: torch device type of the card.
    """
    treated = arm_of(cfg, footprint_of(of_one_step(cfg)), kind)
    if not cfg.task.compares:
        return Arms(treated, treated)
    base = baseline_of(cfg)
    return Arms(arm_of(base, footprint_of(of_one_step(base)), kind), treated)


def arm_of(cfg: RootConf, footprint: Footprint, kind: str) -> ArmNeeds:
    """One arm.

    Args:
        cfg: the run as this arm has it.
        kind: torch device type of the card.
    """
    rows = reasoned(footprint, cfg.quant, kind)
    chosen = [row for row in rows if not row.reason]
    return ArmNeeds(
        footprint=footprint,
        rows=rows,
        model=treated_bytes(footprint, chosen, cfg.quant.on(kind).bits),
        largest=max((footprint.layer_bytes[row.fqn] for row in chosen), default=0),
        graphs=keeps_graphs(compiled_as(cfg), kind),
    )


def reasoned(footprint: Footprint, quant: QuantConf, kind: str) -> list[LayerRow]:
    """All layers, with why the scheme leaves them alone; of autoquant's choice nothing is known: all are."""
    own = quant.on(kind)
    if not own.config:
        return [replace(row, reason=f"quant={quant.name}") for row in footprint.rows]
    return [replace(row, reason=_why_not(row, quant, own.requires)) for row in footprint.rows]


def _why_not(row: LayerRow, quant: QuantConf, requires: RequiresConf) -> str:
    if row.component not in quant.components:
        return f"{row.component} is not in quant.components"
    return why_not(row, quant.layers, requires)


def nothing_fits(rows: list[LayerRow], quant: QuantConf, kind: str) -> tuple[str, str]:
    """Why the scheme takes no layer, and the remedy; empty where it takes some.

    Args:
        rows: all layers of a workload that could be followed, with why the scheme leaves them alone.
        quant: the scheme; of one that chooses among candidates the rules for layers alone count.
        kind: torch device type of the card.
    """
    own = quant.on(kind)
    if quant.candidates:
        rows = [replace(row, reason=_why_not(row, quant, RequiresConf())) for row in rows]
    misses = bool(own.config or quant.candidates) and all(row.reason for row in rows)
    return (fits_none(quant, rows), what_fits(rows, quant, own.requires)) if misses else ("", "")


def treated_bytes(footprint: Footprint, chosen: list[LayerRow], bits: float | None) -> int:
    """Bytes of the treated arm: the chosen layers' weights in `bits` each, all else as it is."""
    if bits is None:
        return footprint.weights
    before = sum(footprint.layer_bytes[row.fqn] for row in chosen)
    return footprint.weights - before + round(sum(row.K * row.N for row in chosen) * bits / 8)


def keeps_graphs(conf: CompileConf, kind: str) -> bool:
    """Whether the compile mode records CUDA graphs, whose memory stays theirs between calls."""
    return kind == "cuda" and uses_cuda_graphs(conf)
