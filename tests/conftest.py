"""Shared parts: composed configurations, an opened CPU, run contexts that write into a temporary folder.

Set before torch is imported: threads, and an inductor cache that sessions share, so that only the first one
pays for compiling. A test of cold compilation takes the fixture `cold_cache`. Nothing heavy is imported until a test
wants it: the process that only deals out tests to others and the tests on clusters do without torch.
"""

import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIMIT = os.environ.get("ATEN_CPU_CAPABILITY", "")  # code for other instruction sets lies apart
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(ROOT / "outputs" / "cache" / f"inductor{LIMIT}"))
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # g++ knows this CPU: asking it takes 5 s
os.environ.setdefault("AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL", "O0")  # of what calls a package's kernels
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
for name in (
    "COLUMNS",
    "LINES",
):  # which readline puts there: no test is as wide as the terminal unless it says so
    os.environ.pop(name, None)
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # an environment that is activated

# a shell's `&` starts us, and all tests' processes, deaf
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()  # until all is imported

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

if TYPE_CHECKING:
    from src.config.schema.quant import QuantConf
    from src.config.schema.root import GpuConf, RootConf
    from src.context import RunContext
    from src.devices.device import Device
    from src.devices.load import Load
    from src.measurement.rounds import Rounds
    from src.processes.isolated import Preloaded
    from src.records.record import Record
    from src.workloads.dtype import DtypeRates
    from tests.composing import Compose

settings.register_profile(  # one for all: how long an example takes says how busy the machine is
    "quantpay", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quantpay"), max_examples=300)
settings.load_profile("quantpay")

FAMILIES = ("fp6_e3m2", "fpx_weight_only", "uint3wo", "uintx_weight_only")
SMALL_LINEAR = ("model=linear", "model.dims.M=16", "model.dims.K=256", "model.dims.N=128")
SMALL_FLUX = (  # width 128 instead of 512, 64 pixels: what it computes costs next to nothing, in any dtype
    "model=flux-tiny",
    "model.factory.num_layers=1",
    "model.factory.num_single_layers=1",
    "model.factory.num_attention_heads=2",
    "resolution=64",
)


MADE_ONCE = {"fork_server", "analysed"}  # what takes seconds to make, and many files share

_frozen = 0  # modules


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests share what is `MADE_ONCE` come first: the same process has them all, and makes it once."""
    first = {item.path for item in items if MADE_ONCE.intersection(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in first)


def pytest_runtest_setup() -> None:
    """What was imported stays: no collection, of which runs ask for several, need look at it again.

    Looking for garbage was a fifteenth of the suite. What comes by itself, thousands of times, comes less often.
    """
    global _frozen
    if len(sys.modules) > _frozen + 50:
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000)
        gc.enable()


@pytest.fixture(scope="session")
def compose() -> "Compose":
    """compose(*overrides) -> RootConf, as a sweep does: once per set of options; `QUIET` underneath."""
    from tests.composing import composer

    return composer()


@pytest.fixture(scope="session")
def entries(compose: "Compose") -> "dict[str, QuantConf]":
    """Scheme -> its entry, all of conf/quant; composed at once, as candidates of autoquant's."""
    from src.devices.capability import quant_conf

    nested = [f"+quant@quant.candidates.{name}={name}" for name in canonical("quant")]
    candidates = compose("quant=none", *nested).quant.candidates
    return {name: quant_conf(entry) for name, entry in candidates.items()}


@pytest.fixture(scope="session")
def cpu_conf(compose: "Compose") -> "GpuConf":
    return compose().gpu


@pytest.fixture
def cpu(cpu_conf: "GpuConf") -> "Device":
    from src.devices.device import CpuDevice

    return CpuDevice(cpu_conf).open()


@pytest.fixture
def run_context(tmp_path: Path, cpu: "Device") -> "Callable[..., RunContext]":
    """run_context(cfg, device=cpu): what a task is handed; phases are heard by nobody."""
    from src.context import RunContext

    def made(cfg: "RootConf", device: "Device" = cpu) -> RunContext:
        return RunContext(cfg, identity(cfg), tmp_path, device, lambda _: None)

    return made


@pytest.fixture(scope="session")
def this_commit() -> dict[str, str]:
    from src.records.environment import commit

    return commit()


@pytest.fixture
def execute_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, this_commit: dict[str, str]
) -> "Callable[..., Record]":
    """execute_run(cfg, **settled): one run in this process, by `execute`; the record as read back from its file.

    git is asked once for all runs, and the threads that compute are watched for a tenth of the usual time.
    `settled`: what an earlier process of the run settled.
    """
    monkeypatch.setattr("src.records.environment.commit", lambda: this_commit)
    monkeypatch.setattr("src.timers.threads._WATCHED_S", 0.005)
    from src.records.record import read_record
    from src.run import execute

    def run(cfg: "RootConf", **settled: str) -> "Record":
        folder, record = tmp_path / "run", identity(cfg)
        folder.mkdir(exist_ok=True)
        record.details |= {"process": {"number": 2, **settled}} if settled else {}
        execute(cfg, record, folder, lambda _: None)
        return read_record(folder / "record.json")

    return run


