"""What a plan knows of runs that are no comparison of inference: trainings, packages, checkpoints."""

from src.config.schema.root import RootConf, training_steps
from src.devices.device import GIB
from src.planning.needs.arms import ArmNeeds
from src.planning.needs.footprint import Footprint
from src.training.arm import Unstepped

_STATES = 2  # that AdamW keeps of each weight
_UNSTEPPED = f"{Unstepped.__module__}.{Unstepped.__qualname__}"


def can_be_guessed(cfg: RootConf) -> bool:
    """Whether the rounds' budget says how long a run takes: not where packages or steps take longest."""
    return cfg.task.compares and not cfg.task.steps and not cfg.compile.package


def planned_steps(cfg: RootConf) -> int:
    """Steps of a training, or of the loss curves of one; 0 of any other run."""
    return cfg.training.steps if cfg.task.steps else training_steps(cfg)


def training_phases(cfg: RootConf, arm: ArmNeeds, work: int) -> dict[str, float]:
    """GiB that the phases of `task=training` hold: both arms are there at once, each with its optimizer's state.

    Each arm is built by itself, with arguments and targets of its own.

    Args:
        arm: what both arms are made of; the scheme is the treated one's alone.
        work: bytes that quantizing a layer takes beside it.
    """
    seen = arm.footprint
    stepped = cfg.training.optimizer.get("_target_") != _UNSTEPPED
    trained = seen.adapters if cfg.training.lora.rank else seen.weights
    kept = seen.adapters + (_STATES * trained if stepped else 0) + seen.inputs + seen.targets
    baseline = seen.weights + kept
    dequantized = arm.largest if cfg.training.lora.rank else 0  # a layer that a recipe trains stays as it is
    phases = {
        "build": seen.building,
        "baseline": baseline + seen.step,
        "quantize": baseline + max(seen.made, seen.weights + seen.inputs + work),
        "treated": baseline + arm.model + kept + seen.step + dequantized,
    }
    return {phase: size / GIB for phase, size in phases.items()}


def whole_training_phases(footprint: Footprint) -> dict[str, float]:
    """The same of `task=train`: weights, their average, gradients and activations of a step, AdamW's state.

    Args:
        footprint: of one step (`of_one_step`).
    """
    weights = footprint.weights
    phases = {
        "build": 2 * weights,
        "train": (2 + _STATES) * weights + footprint.inputs + max(footprint.step, weights),
    }
    return {phase: size / GIB for phase, size in phases.items()}
