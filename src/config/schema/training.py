"""The typed schema of a model's training recipe: what `task=train` does (docs/digits.md)."""

from dataclasses import dataclass, field
from typing import Any

from src.config.paths import at_home
from src.config.schema.fields import aside, bounded, one_of


@dataclass
class TrainingConf:
    """How a model is trained; without an objective it cannot be."""

    objective: dict[str, Any] = field(default_factory=dict)  # `_target_` and its arguments
    data: str = "src.training.digits.digits"  # callable() -> pictures to train on, and held-out ones
    steps: int = bounded(1000, min=1)
    batch: int = bounded(64, min=1, max=65536)  # pictures per step
    learning_rate: float = bounded(1.0e-3, min=0.0)
    warmup: int = bounded(0, min=0)  # steps in which the learning rate rises
    weight_decay: float = bounded(0.0, min=0.0)
    max_gradient_norm: float = bounded(1.0, min=0.0)
    average: float = bounded(
        0.995, min=0.0, max=1.0
    )  # decay of the weights' exponential average, which is kept
    precision: str = one_of("float32", "float32", "bfloat16")  # bfloat16: autocast; the weights are float32
    zero: list[str] = field(default_factory=list)  # modules that begin at zero, as patterns of their names
    stored: str = one_of(
        "bfloat16", "bfloat16", "float32"
    )  # dtype of the weights that are written in the end
    save_every: int = bounded(100, min=1, key=False)  # steps between two checkpoints
    samples_every: int = bounded(
        250, min=0, key=False
    )  # steps between two sheets of samples; 0: none but the last
    checkpoint: str | None = aside(None)  # folder of the checkpoint; null: one of the run's own
    weights: str | None = aside(None)  # folder that the trained weights are also written to

    def __post_init__(self) -> None:
        for name in ("checkpoint", "weights"):
            if (given := getattr(self, name)) is not None:
                setattr(self, name, at_home(given))
