"""A workload from its checkpoint, called: here, or in a process that knows only the configuration and the files."""

import hashlib
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from hydra.utils import get_class

from src.compilation.scopes import compile_module, compiler_options
from src.config.schema.root import RootConf
from src.devices.device import Device
from src.devices.load import Load, cpu_load
from src.measurement.memory import Peaks, peak_memory
from src.measurement.paired import measure_alone
from src.measurement.rounds import Rounds
from src.outcomes import RunEndedError, ended, log_text
from src.processes.children import spawning
from src.quality.sqnr import on_cpu
from src.records.record import Outcome
from src.serialization.checkpoint import load_into, verify
from src.serialization.info import read_info
from src.serialization.package import load_packages
from src.serialization.package_info import PackageInfo, read_package, verify_packages
from src.workloads.workload import Workload, empty_workload

Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Asked:
    """What the fresh process is to do with the loaded model, beside one call."""

    packages: Path | None = None  # run these; None: compile by the run's compile mode
    cache: Path | None = None  # of the compiler, in place of this machine's own
    rounds: bool = False  # time calls


@dataclass
class TimedCalls:
    """Calls of a workload by itself, and what else the machine did meanwhile."""

    rounds: Rounds
    load: Load


@dataclass
class Answer:
    """What the fresh process found."""

    pid: int
    outputs: bytes = b""  # the output tensors, as a torch file
    load_s: float = 0.0
    load_peaks: Peaks = field(default_factory=Peaks)
    start_s: float = 0.0  # from the loaded weights to the end of the first call
    timed: TimedCalls | None = None
    failure: tuple[str, str, str] | None = None  # outcome, reason, remedy

    def tensors(self) -> Tensors:
        """The output tensors."""
        tensors: Tensors = torch.load(io.BytesIO(self.outputs), weights_only=True)
        return tensors


def call(workload: Workload, cfg: RootConf) -> Tensors:
    """The output tensors of one call in the run's compile state, on the CPU."""
    with compiler_options(cfg.compile, cfg.quant, next(workload.module.parameters()).device.type):
        output = on_cpu(workload.call())
    return tensors_of(output)


def tensors_of(output: object) -> Tensors:
    """The tensors of an output."""
    leaves = torch.utils._pytree.tree_leaves(output)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def time_calls(workload: Workload, cfg: RootConf, device: Device) -> TimedCalls:
    """Time calls for half the budget of a run's rounds."""
    with cpu_load() as load:
        rounds = measure_alone(workload.call, device, cfg.measure)
    return TimedCalls(rounds, load)


def digest(outputs: Sequence[torch.Tensor]) -> str:
    """SHA-256 of dtypes, shapes and values: equal only for outputs that are equal bit for bit."""
    found = hashlib.sha256()
    for tensor in outputs:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def call_fresh(cfg: RootConf, device: Device, folder: Path, asked: Asked = Asked()) -> Answer:
    """Load and call in a new Python process with as many threads as here.

    Raises:
        RunEndedError: it could not; the reason says that it was the fresh process.
    """
    cfg = replace(cfg, gpu=replace(cfg.gpu, threads=device.threads))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            with spawning():  # the process starts when it is first asked
                future = pool.submit(_answer, cfg, folder, asked)
            answer = future.result()
        except BrokenProcessPool as error:
            remedy = "run.log in the run's folder has its last words"
            raise RunEndedError(Outcome.FAILED, "the fresh process died while loading", remedy) from error
    if answer.failure is not None:
        outcome, reason, remedy = answer.failure
        raise RunEndedError(Outcome(outcome), f"in a fresh process: {reason}", remedy)
    return answer


@torch.no_grad()
def _answer(cfg: RootConf, folder: Path, asked: Asked = Asked()) -> Answer:
    """In the fresh process."""
    try:
        device: Device = get_class(cfg.gpu._target_)(cfg.gpu).open()
        info = read_info(folder)
        verify(folder, info)
        packages = _verified(asked.packages)
        workload = empty_workload(cfg, device)
        answer = Answer(os.getpid())
        started = time.perf_counter()
        with peak_memory(device) as answer.load_peaks:
            trust, dtype = cfg.serialize.trust, getattr(torch, cfg.dtype)
            load_into(workload.denoiser(), folder, info, device.torch, trust, dtype)
            device.synchronize()
        answer.load_s = time.perf_counter() - started
        _start(workload, cfg, device, asked, packages, answer)
    except Exception as error:
        print(log_text(error), file=sys.stderr)
        end = ended(error)
        return Answer(os.getpid(), failure=(str(end.outcome), end.reason, end.remedy))
    return answer


def _verified(folder: Path | None) -> PackageInfo | None:
    """What is said of packages, once their files are seen to be these: none of a start, so it is not timed."""
    if folder is None:
        return None
    info = read_package(folder)
    verify_packages(folder, info)
    return info


def _start(
    workload: Workload,
    cfg: RootConf,
    device: Device,
    asked: Asked,
    packages: PackageInfo | None,
    answer: Answer,
) -> None:
    """From weights to an output, and then what else is asked."""
    if asked.cache is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(asked.cache)
        os.environ["TRITON_CACHE_DIR"] = str(asked.cache / "triton")
    started = time.perf_counter()
    if asked.packages is None or packages is None:
        compile_module(workload.denoiser(), cfg.compile)
    else:
        load_packages(workload.denoiser(), asked.packages, packages, device, verified=True)
    outputs = call(workload, cfg)
    device.synchronize()
    answer.start_s = time.perf_counter() - started
    if asked.rounds:
        answer.timed = time_calls(workload, cfg, device)
    buffer = io.BytesIO()
    torch.save(outputs, buffer)
    answer.outputs = buffer.getvalue()
