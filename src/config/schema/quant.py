"""The typed schema of a quantization scheme: what it needs, how it is stored, which layers it takes."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from src.config.schema.fields import GIVEN, aside, bounded, one_of
from src.config.schema.model import DENOISER


@dataclass
class RequiresConf:
    """What a scheme needs to run; checked before anything is built, said in the reason."""

    devices: list[str] = field(default_factory=list)  # device types; empty: any
    compute_capability: float | None = None  # at least, e.g. 8.9
    below_capability: float | None = None  # less than: kernels that are built for one architecture only
    packages: list[str] = field(default_factory=list)  # importable module names
    dtypes: list[str] = field(default_factory=list)  # of the baseline; empty: any
    group_sizes: list[int] = field(default_factory=list)  # that the kernel takes; empty: any
    k_multiple: int = bounded(1, min=1)  # a layer's in_features must be a multiple, else it is left alone
    n_multiple: int = bounded(1, min=1)  # likewise out_features
    kn_multiple: int = bounded(1, min=1)  # likewise the number of weights, K * N
    least_m: int = bounded(1, min=1)  # rows that a layer is called with, else it is left alone
    m_multiple: int = field(
        default=1, metadata={"min": 1, "max": None, "key": GIVEN}
    )  # of those rows, else it is left alone
    input_dims: int | None = None  # of the tensors that a layer is called with, else it is left alone
    never: str = aside("")  # why no device can: a name that people know and that has nothing behind it
    remedy: str = aside("")  # what the user can do instead


@dataclass
class SensitiveConf:
    """What leaves further layers alone by what they cost and gain, beside the rules; `_target_` is empty: nothing."""

    _target_: str = ""  # a class that is given the scheme's configuration and the scheme
    min_sqnr_db: float = bounded(20.0, min=0.0, max=120.0)  # of one call's output, predicted


@dataclass
class LayersConf:
    """Which Linear layers a scheme is applied to. A layer's name is the one it has inside its model."""

    name: str = aside("all")  # of the preset in conf/layers
    description: str = aside("")
    include: list[str] = field(default_factory=lambda: [""])  # regular expressions, searched in the name
    exclude: list[str] = field(default_factory=list)
    modules_to_not_convert: list[str] = field(default_factory=list)  # as diffusers matches them
    min_side: int = bounded(0, min=0)  # both in_features and out_features at least this
    min_m: int = bounded(0, min=0)  # rows of the layer's largest call at least this
    max_m: int | None = bounded(None, min=1)  # and at most this; modulation layers see one row per sample
    k_multiple: int = bounded(1, min=1)  # of in_features, beside what the scheme requires
    n_multiple: int = bounded(1, min=1)  # likewise of out_features
    sensitive: SensitiveConf = field(
        default_factory=SensitiveConf, metadata={"key": GIVEN}
    )  # layers=sensitive: which more are left alone is measured


SERIALIZES = ("safetensors", "torch", "unsafe", "none")


@dataclass
class SchemeVariantConf:
    """What replaces a scheme's config and requirements on one device type."""

    config: dict[str, Any] = field(default_factory=dict)
    requires: RequiresConf = field(default_factory=RequiresConf)
    inductor: dict[str, Any] = field(default_factory=dict)
    bits: float | None = bounded(None, min=0, max=64, key=False)
    serializes: str | None = field(default=None, metadata={"choices": SERIALIZES, "key": False})


@dataclass
class EmulationConf:
    """A scheme's numbers where its kernels are not: good for quality, never for speed."""

    config: dict[str, Any] = field(
        default_factory=dict
    )  # a torchao config in place of the scheme's; empty: none
    devices: list[str] = field(default_factory=list)  # device types; empty: any
    lifts: str = ""  # dotted path of torchao's own hardware check, replaced while quantizing
    how: str = aside("")  # in words


