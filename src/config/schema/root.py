"""The typed schema of the programs' configurations (Hydra structured configs); the largest groups stand beside it."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from src.config.paths import database_uri
from src.config.schema.cluster import SlurmRequest
from src.config.schema.fields import GIVEN, aside, bounded, one_of
from src.config.schema.measure import MeasureConf
from src.config.schema.model import DOUBLED, ModelConf
from src.config.schema.quant import QuantConf
from src.config.schema.recipe import LadderConf, RecipeConf
from src.config.schema.steps import StepsConf

AUTO = "auto"
MODEL = "model"  # predict=model: whole models are predicted
DTYPES = (
    AUTO,
    "bfloat16",
    "float16",
    "float32",
)  # auto: of bfloat16 and float32 what the device computes faster


@dataclass
class CompileConf:
    """A torch.compile mode as data."""

    name: str = MISSING
    description: str = aside("")
    scope: str = one_of("module", "none", "module", "regional")
    backend: str = "inductor"
    mode: str | None = None
    fullgraph: bool = True
    dynamic: bool | None = False
    tuning: str = one_of(
        "none", "none", "recommended"
    )  # recommended: the options that torchao sets, for both arms
    options: dict[str, Any] = field(default_factory=dict)  # inductor config, set once for both arms
    package: bool = field(
        default=False, metadata={"key": GIVEN}
    )  # exported, compiled ahead of time into a file, loaded from it (docs/aot.md)
    dynamic_shapes: dict[str, Any] = field(
        default_factory=dict, metadata={"key": GIVEN}
    )  # of a package: axis or dimension -> [least, most]; all others are fixed


@dataclass
class GpuConf:
    """A device as data: how a run opens it."""

    name: str = MISSING
    description: str = aside("")
    _target_: str = "src.devices.device.CudaDevice"
    match: str = ""  # regular expression that the present device's name must match
    # About the card, for planning runs where it is not (docs/planning.md); a run asks the device itself.
    compute_capability: float | None = bounded(None, min=1.0, key=False)
    memory_gib: float | None = bounded(None, min=0.1, key=False)  # as CUDA reports it
    threads: int | None = bounded(None, min=1)  # CPU: intra-op threads; null: all the process may use
    slurm: SlurmRequest = field(default_factory=SlurmRequest)  # what a job for it asks of a cluster


@dataclass
class TaskConf:
    """What one run does."""

    name: str = MISSING
    _target_: str = MISSING  # callable(RunContext)
    together: str = aside(
        ""
    )  # callable(RunContexts, turn): runs of one probe in the same rounds; empty: none
    compares: bool = aside(True)  # whether its runs have a speedup and a verdict for the analysis
    trains: bool = field(default=False, metadata={"key": GIVEN})  # whether model.training says what it does
    steps: bool = field(
        default=False, metadata={"key": GIVEN}
    )  # whether it compares steps of a training, which `training` says more of


@dataclass
class SerializeConf:
    """How `task=serialize` saves a quantized model; at its defaults it is not part of the run key."""

    format: str = one_of("auto", "auto", "safetensors", "torch")  # auto: the first that can carry it
    trust: bool = False  # let an unsafe pickle carry, and load, what nothing safe can
    keep: bool = aside(False)  # keep the checkpoint in the run's folder; else it is removed after the check
    load: str | None = None  # a folder that was kept: compare its checkpoint, save none


@dataclass
class TrackingConf:
    """Where records are published."""

    name: str = MISSING
    enabled: bool = True
    uri: str = MISSING  # any MLflow tracking URI
    experiment: str = "quantpay"
    artifacts: str | None = None  # artifact root of a new experiment in a local database; null: the server's
    publish: str = one_of(
        "collector", "collector", "worker"
    )  # who publishes what a cluster ran: docs/tracking.md


@dataclass
class LaunchConf:
    """Which processes there are (docs/measurement.md, "Shared processes", "Compiling ahead"), and for how long."""

    share: str = one_of(
        "never", "never", "auto"
    )  # never: each run in a process of its own; auto: runs of one workload in one, one after the other
    compile_ahead: str = one_of(
        "never", "never", "auto", "always"
    )  # by processes beside the one that measures; auto: for a GPU's runs, where CPUs are to spare
    budget: str | None = (
        None  # 90s, 10min, 2h: measure first what teaches most, leave the rest to the forecast
    )


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
    training: StepsConf = field(default_factory=StepsConf, metadata={"key": GIVEN})
    recipe: RecipeConf = field(default_factory=RecipeConf, metadata={"key": GIVEN})  # of both arms
    treatment: list[str] = field(
        default_factory=lambda: ["quant"], metadata={"key": GIVEN}
    )  # the keys that the baseline lacks: docs/recipes.md
    ladder: LadderConf = field(default_factory=LadderConf, metadata={"key": False})
    launch: LaunchConf = field(default_factory=LaunchConf, metadata={"key": False})
    batch: int = bounded(1, min=1, max=65536)
    resolution: int = bounded("${model.resolution}", min=0, max=16384)
    frames: int = bounded("${model.frames}", min=0, max=16384)
    target: str = "denoiser"  # a name from model.targets, or pipeline
    dtype: str = one_of(AUTO, *DTYPES)
    seed: int = bounded(0, min=0)
    outputs: str = aside("outputs")  # folder of everything that runs write
    rerun: bool = aside(False)  # measure again what already has a final outcome
    plan: bool | str = field(default=False, metadata={"choices": (False, True, "all"), "key": False})
    # print what would be run, and launch nothing; all: with a row per run
    # Filled in by a sweep: the keys in which its runs differ, and their values here.
    varied: dict[str, str] = field(default_factory=dict, metadata={"key": False})


@dataclass
class AnalyzeConf:
    """Arguments of `python -m src.analyze`."""

    tracking: TrackingConf = MISSING
    sweep: str | None = None  # only this sweep's runs; null: all
    experiment: str | None = None  # null: tracking.experiment
    outputs: str = "outputs"
    report: str = "${outputs}/report"  # folder of report.html, verdicts.csv, verdicts.parquet
    imports: list[str] = field(default_factory=list)  # CSV files; on the command line import=FILE, repeatable
    predict: str | None = None  # a CSV file of shapes to predict, or `model`
    device: str | None = None  # of rows of predict that name none; a part of its name is enough
    workload: list[str] = field(default_factory=list)  # of predict=model: what src.run would be told; on the
    # command line the words themselves, model=... quant=... batch=...
    margin: float = bounded(0.02, min=0.0, max=0.5)


@dataclass
class CompareConf:
    """Arguments of `python -m src.compare`: two sweeps of `outputs`, or two folders of runs."""

    before: str | None = None
    after: str | None = None
    outputs: str = "outputs"
    report: str = "${outputs}/comparison"  # folder of comparison.html and comparison.csv
    margin: float = bounded(0.02, min=0.0, max=0.5)
    between: float = bounded(0.03, min=0.0, max=0.5)  # SD between processes, where one process cannot tell


@dataclass
class CollectConf:
    """Arguments of `python -m src.collect`."""

    tracking: TrackingConf = MISSING
    sweep: str | None = None
    outputs: str = "outputs"
    watch: bool = False  # follow the sweep until every run has a record; also as the flag --watch
    cancel: bool = False  # cancel the sweep's jobs
    lost: bool = False  # give up the sweep's runs, as the machine of its process is gone
    poll_s: float = bounded(10.0, min=0.2)  # between two looks at the queue


@dataclass
class CalibrateConf:
    """Arguments of `python -m src.calibrate`: a workload as of a run, and how often it is measured."""

    model: ModelConf = MISSING
    compile: CompileConf = MISSING
    gpu: GpuConf = MISSING
    measure: MeasureConf = MISSING
    tracking: TrackingConf = MISSING
    batch: int = bounded(1, min=1, max=65536)
    resolution: int = bounded("${model.resolution}", min=0, max=16384)
    frames: int = bounded("${model.frames}", min=0, max=16384)
    target: str = "block"  # a name from model.targets
    dtype: str = one_of(AUTO, *DTYPES)
    seed: int = bounded(0, min=0)  # of weights, inputs, the order of experiments, the arms' roles
    experiments: int = bounded(60, min=1, max=10000)  # of each kind: A/A, and each slowdown
    slowdowns: list[float] = field(default_factory=lambda: [0.02, 0.03, 0.05, 0.1])  # relative
    processes: int = bounded(12, min=1, max=1000)  # that the experiments are dealt out to
    outputs: str = "outputs"


def training_steps(cfg: RootConf) -> int:
    """Of a run that trains; 0 of any other."""
    return cfg.model.training.steps if cfg.task.trains else 0


def sizes(cfg: RootConf | CalibrateConf) -> dict[str, int]:
    """The axes that a model's dimensions are made of: batch, resolution and, of videos, frames."""
    return {"batch": cfg.batch, "resolution": cfg.resolution} | ({"frames": cfg.frames} if cfg.frames else {})


def sizes_of_call(cfg: RootConf | CalibrateConf) -> dict[str, int]:
    """`sizes` in one call of the denoiser, whose batch guidance may double."""
    return sizes(cfg) | {"batch": cfg.batch * (2 if cfg.model.guidance == DOUBLED else 1)}


@cache
def register() -> None:
    """Put the schemas where Hydra finds them: the primary configs name them in their defaults."""
    OmegaConf.register_new_resolver("quantpay.database", database_uri, replace=True)
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RootConf, provider="quantpay")
    store.store(name="analyze_schema", node=AnalyzeConf, provider="quantpay")
    store.store(name="collect_schema", node=CollectConf, provider="quantpay")
    store.store(name="compare_schema", node=CompareConf, provider="quantpay")
    store.store(name="calibrate_schema", node=CalibrateConf, provider="quantpay")
