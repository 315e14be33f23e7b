"""An autoquant plan: the choice per distinct shape with its evidence, as JSON that can be applied again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.errors import ConfigError

if TYPE_CHECKING:
    from src.workloads.device import Device

PLAN_VERSION = 1
UNQUANTIZED = "none"


@dataclass
class Trial:
    """One candidate on one shape."""

    scheme: str
    outcome: str  # ok, or why it could not be timed
    reason: str = ""
    speedup: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    sqnr_db: float | None = None  # of the layer's output; null: equal to the last bit


@dataclass
class Choice:
    """What one distinct shape gets, and why."""

    M: int
    K: int
    N: int
    layers: list[str]  # fully qualified names inside the target
    scheme: str  # a candidate's name, or none
    reason: str
    baseline_ms: float | None = None  # of one call of one such layer
    trials: list[Trial] = field(default_factory=list)


@dataclass
class Plan:
    """The choices for one workload on one device in one compile state."""

    model: str
    target: str
    compile: str
    device: str
    choices: list[Choice]
    plan_version: int = PLAN_VERSION
    identity: dict[str, Any] = field(default_factory=dict)  # of the device; plans made before have none

    def schemes(self) -> dict[str, str]:
        """Layer name -> scheme, of the layers that are quantized."""
        return {
            fqn: choice.scheme
            for choice in self.choices
            for fqn in choice.layers
            if choice.scheme != UNQUANTIZED
        }

    def reasons(self) -> dict[str, str]:
        """Layer name -> why it was chosen so."""
        return {fqn: choice.reason for choice in self.choices for fqn in choice.layers}

    def made_elsewhere(self, device: "Device") -> str:
        """One line, where the plan was made on another device than this one; empty where it was made on this."""
        same = self.identity == device.identity if self.identity else self.device == device.name
        return (
            ""
            if same
            else f"the plan was made on {self.device}, this is {device.name}: what it gained there says nothing here"
        )

    def limited_to(self, applied: Mapping[str, str]) -> "Plan":
        """The plan with only those choices that were applied.

        Args:
            applied: layer name -> scheme, of the layers that were quantized.
        """
        choices = [
            choice
            if all(applied.get(fqn) == choice.scheme for fqn in choice.layers)
            else replace(choice, scheme=UNQUANTIZED, reason=f"{choice.scheme} was planned and not applied")
            for choice in self.choices
        ]
        return replace(self, choices=choices)

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)


def read_plan(path: Path) -> Plan:
    """Read a plan.json.

    Raises:
        ConfigError: there is none, or it is not a plan of this version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["plan_version"] != PLAN_VERSION:
            raise ValueError(f"plan_version {content['plan_version']}, this version reads {PLAN_VERSION}")
        choices = [
            Choice(**{**choice, "trials": [Trial(**trial) for trial in choice["trials"]]})
            for choice in content.pop("choices")
        ]
        return Plan(choices=choices, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"quant.plan={path}: not a readable plan ({type(error).__name__}: {error})"
        ) from error
