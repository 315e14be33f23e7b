"""An autoquant plan: the choice per distinct shape with its evidence, as JSON that can be applied again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.errors import ConfigError

if TYPE_CHECKING:
    from src.devices.device import Device

PLAN_VERSION = 2
UNQUANTIZED = "none"
NOT_TRIED = "not tried"  # a trial's outcome: those of other shapes say enough

Shape = tuple[int, int, int]  # M, K, N


@dataclass
class Trial:
    """One candidate on one shape."""

    scheme: str
    outcome: (
        str  # ok, why it could not be timed, or NOT_TRIED; predicted, unknown: by the rules, without trying
    )
    reason: str = ""
    speedup: float | None = None
    ci_low: float | None = None  # without an interval: dropped at first sight
    ci_high: float | None = None
    sqnr_db: float | None = None  # of the layer's output; null: equal to the last bit
    below_floor: bool = False  # its output is worse than quant.min_sqnr_db
    run: str = ""  # that timed it, KEY/ATTEMPT; empty: the one that made the plan


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
    calls: int = 0  # of all its layers, in one call of the target

    def saved_ms(self, scheme: str | None = None) -> float:
        """What the trials promise for a call of the target, by a scheme; by the chosen one where none is named."""
        name = self.scheme if scheme is None else scheme
        speedup = next((t.speedup for t in self.trials if t.scheme == name), None)
        if not speedup or self.baseline_ms is None:
            return 0.0
        return self.calls * self.baseline_ms * (1 - 1 / speedup)

    def with_scheme(self, scheme: str, reason: str) -> "Choice":
        """The same shape and evidence, chosen otherwise."""
        return replace(self, scheme=scheme, reason=reason)

    def of_layers(self, layers: list[str]) -> "Choice":
        """The same for some of its layers; of its calls their share, as if all were called as often."""
        calls = round(self.calls * len(layers) / len(self.layers))
        return replace(self, layers=layers, calls=calls)


@dataclass
class WholeLook:
    """A plan measured as a whole, in rounds with the unquantized model: what was predicted, what came."""

    what: str
    layers: dict[str, int]  # scheme -> how many
    predicted: float
    speedup: float
    ci_low: float
    ci_high: float
    verdict: str
    disturbed: str = ""  # why the verdict is withheld


@dataclass
class Plan:
    """The choices for one workload on one device in one compile state."""

    model: str
    target: str
    compile: str
    device: str
    choices: list[Choice]
    wholes: list[WholeLook] = field(default_factory=list)  # what was measured to come to them
    plan_version: int = PLAN_VERSION
    identity: dict[str, Any] = field(default_factory=dict)  # of the device; plans made before have none
    configs: dict[str, str] = field(default_factory=dict)  # candidate -> what its kernels are known by

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
        """The plan with only what was applied of it: layers of a shape that were not are a choice of their own.

        Args:
            applied: layer name -> scheme, of the layers that were quantized.
        """
        choices = []
        for choice in self.choices:
            done = [fqn for fqn in choice.layers if applied.get(fqn) == choice.scheme]
            left = [fqn for fqn in choice.layers if fqn not in done]
            if choice.scheme == UNQUANTIZED or not left:
                choices.append(choice)
                continue
            if done:
                choices.append(choice.of_layers(done))
            why = f"{choice.scheme} was planned and not applied"
            choices.append(choice.of_layers(left).with_scheme(UNQUANTIZED, why))
        return replace(self, choices=choices)

    def predicted_speedup(self, model_ms: float) -> float:
        """What the trials promise for the whole target, whose unquantized call takes `model_ms`."""
        saved_ms = sum(choice.saved_ms() for choice in self.choices)
        return model_ms / max(model_ms - saved_ms, 0.01 * model_ms)  # trials can promise more than there is

    def best_uniform(self) -> "Plan | None":
        """One scheme wherever it runs above the quality floor: the one that the trials predict best."""
        runs = [t.scheme for choice in self.choices for t in choice.trials if _may_be_taken(t)]
        plans = [self._uniform(scheme) for scheme in dict.fromkeys(runs)]
        return max(plans, key=lambda plan: sum(c.saved_ms() for c in plan.choices), default=None)

    def worth(self, model_ms: float, min_share: float) -> "Plan":
        """Without the shapes that promise less of the model's time than this share: they cost quality as well."""

        def kept(choice: Choice) -> Choice:
            share = choice.saved_ms() / model_ms
            if choice.scheme == UNQUANTIZED or share >= min_share:
                return choice
            return choice.with_scheme(
                UNQUANTIZED,
                f"{choice.scheme} would save {share:.2%} of the model's time, below quant.min_share",
            )

        return replace(self, choices=[kept(choice) for choice in self.choices])

    def without(self, shape: Choice, reason: str) -> "Plan":
        """The same plan with one shape's layers left unquantized."""
        kept = [c.with_scheme(UNQUANTIZED, reason) if c is shape else c for c in self.choices]
        return replace(self, choices=kept)

    def emptied(self, reason: str) -> "Plan":
        """Nothing is quantized; the evidence stays."""
        left = [c.with_scheme(UNQUANTIZED, reason) if c.scheme != UNQUANTIZED else c for c in self.choices]
        return replace(self, choices=left)

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)

    def _uniform(self, scheme: str) -> "Plan":
        def chosen(choice: Choice) -> Choice:
            trial = next((t for t in choice.trials if t.scheme == scheme), None)
            if trial is None or not _may_be_taken(trial):
                return choice.with_scheme(UNQUANTIZED, f"{scheme} does not run there, or not well enough")
            return choice.with_scheme(scheme, f"{scheme} wherever it runs")

        return replace(self, choices=[chosen(choice) for choice in self.choices])


def _may_be_taken(trial: Trial) -> bool:
    return trial.speedup is not None and not trial.below_floor


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
        wholes = [WholeLook(**whole) for whole in content.pop("wholes", [])]
        return Plan(choices=choices, wholes=wholes, **content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"quant.plan={path}: not a readable plan ({type(error).__name__}: {error})"
        ) from error
