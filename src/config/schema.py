"""The typed schema of every configuration key (Hydra structured configs).

Field metadata is data for two readers: `src.config.validate` (``min``, ``max``, ``choices``) and
`src.records.key` (``key=False``: the field cannot change a measured number, so it is not part of the run key).
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

DTYPES = ("bfloat16", "float16", "float32")
PIPELINE = "pipeline"  # the target that is no part of the model but the pipeline around it
DENOISER, VAE = "denoiser", "vae"  # components of a pipeline, as quant.components names them


def _bounded(default: Any, *, min: float | None = None, max: float | None = None, key: bool = True) -> Any:
    return field(default=default, metadata={"min": min, "max": max, "key": key})


def _one_of(default: Any, *choices: str) -> Any:
    return field(default=default, metadata={"choices": choices})


def _aside(default: Any) -> Any:
    """A field outside the run key; mutable defaults are given as factories."""
    if callable(default):
        return field(default_factory=default, metadata={"key": False})
    return field(default=default, metadata={"key": False})


@dataclass
class WeightsConf:
    """Where a model's weights come from."""

    source: str = _one_of("random", "random", "local", "hub")
    id: str | None = None  # local: a folder that from_pretrained reads; hub: a repository id
    subfolder: str | None = None
    std: float = _bounded(0.02, min=0.0)  # of random weights


@dataclass
class InputConf:
    """One example input tensor: its shape in named dimensions and how it is filled."""

    shape: list[Any] = field(default_factory=list)  # integers or expressions: [batch, tokens, 64]
    init: str = "src.workloads.inputs.normal"  # callable(shape, generator, device, dtype) -> Tensor
    fill: float | None = None  # a constant instead of `init`
    dtype: str | None = None  # null: the run's dtype


@dataclass
class ComponentConf:
    """A further module of a pipeline: how to construct it, and its weights."""

    factory: dict[str, Any] = field(default_factory=dict)  # `_target_` and constructor arguments
    weights: WeightsConf = field(default_factory=WeightsConf)


@dataclass
class PipelineConf:
    """A diffusers pipeline around a model: what `target=pipeline` measures, from prompt embeddings to images."""

    _target_: str = (
        ""  # the pipeline's class; what is not given here (text encoders) is left out; empty: none
    )
    denoiser: str = "transformer"  # what the class calls the model
    vae: ComponentConf = field(default_factory=ComponentConf)
    scheduler: dict[str, Any] = field(default_factory=dict)  # `_target_` and constructor arguments
    steps: int = _bounded(4, min=1)  # num_inference_steps
    guidance: float = 4.0  # guidance_scale
    inputs: dict[str, InputConf] = field(default_factory=dict)  # tensors in place of the encoded prompt
    call: dict[str, Any] = field(default_factory=dict)  # further arguments of the pipeline's call


@dataclass
class ModelConf:
    """A model as data: how to construct it, what to feed it, what inside it can be measured."""

    name: str = MISSING
    description: str = _aside("")
    factory: dict[str, Any] = field(default_factory=dict)  # `_target_` and constructor arguments
    weights: WeightsConf = field(default_factory=WeightsConf)
    resolution: int = 0  # pixels; the default of the axis `resolution`; 0: the model has none
    dims: dict[str, Any] = field(default_factory=dict)  # named dimensions, later ones may use earlier ones
    inputs: dict[str, InputConf] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)  # further keyword arguments of forward()
    targets: dict[str, str] = field(default_factory=dict)  # target name -> module path inside the model
    probe: bool = False  # stands for a part of a larger model: each call finds the caches cold
    pipeline: PipelineConf = field(default_factory=PipelineConf)  # around the model

    def target_names(self) -> list[str]:
        """What `target` may be."""
        return [*self.targets, *([PIPELINE] if self.pipeline._target_ else [])]

    def component_names(self, target: str) -> list[str]:
        """What `quant.components` may name for a target."""
        return [DENOISER, VAE] if target == PIPELINE else [DENOISER]


