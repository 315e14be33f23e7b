"""What one process of a calibration does: its experiments in turn, each one on disk before the next."""

import gc
import json
import math
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class

from src.calibration.experiments.delay import HostDelay, delayed, true_speedup
from src.calibration.experiments.plan import Experiment, Kind, Spec
from src.calibration.experiments.probes import against_bare_loop, timer_cost
from src.compilation.scopes import compile_module, compiler_options, timed_first_call
from src.config.schema.quant import QuantConf
from src.config.schema.root import CalibrateConf, RootConf, TaskConf
from src.devices.device import Device
from src.measurement.paired import measure_interleaved
from src.measurement.rounds import Rounds, estimate_speedup
from src.outcomes import ended, log_text
from src.processes.answering import asked_by_nobody
from src.records.environment import environment
from src.statistics.speedup import verdict
from src.tasks.arms.timing import Watch, conditions, watched
from src.timers.host import host_time
from src.timers.timer import Call
from src.workloads.workload import Workload, build_workload

REPEATED = 0.5  # of a process' experiments at most: the crowded ones
_REFERENCE_ROUNDS = 8


@torch.no_grad()
def measure_batch(
    conf: CalibrateConf, process: int, batch: list[Spec], path: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Make the experiments of one process.

    Args:
        process: its number, from 1.
        batch: what to measure, in this order; crowded ones come again at the end.
        path: of ``experiments.jsonl``, which each experiment is appended to with its raw rounds.
        tell: hears each experiment as JSON, without rounds.

    Returns:
        ``environment`` and ``timer`` (see `timer_cost`); or ``trouble``, one line: what ended it.
    """
    try:
        device: Device = get_class(conf.gpu._target_)(conf.gpu).open()
        with compiler_options(conf.compile):
            bench = Bench(conf, device, process)
            queue, most = deque(batch), len(batch) + math.ceil(REPEATED * len(batch))
            for _ in range(most):
                if not queue or asked_by_nobody():
                    break
                spec = queue.popleft()
                found, rounds = bench.measure(spec)
                _append(path, asdict(found) | {"rounds": rounds})
                tell(json.dumps(asdict(found)))
                if found.crowded:
                    queue.append(spec)
            return {"environment": environment(), "timer": timer_cost(device)}
    except Exception as error:
        print(log_text(error))
        end = ended(error)
        return {"trouble": f"{end.outcome}: {end.reason}"}


@dataclass
class _Timed:
    """What the clock and the load said of an experiment."""

    seconds: float = 0.0
    crowded: bool = False
    foreign_cpus: float = 0.0


class Bench:
    """A workload on a device, compiled and called, and a fresh copy of it for each experiment."""

    def __init__(self, conf: CalibrateConf, device: Device, process: int) -> None:
        self.conf, self.device, self.process = conf, device, process
        run = as_run(conf)
        self.conditions = conditions(run)
        self.first = self._ready(build_workload(run, device))

    def measure(self, spec: Spec) -> tuple[Experiment, dict[str, Any]]:
        """Make one experiment; returns what it found and its raw rounds."""
        second = self._ready(self.first.twin())
        started_at = datetime.now(UTC).isoformat()
        try:
            if spec.kind in (Kind.AA, Kind.SLOWDOWN):
                return self._compare(spec, second, started_at)
            return self._against_bare_loop(spec, second, started_at), {}
        finally:
            del second
            gc.collect()

    def _compare(self, spec: Spec, second: Workload, started_at: str) -> tuple[Experiment, dict[str, Any]]:
        """Both copies through the path of a run, one of them delayed."""
        conf = self.conf.measure
        baseline, treated = (second, self.first) if spec.swapped else (self.first, second)
        arms: list[Call] = [baseline.call, treated.call]
        delays: list[HostDelay] = []
        if spec.slowdown:
            wait_ms = spec.slowdown * self._own_ms(treated.call)
            arms = [*(delays := delayed(arms, (0.0, wait_ms), self.device, by_host=self._host_bound))]
        with self._watched(lambda: [arm() for arm in arms]) as (timed, watch):
            under = replace(self.conditions, monitor=watch.monitor)
            rounds = measure_interleaved(arms[0], arms[1], self.device, conf, under)
        estimate = estimate_speedup(rounds, conf)
        found = Experiment(
            **asdict(spec), process=self.process, started_at=started_at, **asdict(timed),
            speedup=estimate.ratio, ci_low=estimate.ci_low, ci_high=estimate.ci_high,
            verdict=verdict(estimate, conf.margin), truth=1.0,
            pairs=estimate.pairs, stop_reason=str(rounds.stop_reason),
            baseline_ms=statistics.median(rounds.baseline_ms), treated_ms=statistics.median(rounds.treated_ms),
        )  # fmt: skip
        raw = asdict(rounds)
        if delays:
            raw["delays_ms"] = _add_truth(found, rounds, delays)
        return found, raw

    def _against_bare_loop(self, spec: Spec, second: Workload, started_at: str) -> Experiment:
        other = self.first if spec.kind is Kind.HARNESS else second
        with self._watched(lambda: (self.first.call(), other.call())) as (timed, _):
            ratios = against_bare_loop(self.first.call, other.call, self.device, self.conf.measure)
        return Experiment(
            **asdict(spec), process=self.process, started_at=started_at, **asdict(timed), ratios=ratios
        )

    @cached_property
    def _host_bound(self) -> bool:
        """Whether the calls, as they are timed, wait for the host."""
        if self.device.kind != "cuda" or not self.conditions.launches:
            return False
        call = self.first.call
        found = host_time(call, self.device, cold=self.conditions.cold, wall_ms=self._own_ms(call))
        return found is not None and found.bound

    def _own_ms(self, call: Call) -> float:
        """A call's own time, measured right before the delay that is a share of it."""
        timer = self.conditions.timer(self.device)
        calls = timer.calls_for(call, self.conf.measure.min_round_ms)
        return statistics.median(timer.ms_per_call(call, calls) for _ in range(_REFERENCE_ROUNDS))

    @contextmanager
    def _watched(self, work: Call) -> Iterator[tuple[_Timed, Watch]]:
        """Time what happens inside, threads bound and everything watched as in a run."""
        timed = _Timed()
        with watched(self.device, work) as watch:
            started = time.perf_counter()
            yield timed, watch
            timed.seconds = time.perf_counter() - started
        load = watch.load
        timed.foreign_cpus = round(load.foreign_cpus, 3)
        alone = self.device.threads is None or not load.crowds(self.device.threads)
        timed.crowded = bool(watch.others) or not alone

    def _ready(self, workload: Workload) -> Workload:
        """Compiled, and called for the first time."""
        compile_module(workload.denoiser(), self.conf.compile)
        timed_first_call(workload, self.device)
        workload.call()
        return workload


def _add_truth(found: Experiment, rounds: Rounds, delays: list[HostDelay]) -> list[float]:
    """Fill in the truth from how much longer the treated arm really waited; returns that per round, ms a call."""
    of_baseline, of_treated = (
        delay.per_round_ms(len(rounds.order), calls)
        for delay, calls in zip(delays, rounds.calls_per_round, strict=True)
    )
    longer = of_treated - np.median(of_baseline)
    found.truth = true_speedup(rounds.as_arrays()[1], longer)
    found.delay_ms = float(np.median(longer))
    return [float(ms) for ms in longer]


def as_run(conf: CalibrateConf) -> RootConf:
    """The unquantized run whose workload is measured."""
    return RootConf(
        model=conf.model, quant=QuantConf(name="none"), compile=conf.compile, gpu=conf.gpu,
        task=TaskConf(name="calibration"), measure=conf.measure, tracking=conf.tracking, batch=conf.batch,
        resolution=conf.resolution, frames=conf.frames, target=conf.target, dtype=conf.dtype, seed=conf.seed,
        outputs=conf.outputs,
    )  # fmt: skip


def _append(path: Path, content: dict[str, Any]) -> None:
    """Add a line of JSON, durably."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
