"""Processes that compile the next runs' arms while others are measured, on cores that do not measure."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from src.config.schema.model import PIPELINE
from src.config.schema.root import AUTO, RootConf
from src.launching.standing import standing
from src.local.devices import Devices
from src.processes.isolated import Child, EndedBy, Preloaded
from src.records.beside import note_compilers
from src.records.key import axes_of, run_key
from src.records.record import Record

Work = tuple[RootConf, Record]  # a run's configuration, its dtype settled, and its identity

_MEASURING = 2  # CPUs: of a run's own process, and of the sweep's
_LEAST = 4  # CPUs beside those, for `auto`
_LEAST_GIB = 32  # of the device, for `auto`: a process that compiles for CUDA takes half a GiB of it
_EACH = 2  # CPUs for one that compiles: Python's, and a C++ compiler's or ptxas'
_MOST = 3


def compiles_ahead(cfg: RootConf, device: dict[str, Any]) -> bool:
    """Whether a run's arms can and may be compiled before it, by a process that has no model.

    Args:
        cfg: of the run, its dtype settled.
        device: that it is for, as a dict.
    """
    quant, asked = cfg.quant, cfg.launch.compile_ahead
    roomy = device.get("kind") == "cuda" and device["memory_gib"] >= _LEAST_GIB and len(_spare()) >= _LEAST
    return (
        (asked == "always" or (asked == "auto" and roomy))
        and "absent" not in device
        and cfg.dtype != AUTO
        and (cfg.compile.scope != "none" and cfg.compile.backend == "inductor" and not cfg.compile.package)
        and (cfg.task.compares and not cfg.task.steps and cfg.target != PIPELINE)
        and (quant.where, quant.via) == ("device", "direct")
        and not quant.candidates
        and cfg.model.weights.source == "random"
    )


def to_compile(configs: Iterable[RootConf], devices: Devices, outputs: Path, sweep: str) -> Iterator[Work]:
    """Those of a sweep's runs, in their order, whose arms are to be compiled ahead."""
    for cfg in configs:
        if cfg.launch.compile_ahead == "never":
            continue
        settled, device = devices.settled(cfg)
        key = run_key(settled, device)
        if compiles_ahead(settled, device) and standing(outputs, key, settled, lambda _: None) is None:
            yield settled, Record(key, 0, sweep, axes_of(settled))


class Compilers:
    """Takes runs in their order; what has not been compiled when its run begins, that run compiles itself."""

    def __init__(self, server: Preloaded, log: Path) -> None:
        """Args: log: for the output of all."""
        self.server, self.log = server, log
        self._left: dict[str, Work] = {}  # by key
        self._taking = Lock()
        self._at_work: list[tuple[Child, Thread]] = []

    def give(self, runs: Iterable[Work]) -> None:
        """What is to be compiled, in this order."""
        self._left |= {record.run_key: (cfg, record) for cfg, record in runs}

    def begun(self, key: str) -> None:
        """A run begins: it and those before it are no longer of use, and there are processes for the others."""
        with self._taking:
            before = list(self._left)
            for earlier in before[: before.index(key) + 1] if key in before else ():
                del self._left[earlier]
        wanted = min(_number(), len(self._left)) - self.busy()
        for _ in range(wanted):
            child = self.server.stay(_compile)
            thread = Thread(target=self._work, args=(child,), daemon=True)
            thread.start()
            self._at_work.append((child, thread))
        if wanted > 0:
            note_compilers(self.log.parent, [child.pid for child, _ in self._at_work])

    def busy(self) -> int:
        """How many processes compile."""
        self._at_work = [(child, thread) for child, thread in self._at_work if thread.is_alive()]
        return len(self._at_work)

    def close(self) -> None:
        """End all of them, whatever they are at."""
        with self._taking:
            self._left.clear()
        if self.busy():
            for child, _ in self._at_work:
                child.kill()
            for _, thread in self._at_work:
                thread.join()

    def _work(self, child: Child) -> None:
        """One process, until nothing is left or it ends badly."""
        while (work := self._next()) is not None:
            timeout_s = work[0].measure.timeout_s
            ending = child.ask((*work, _spare()), log=self.log, timeout_s=timeout_s)
            if ending.by is not EndedBy.ITSELF:
                return
        child.close()

    def _next(self) -> Work | None:
        with self._taking:
            return self._left.pop(next(iter(self._left))) if self._left else None


def _spare() -> frozenset[int]:
    """The CPUs that are not needed for measuring."""
    return frozenset(sorted(os.sched_getaffinity(0))[_MEASURING:])


def _number() -> int:
    """How many processes compile at a time; one at least, for `always`."""
    return max(1, min(_MOST, len(_spare()) // _EACH))


def _compile(cfg: RootConf, record: Record, cpus: frozenset[int], tell: object) -> None:
    from src.tasks.arms.ahead import compile_ahead  # it imports torch

    compile_ahead(cfg, record, cpus)