@dataclass
class RequiresConf:
    """What a scheme needs to run; checked before anything is built, said in the reason."""

    devices: list[str] = field(default_factory=list)  # device types; empty: any
    compute_capability: float | None = None  # at least, e.g. 8.9
    below_capability: float | None = None  # less than: kernels that are built for one architecture only
    packages: list[str] = field(default_factory=list)  # importable module names
    dtypes: list[str] = field(default_factory=list)  # of the baseline; empty: any
    group_sizes: list[int] = field(default_factory=list)  # that the kernel takes; empty: any
    k_multiple: int = _bounded(1, min=1)  # a layer's in_features must be a multiple, else it is left alone
    n_multiple: int = _bounded(1, min=1)  # likewise out_features
    kn_multiple: int = _bounded(1, min=1)  # likewise the number of weights, K * N
    input_dims: int | None = None  # of the tensors that a layer is called with, else it is left alone
    never: str = _aside("")  # why no device can: a name that people know and that has nothing behind it
    remedy: str = _aside("")  # what the user can do instead


@dataclass
class LayersConf:
    """Which Linear layers a scheme is applied to. A layer's name is the one it has inside its model."""

    name: str = _aside("all")  # of the preset in conf/layers
    description: str = _aside("")
    include: list[str] = field(default_factory=lambda: [""])  # regular expressions, searched in the name
    exclude: list[str] = field(default_factory=list)
    modules_to_not_convert: list[str] = field(default_factory=list)  # as diffusers matches them
    min_side: int = _bounded(0, min=0)  # both in_features and out_features at least this
    min_m: int = _bounded(0, min=0)  # rows of the layer's largest call at least this
    max_m: int | None = _bounded(None, min=1)  # and at most this; modulation layers see one row per sample
    k_multiple: int = _bounded(1, min=1)  # of in_features, beside what the scheme requires
    n_multiple: int = _bounded(1, min=1)  # likewise of out_features


SERIALIZES = ("safetensors", "torch", "unsafe", "none")


@dataclass
class SchemeVariantConf:
    """What replaces a scheme's config and requirements on one device type."""

    config: dict[str, Any] = field(default_factory=dict)
    requires: RequiresConf = field(default_factory=RequiresConf)
    bits: float | None = _aside(None)
    serializes: str | None = field(default=None, metadata={"choices": SERIALIZES, "key": False})


@dataclass
class EmulationConf:
    """A scheme's numbers where its kernels are not: good for quality, never for speed."""

    config: dict[str, Any] = field(
        default_factory=dict
    )  # a torchao config in place of the scheme's; empty: none
    devices: list[str] = field(default_factory=list)  # device types; empty: any
    lifts: str = ""  # dotted path of torchao's own hardware check, replaced while quantizing
    how: str = _aside("")  # in words