class Called(NamedTuple):
    """What one command line did."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Called]]:
    """called("-m", "quant=int8wo", ...): `python -m src.run` in this process."""
    from src.run import main

    def call(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        return Called(main(), *capsys.readouterr())

    with as_before():
        yield call


@contextmanager
def as_before() -> Iterator[None]:
    """What a command changes in its process is undone."""
    handlers, on_sigterm = logging.root.handlers[:], signal.getsignal(signal.SIGTERM)
    environment = os.environ.copy()
    yield
    logging.root.handlers[:] = handlers
    signal.signal(signal.SIGTERM, on_sigterm)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="session")
def fork_server() -> "Iterator[Preloaded]":
    """Runs that `called` starts are forked from it: it has imported what they need."""
    from src.processes.isolated import Preloaded
    from tests.fork_server import WARM, own_fork_server

    with own_fork_server():
        yield Preloaded(WARM)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as people have them, of model=tiny-wan: plain, of a variant, quantized (`save_checkpoints`)."""
    from tests.workloads.factories import save_checkpoints

    folder = tmp_path_factory.mktemp("checkpoints")
    save_checkpoints(folder)
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes 1 to 7 s to make its tables; tests copy these."""
    from src.config.schema.root import TrackingConf
    from src.records.mlflow.tracking import open_tracker

    folder = tmp_path_factory.mktemp("database")
    open_tracker(
        TrackingConf("sqlite", True, f"sqlite:///{folder}/mlflow.db", "unused", str(folder / "artifacts"))
    )
    return folder / "mlflow.db"


@pytest.fixture
def outputs(tmp_path: Path, empty_database: Path) -> Path:
    """For what a command leaves: a folder whose database has its tables."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def cold_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty inductor cache for one test."""
    folder = tmp_path / "inductor"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    yield folder
    monkeypatch.undo()


@pytest.fixture
def known_rates(monkeypatch: pytest.MonkeyPatch) -> "DtypeRates":
    """What this machine computes faster, the same on all: no test may depend on a clock."""
    from src.workloads.dtype import DtypeRates

    rates = DtypeRates({"bfloat16": 1.1, "float32": 1.0, "float16": 1.0})
    monkeypatch.setattr("src.measurement.dtypes.quick_rates", lambda _: rates)
    return rates


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> "Load":
    """Whatever else runs here, a run sees this load; nothing foreign unless a test says otherwise."""
    from src.devices.load import Load

    load = Load(own_cpus=1.0, foreign_cpus=0.0, cpus=1, seconds=1.0)
    monkeypatch.setattr("src.tasks.arms.timing.cpu_load", lambda: nullcontext(load))
    return load


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """No test sees what another compiled, counted or set."""
    import torch
    import torch._inductor.config as inductor_config

    before = inductor_config.get_config_copy()
    yield
    for name, value in inductor_config.get_config_copy().items():
        if value != before[name]:
            setattr(inductor_config, name, before[name])
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture(autouse=True)
def computes(known_rates: "DtypeRates", quiet_machine: "Load", fresh_compiler: None) -> None:
    """What this process computes depends on no other test and no clock; overridden where it computes nothing."""


def canonical(group: str) -> list[str]:
    """The options of a group of conf/ that are no aliases."""
    files = sorted((ROOT / "conf" / group).glob("*.yaml"))
    return [file.stem for file in files if not file.read_text().startswith("defaults: [")]


def int8_matmul_saturates() -> bool:
    """A CPU with VNNI that is told to do without it (ONEDNN_MAX_CPU_ISA=AVX2): sums of products in 16 bits."""
    import torch

    largest = torch.full((8, 64), 127, dtype=torch.int8)
    return int(torch._int_mm(largest, largest.t()).max()) != 64 * 127**2


def schemes() -> list[str]:
    """The schemes; of the two families whose members differ in a number of bits only, one stands for all.

    Without regime, which says nothing before single layers were measured (`tests/regimes/test_by_rules.py`).
    """
    names = [name for name in canonical("quant") if name != "regime"]
    return [name for name in names if not name.startswith(("fp", "uint")) or name in FAMILIES]


def synthetic_rounds(speedup: float, pairs: int = 40, spread: float = 0.001) -> "Rounds":
    """Interleaved rounds of a baseline of 1 ms and a treatment `speedup` times as fast, with a little noise."""
    import torch

    from src.measurement.rounds import Rounds

    noise = torch.randn(2, pairs, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * spread
    baseline, treated = noise.exp().tolist()
    return Rounds(
        baseline_ms=baseline,
        treated_ms=[ms / speedup for ms in treated],
        order=["AB" if index % 2 == 0 else "BA" for index in range(pairs)],
        stop_reason="narrow",
    )


def identity(cfg: "RootConf") -> "Record":
    from src.records.key import axes_of
    from src.records.record import Record

    return Record("0123456789abcdef", 1, "sweep", axes_of(cfg))
