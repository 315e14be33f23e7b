"""The memory that a run is foretold to take, phase by phase; the rules stand in docs/planning.md."""

from dataclasses import dataclass, replace

from src.compilation.inductor import options_of_mode
from src.config.schema.arms import compiled_as
from src.config.schema.quant import QuantConf, RequiresConf
from src.config.schema.root import CompileConf, RootConf
from src.devices.device import GIB
from src.planning.needs.footprint import Footprint
from src.planning.needs.trainings import training_phases, whole_training_phases
from src.treatments.layers import LayerRow, fits_none, what_fits, why_not

_WORK = 2  # copies of a layer's unquantized weight that quantizing it takes beside it
_TIGHT = 0.9  # of a card: the rest goes to CUDA's own context, kernels' workspaces and fragments


@dataclass(frozen=True)
class Forecast:
    """GiB of tensors on the device."""

    baseline_model_gib: float
    model_gib: float  # of the treated arm
    phases_gib: dict[str, float]  # the most that each phase holds
    together: bool  # whether both arms are there at once
    trouble: str = ""  # why only the weights are known, where that is so
    built: bool = True  # False: not even these, for the model could not be built

    @property
    def peak_gib(self) -> float:
        """The most of the whole run."""
        return max(self.phases_gib.values())

    @property
    def peak_phase(self) -> str:
        """The phase that needs the most."""
        return max(self.phases_gib, key=lambda phase: self.phases_gib[phase])

    def exceeds(self, card_gib: float | None) -> bool:
        """Whether a run needs more than the card has."""
        return card_gib is not None and self.peak_gib > card_gib

    def is_tight(self, card_gib: float | None) -> bool:
        """Whether a run needs nearly all that the card has."""
        return card_gib is not None and _TIGHT * card_gib < self.peak_gib <= card_gib


def forecast(
    cfg: RootConf, footprint: Footprint, rows: list[LayerRow], kind: str, card_gib: float | None
) -> Forecast:
    """What a run's phases hold on the device, in the order of src/tasks/latency.py.

    Args:
        cfg: the run.
        footprint: of its workload.
        rows: its layers with why the scheme leaves them alone, as `reasoned` gives them.
        kind: torch device type of the card.
        card_gib: its memory; None: not known.
    """
    if cfg.task.trains:
        own = footprint.weights / GIB
        whole = whole_training_phases(footprint)
        return Forecast(own, own, whole, together=False, trouble=footprint.trouble, built=footprint.built)
    quant, weights, inputs = cfg.quant, footprint.weights, footprint.inputs
    chosen = [row for row in rows if not row.reason]
    treated = treated_bytes(footprint, chosen, quant.on(kind).bits)
    largest = max((footprint.layer_bytes[row.fqn] for row in chosen), default=0)
    together = _together(cfg, footprint, kind, card_gib)
    beside = weights if together else 0
    kept = footprint.activations if together and keeps_graphs(compiled_as(cfg), kind) else 0
    work = _WORK * largest
    making = {
        "device": weights + work,
        "cpu": treated,
        "streamed": treated + largest + work,
    }["streamed" if quant.via == "diffusers" and quant.where == "device" else quant.where]
    phases = {
        "build": footprint.building,
        "baseline": weights + inputs + footprint.activations,
        "quantize": beside + inputs + kept + making,
        "treated": beside + inputs + kept + treated + footprint.activations + largest,
    }
    if not cfg.task.compares:
        del phases["baseline"]
    gib = {phase: size / GIB for phase, size in phases.items()}
    if cfg.task.steps:
        gib = training_phases(cfg, footprint, treated, largest)
    return Forecast(weights / GIB, treated / GIB, gib, together, footprint.trouble, footprint.built)


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
    if kind != "cuda" or conf.scope == "none":
        return False
    options = options_of_mode(conf.mode)
    return bool((options | conf.options).get("triton.cudagraphs"))


def _together(cfg: RootConf, footprint: Footprint, kind: str, card_gib: float | None) -> bool:
    """Whether both arms are held at once: as src.measurement.memory.fits_twice decides on an otherwise empty card."""
    if not cfg.task.compares:
        return False
    if cfg.measure.pairing != "auto" or card_gib is None:
        return cfg.measure.pairing != "in_turn"
    room = {"cuda": 1.25}.get(kind, 1.5)
    return footprint.weights * room < card_gib * GIB - footprint.weights - footprint.inputs