@dataclass
class QuantConf:
    """A quantization scheme as data."""

    name: str = MISSING
    description: str = _aside("")
    _target_: str = "src.treatments.scheme.TorchaoScheme"
    config: dict[str, Any] = field(default_factory=dict)  # a torchao config: `_target_` and its arguments
    requires: RequiresConf = field(default_factory=RequiresConf)
    per_device: dict[str, SchemeVariantConf] = field(default_factory=dict)  # by device type: cpu, cuda
    layers: LayersConf = field(default_factory=LayersConf)
    components: list[str] = field(default_factory=lambda: [DENOISER])  # of a pipeline: denoiser, vae
    where: str = _one_of("device", "device", "cpu", "streamed")  # weights are quantized: docs/layers.md
    via: str = _one_of("direct", "direct", "diffusers")  # torchao's quantize_, or diffusers' from_pretrained
    bits: float | None = _aside(None)  # per weight as stored, scales included, at the default group size
    serializes: str | None = field(
        default=None, metadata={"choices": SERIALIZES, "key": False}
    )  # docs/schemes.md
    needs_compile: bool = _aside(
        False
    )  # eager, its conversions are kernels of their own: slow whatever it saves
    emulation: EmulationConf = field(default_factory=EmulationConf)
    emulate: bool = False  # run by `emulation` where the requirements are not met: quality without a verdict
    takes: list[str] = field(
        default_factory=list, metadata={"key": False}
    )  # which of the parameters below are this scheme's
    group_size: int | None = _bounded(None, min=1)
    activation_max: float | None = _bounded(None, min=1)  # static scales: the largest input's quantized value
    candidates: dict[str, Any] = field(default_factory=dict)  # autoquant: conf/quant entries it may choose
    min_sqnr_db: float = 20.0  # autoquant: the quality floor of one layer's output
    min_gain: float = _bounded(0.02, min=0.0)  # autoquant: the least gain of one layer, whole interval
    layer_budget_s: float = _bounded(1.0, min=0.01)  # autoquant: timing budget per shape and candidate
    plan: str | None = None  # autoquant: a plan.json made earlier; applied instead of searching

    def on(self, device: str) -> SchemeVariantConf:
        """Config, requirements and storage on one device type: the variant's own, else the scheme's."""
        own = self.per_device.get(device)
        if own is None:
            return SchemeVariantConf(self.config, self.requires, self.bits, self.serializes)
        return SchemeVariantConf(
            own.config or self.config,
            own.requires,
            self.bits if own.bits is None else own.bits,
            own.serializes or self.serializes,
        )


# Parameters that only some schemes have, said by their key `takes`.
SCHEME_PARAMETERS = (
    "group_size", "activation_max", "candidates", "min_sqnr_db", "min_gain", "layer_budget_s", "plan",
)  # fmt: skip


@dataclass
class CompileConf:
    """A torch.compile mode as data."""

    name: str = MISSING
    description: str = _aside("")
    scope: str = _one_of("module", "none", "module", "regional")
    backend: str = "inductor"
    mode: str | None = None
    fullgraph: bool = True
    dynamic: bool | None = False
    options: dict[str, Any] = field(default_factory=dict)  # inductor config, set once for both arms


@dataclass
class GpuConf:
    """A device as data: how a run opens it."""

    name: str = MISSING
    description: str = _aside("")
    _target_: str = "src.workloads.device.CudaDevice"
    match: str = ""  # regular expression that the present device's name must match
    threads: int | None = _bounded(None, min=1)  # CPU: intra-op threads; null: all the process may use


@dataclass
class TaskConf:
    """What one run does."""

    name: str = MISSING
    _target_: str = MISSING  # callable(RunContext)
    compares: bool = _aside(True)  # whether its runs have a speedup and a verdict for the analysis


@dataclass
class MeasureConf:
    """The measurement protocol's numbers; presets say what they cost and resolve."""

    name: str = _aside(MISSING)
    description: str = _aside("")
    min_round_ms: float = _bounded(10.0, min=0.01)  # calls are batched until a round is this long
    max_warmup_s: float = _bounded(5.0, min=0.0)
    min_pairs: int = _bounded(12, min=8)
    max_pairs: int = _bounded(400, min=8)
    target_ci_width: float = _bounded(0.01, min=0.0001, max=1.0)  # of the speedup, relative
    budget_s: float = _bounded(10.0, min=0.1)  # of the paired loop
    confidence: float = _bounded(0.95, min=0.5, max=0.999)
    margin: float = _bounded(0.02, min=0.0, max=0.5)  # a verdict needs the interval beyond it
    bootstrap_samples: int = _bounded(2000, min=200, max=100000)
    pairing: str = _one_of("auto", "auto", "interleaved", "in_turn")
    cache: str = _one_of(
        "auto", "auto", "cold", "warm"
    )  # auto: cold for a part of a model, flushed before each call
    energy_s: float = _bounded(
        2.0, min=0.0, key=False
    )  # of each of an arm's two windows on the energy counter
    warm_compile: bool = True  # time the first call again from the cache, after the steady state
    ceilings: bool = _aside(True)  # measure the device's bandwidth and matmul rates, once per device
    profile: bool = _aside(False)  # traces, kernel table and memory of one call per arm, after timing
    timeout_s: float = _bounded(900.0, min=1.0, key=False)  # of the whole run; past it: outcome timeout


