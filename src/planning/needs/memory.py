"""The memory that a run is predicted to take, phase by phase; the rules stand in docs/planning.md."""

from dataclasses import dataclass

from src.config.schema.arms import baseline_of
from src.config.schema.quant import QuantConf
from src.config.schema.root import RootConf
from src.devices.device import GIB
from src.planning.needs.arms import ArmNeeds, Arms
from src.planning.needs.trainings import training_phases, whole_training_phases
from src.treatments.attached import built_anew
from src.workloads.recipe import changes

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


def forecast(cfg: RootConf, arms: Arms, kind: str, card_gib: float | None) -> Forecast:
    """What a run's phases hold on the device, in the order of src/tasks/latency.py.

    Args:
        kind: torch device type of the card.
        card_gib: its memory; None: not known.
    """
    base, own = arms
    together = not cfg.task.trains and _together(cfg, base, kind, card_gib)
    if cfg.task.trains:
        gib = whole_training_phases(own.footprint)
    elif cfg.task.steps:
        gib = training_phases(cfg, own, _WORK * own.largest)
    else:
        gib = {phase: size / GIB for phase, size in _phases(cfg, arms, together=together).items()}
    adapters = own.footprint.adapters
    return Forecast(
        (base.model + adapters) / GIB,
        (own.model + adapters) / GIB,
        gib,
        together,
        own.footprint.trouble or base.footprint.trouble,
        own.footprint.built and base.footprint.built,
    )


def _phases(cfg: RootConf, arms: Arms, *, together: bool) -> dict[str, int]:
    """Bytes that each phase holds.

    Args:
        together: whether both arms are there at once.
    """
    base, own = arms
    if not cfg.task.compares:
        making = own.footprint.inputs + _making(own, cfg.quant)
        return {"build": own.footprint.building, "quantize": making, "treated": _calling(own)}
    beside = base.footprint.inputs  # an arm that went lets go of its weights alone
    if together:
        beside += base.model + (base.footprint.activations if base.graphs else 0)
    making, given = _making(own, cfg.quant), 0
    if _on_device(cfg.quant) and not (together and not built_anew(cfg, baseline_of(cfg))):
        given = own.footprint.inputs
        making = max(own.footprint.made, making + given)
    return {
        "build": _building(cfg, arms),
        "baseline": _calling(base),
        "quantize": beside + making,
        "treated": beside + given + _calling(own) - own.footprint.inputs,
    }


def _building(cfg: RootConf, arms: Arms) -> int:
    """The most until the baseline is there.

    Of a treated arm with another recipe a model is built and called for its layers, beside the baseline's; a
    baseline that is quantized is called unquantized first.
    """
    base, own = arms[0], arms[1].footprint
    plain, base_cfg = base.footprint, baseline_of(cfg)
    held, most = plain.weights + plain.inputs, plain.building
    if changes(cfg.recipe) != changes(base_cfg.recipe):
        most = max(most, held + own.building)
    if base.largest:
        beside = 0 if _on_device(base_cfg.quant) else plain.weights
        most = max(most, held + plain.activations, beside + plain.inputs + _making(base, base_cfg.quant))
    return most


def _making(arm: ArmNeeds, quant: QuantConf) -> int:
    """The most that quantizing an arm's weights holds of them; on the device a whole unquantized copy."""
    work = _WORK * arm.largest
    if _on_device(quant):
        return arm.footprint.weights + work
    return arm.model if quant.where == "cpu" else arm.model + arm.largest + work


def _on_device(quant: QuantConf) -> bool:
    """Whether weights are quantized in a whole copy on the device; else the copy comes in parts, or from the host."""
    return quant.where == "device" and quant.via == "direct"


def _calling(arm: ArmNeeds) -> int:
    """What an arm's call holds: weights, arguments, activations, and one layer's weight dequantized."""
    return arm.model + arm.footprint.inputs + arm.footprint.activations + arm.largest


def _together(cfg: RootConf, base: ArmNeeds, kind: str, card_gib: float | None) -> bool:
    """Whether both arms are held at once: as src.measurement.memory.fits_twice decides on an otherwise empty card."""
    if not cfg.task.compares:
        return False
    if cfg.measure.pairing != "auto" or card_gib is None:
        return cfg.measure.pairing != "in_turn"
    weights, inputs = base.footprint.weights, base.footprint.inputs
    room = {"cuda": 1.25}.get(kind, 1.5)
    return weights * room < card_gib * GIB - weights - inputs
