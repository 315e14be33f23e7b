"""The typed schema of `task=training`: steps of both arms of a comparison (docs/training.md)."""

from dataclasses import dataclass, field
from typing import Any

from src.config.schema.fields import bounded

USUAL_OPTIMIZER = "torch.optim.AdamW"
NO_OPTIMIZER = "src.training.arm.Unstepped"  # a step is then forward and backward alone


def _adamw() -> dict[str, Any]:
    return {"_target_": USUAL_OPTIMIZER, "fused": True}


@dataclass
class LoraConf:
    """Adapters of low rank (peft), which are then all that is trained."""

    rank: int = bounded(0, min=0, max=4096)  # 0: no adapters, the whole model is trained
    alpha: int = bounded(16, min=1)  # an adapter counts alpha / rank times
    layers: str = r"(.*\.)?(to_q|to_k|to_v|to_out\.0)"  # which Linear layers, matching their whole names


@dataclass
class StepsConf:
    """What one step of both arms is; where it is not the usual one it is part of the run key."""

    steps: int = bounded(20, min=2, max=100000)  # of the loss curves
    learning_rate: float = bounded(1.0e-4, min=0.0, max=10.0)
    optimizer: dict[str, Any] = field(
        default_factory=_adamw
    )  # of both arms, but where the recipe brings its own: a class and its arguments
    lora: LoraConf = field(default_factory=LoraConf)
    emulate: bool = (
        False  # a recipe whose kernels are not here: the curve without a speed; it becomes quant.emulate
    )