@dataclass
class SerializeConf:
    """How `task=serialize` saves a quantized model; at its defaults it is not part of the run key."""

    format: str = _one_of("auto", "auto", "safetensors", "torch")  # auto: the first that can carry it
    trust: bool = False  # let an unsafe pickle carry, and load, what nothing safe can
    keep: bool = _aside(False)  # keep the checkpoint in the run's folder; else it is removed after the check


@dataclass
class TrackingConf:
    """Where records are published."""

    name: str = MISSING
    enabled: bool = True
    uri: str = MISSING  # any MLflow tracking URI
    experiment: str = "quantpay"
    artifacts: str | None = None  # artifact root of a new experiment in a local database; null: the server's
    publish: str = _one_of(
        "collector", "collector", "worker"
    )  # who publishes what a cluster ran: docs/tracking.md


@dataclass
class RootConf:
    """One run: workload x treatment x device, and how it is measured and tracked."""

    model: ModelConf = MISSING
    quant: QuantConf = MISSING
    compile: CompileConf = MISSING
    gpu: GpuConf = field(default=MISSING, metadata={"key": False})  # the run key holds the device itself
    task: TaskConf = MISSING
    measure: MeasureConf = MISSING
    tracking: TrackingConf = field(default=MISSING, metadata={"key": False})
    serialize: SerializeConf = field(default_factory=SerializeConf)
    batch: int = _bounded(1, min=1, max=65536)
    resolution: int = _bounded("${model.resolution}", min=0, max=16384)
    target: str = "denoiser"  # a name from model.targets, or pipeline
    dtype: str = _one_of("bfloat16", *DTYPES)
    seed: int = _bounded(0, min=0)
    outputs: str = _aside("outputs")  # folder of everything that runs write
    rerun: bool = _aside(False)  # measure again what already has a final outcome


@dataclass
class AnalyzeConf:
    """Arguments of `python -m src.analyze`."""

    tracking: TrackingConf = MISSING
    sweep: str | None = None  # only this sweep's runs; null: all
    experiment: str | None = None  # null: tracking.experiment
    outputs: str = "outputs"
    report: str = "${outputs}/report"  # folder of report.html, verdicts.csv, verdicts.parquet
    margin: float = _bounded(0.02, min=0.0, max=0.5)


@dataclass
class CollectConf:
    """Arguments of `python -m src.collect`."""

    tracking: TrackingConf = MISSING
    sweep: str | None = None
    outputs: str = "outputs"


@dataclass
class CalibrateConf:
    """Arguments of `python -m src.calibrate`: a workload as of a run, and how often it is measured."""

    model: ModelConf = MISSING
    compile: CompileConf = MISSING
    gpu: GpuConf = MISSING
    measure: MeasureConf = MISSING
    tracking: TrackingConf = MISSING
    batch: int = _bounded(1, min=1, max=65536)
    resolution: int = _bounded("${model.resolution}", min=0, max=16384)
    target: str = "block"  # a name from model.targets
    dtype: str = _one_of("bfloat16", *DTYPES)
    seed: int = _bounded(0, min=0)  # of weights, inputs, the order of experiments, the arms' roles
    experiments: int = _bounded(60, min=1, max=10000)  # of each kind: A/A, and each slowdown
    slowdowns: list[float] = field(default_factory=lambda: [0.02, 0.03, 0.05, 0.1])  # relative
    processes: int = _bounded(12, min=1, max=1000)  # that the experiments are dealt out to
    outputs: str = "outputs"


def register() -> None:
    """Put the schemas where Hydra finds them: the primary configs name them in their defaults."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RootConf, provider="quantpay")
    store.store(name="analyze_schema", node=AnalyzeConf, provider="quantpay")
    store.store(name="collect_schema", node=CollectConf, provider="quantpay")
    store.store(name="calibrate_schema", node=CalibrateConf, provider="quantpay")