@dataclass
class QuantConf:
    """A quantization scheme as data."""

    name: str = MISSING
    description: str = aside("")
    _target_: str = "src.treatments.scheme.TorchaoScheme"
    config: dict[str, Any] = field(default_factory=dict)  # a torchao config: `_target_` and its arguments
    requires: RequiresConf = field(default_factory=RequiresConf)
    inductor: dict[str, Any] = field(
        default_factory=dict
    )  # inductor options that it needs, set for both arms
    per_device: dict[str, SchemeVariantConf] = field(default_factory=dict)  # by device type: cpu, cuda
    layers: LayersConf = field(default_factory=LayersConf)
    components: list[str] = field(
        default_factory=lambda: [DENOISER]
    )  # of a pipeline: denoiser, vae, its text encoders
    where: str = one_of("device", "device", "cpu", "streamed")  # weights are quantized: docs/layers.md
    via: str = one_of("direct", "direct", "diffusers")  # torchao's quantize_, or diffusers' from_pretrained
    bits: float | None = bounded(
        None, min=0, max=64, key=False
    )  # per weight as stored, scales included, at the default group size
    serializes: str | None = field(
        default=None, metadata={"choices": SERIALIZES, "key": False}
    )  # docs/schemes.md
    tries_layers: bool = aside(
        True
    )  # a layer of each shape once before the model; not where quantizing takes minutes
    needs_compile: bool = aside(
        False
    )  # eager, its conversions are kernels of their own: slow whatever it saves
    slow_compiled: dict[str, str] = field(
        default_factory=dict, metadata={"key": False}
    )  # device type -> why it is slow there when compiled: the reason of a run that hurts
    eager_only: dict[str, str] = field(
        default_factory=dict, metadata={"key": False}
    )  # device type -> why every compile mode ends in compile_error there
    emulation: EmulationConf = field(default_factory=EmulationConf)
    emulate: bool = False  # run by `emulation` where the requirements are not met: quality without a verdict
    takes: list[str] = field(
        default_factory=list, metadata={"key": False}
    )  # which of the parameters below are this scheme's
    group_size: int | None = bounded(None, min=1)
    activation_max: float | None = bounded(None, min=1)  # static scales: the largest input's quantized value
    candidates: dict[str, Any] = field(default_factory=dict)  # autoquant: conf/quant entries it may choose
    min_sqnr_db: float = 20.0  # autoquant: the quality floor of one layer's output
    min_gain: float = bounded(0.02, min=0.0)  # autoquant: the least gain of one layer, whole interval
    min_share: float = bounded(
        0.001, min=0.0, max=1.0
    )  # autoquant: of the model's time that a shape's layers must promise to save
    layer_budget_s: float = bounded(1.0, min=0.01)  # autoquant: timing budget per shape and candidate
    whole_budget_s: float = bounded(
        30.0, min=0.0
    )  # autoquant: for taking shapes back from a plan that gives too little
    known: str = field(
        default="auto", metadata={"choices": ("auto", "never"), "key": GIVEN}
    )  # autoquant: auto: what earlier runs timed is not timed again
    plan: str | None = None  # autoquant: a plan.json made earlier; applied instead of searching
    trains: bool = aside(False)  # a recipe of task=training, and of no other
    optimizer: dict[str, Any] = field(
        default_factory=dict, metadata={"key": GIVEN}
    )  # a recipe: what steps the treated arm; empty: what steps the baseline
    no_gradient: str = aside("")  # why nothing can be trained through it
    predicts: bool = aside(False)  # chooses by forecasts alone: nothing is timed before the whole model is

    def on(self, device: str) -> SchemeVariantConf:
        """Config, requirements and storage on one device type: the variant's own, else the scheme's."""
        own = self.per_device.get(device)
        if own is None:
            return SchemeVariantConf(self.config, self.requires, self.inductor, self.bits, self.serializes)
        return SchemeVariantConf(
            own.config or self.config,
            own.requires,
            own.inductor or self.inductor,
            self.bits if own.bits is None else own.bits,
            own.serializes or self.serializes,
        )


# Parameters that only some schemes have, said by their key `takes`.
SCHEME_PARAMETERS = (
    "group_size", "activation_max", "candidates", "min_sqnr_db", "min_gain", "min_share", "layer_budget_s",
    "whole_budget_s", "known", "plan",
)  # fmt: skip
