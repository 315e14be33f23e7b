"""The candidates' code, compiled beside each other before any is timed: the trials find it in the compiler's cache.

Timing a candidate takes a tenth of a second, compiling it ten times that, and that is the host's work: each CPU does
some of it, in a process of its own. What a worker compiles, it calls once, with random weights; the code does not
depend on them.
"""

import os
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from hydra.utils import get_class
from torch import nn

from src.autoquant.plan import Shape
from src.compilation.ahead import compile_alone, needs_the_device
from src.compilation.scopes import compile_module, compiler_options
from src.config.schema.root import RootConf
from src.devices.capability import Status, capability, quant_conf
from src.devices.device import GIB, Device
from src.processes.children import PRELOAD_VARIABLE, fork_server
from src.treatments.applied import quantize_layers
from src.treatments.layers import LayerRow
from src.treatments.scheme import TorchaoScheme
from src.workloads.workload import Whole, Workload

_LEAST_WORKERS = 4  # starting them takes as long as compiling some ten pieces: two save nothing
_LEAST_PIECES = 4  # for each worker
_WORKER_GIB = 1.5  # of the device's memory: CUDA's own, and a large layer a few times


@dataclass(frozen=True)
class Piece:
    """A layer of one shape, to be compiled as a candidate makes it, or unquantized."""

    M: int
    K: int
    N: int
    bias: bool
    candidate: str | None


class Ahead:
    """Compiles pieces in processes beside each other; what fails there, fails again in its trial, which says why."""

    def __init__(self, cfg: RootConf, device: Device) -> None:
        """Args: cfg: of the run, its dtype settled; device: that it runs on."""
        self.cfg, self.device = cfg, device

    def pieces(
        self, layers: Iterable[tuple[LayerRow, bool]], known: Collection[tuple[Shape, str]] = ()
    ) -> list[Piece]:
        """One layer of each shape (and whether it has a bias): unquantized, and by each candidate that takes it.

        Of what is known, shape and candidate, nothing is compiled.
        """
        schemes = {
            name: TorchaoScheme(quant_conf(entry)) for name, entry in self.cfg.quant.candidates.items()
        }
        able = {
            name: scheme
            for name, scheme in schemes.items()
            if capability(scheme.conf, self.device, self.cfg.dtype).status is Status.OK
        }
        found = []
        for row, bias in layers:
            asked = {name: scheme for name, scheme in able.items() if (row.shape, name) not in known}
            takers = [name for name, scheme in asked.items() if scheme.select([replace(row)], self.device)]
            found += [Piece(*row.shape, bias, name) for name in ((None, *takers) if asked else ())]
        return found

    def workers(self, pieces: int) -> int:
        """How many processes are worth their start; 0: none, or what they compiled would not be what a trial does.

        Where the compiler chooses kernels by timing them, it must do so alone.
        """
        conf = self.cfg.compile
        if conf.scope == "none" or conf.backend != "inductor" or needs_the_device(conf):
            return 0
        count = min(len(os.sched_getaffinity(0)), pieces // _LEAST_PIECES)
        if self.device.kind == "cuda":
            count = min(count, int(torch.cuda.mem_get_info()[0] / GIB / _WORKER_GIB))
        return count if count >= _LEAST_WORKERS else 0

    def compile(self, pieces: list[Piece], workers: int) -> Iterable[int]:
        """Compile all; yields how many are done. A worker that dies ends it, and the trials compile the rest."""
        os.environ[PRELOAD_VARIABLE] = os.environ.get(PRELOAD_VARIABLE) or __name__
        context = fork_server()  # its imports leave CUDA alone
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_alone)
        try:
            with suppress(BrokenProcessPool):
                asked: list[Future[None]] = [pool.submit(_compile, self.cfg, piece) for piece in pieces]
                for done, future in enumerate(as_completed(asked), 1):
                    future.result()
                    yield done
        finally:
            pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """What a worker sets, beside being silent: it calls what it compiles, on a device that others use.

    Which variant of a kernel is quickest it times in a crowd: that is not kept. Inductor's own option for this would
    stand in the code, and bind all who find that.
    """
    from torch._inductor.runtime.autotune_cache import AutotuneCache

    compile_alone()
    AutotuneCache.save = _forgotten  # type: ignore[method-assign]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _forgotten(*_: object, **__: object) -> None:
    """In place of keeping what was timed."""


@torch.no_grad()
def _compile(cfg: RootConf, piece: Piece) -> None:
    """In a worker: as `autoquant`'s trial does it, which meets again whatever is raised here."""
    with suppress(Exception):
        _compiled(cfg, piece)
    torch._dynamo.reset()


def _compiled(cfg: RootConf, piece: Piece) -> None:
    device: Device = get_class(cfg.gpu._target_)(cfg.gpu).open()
    dtype = getattr(torch, cfg.dtype)
    with compiler_options(cfg.compile, cfg.quant, device.kind):
        layer = nn.Linear(piece.K, piece.N, bias=piece.bias, dtype=dtype, device=device.torch)
        x = torch.randn(piece.M, piece.K, dtype=dtype, device=device.torch)
        workload = Workload(Whole(layer.requires_grad_(False)), (x,), {})
        if piece.candidate is not None:
            scheme = TorchaoScheme(quant_conf(cfg.quant.candidates[piece.candidate]))
            config, row = scheme.torchao_config(device), LayerRow("inner", piece.M, piece.K, piece.N, 1)
            quantize_layers(workload.module, {"inner": (piece.candidate, config)}, [row])
        compile_module(workload.module, cfg.compile)
        workload.call()
        device.synchronize()
