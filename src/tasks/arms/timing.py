"""What times both arms: threads bound, the device watched; joules and the host's time beside the rounds."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from src.config.schema.model import PIPELINE
from src.config.schema.root import RootConf
from src.context import RunContext
from src.devices.device import Device
from src.devices.load import Load, cpu_load
from src.devices.monitor import Blind, Monitor, Pids, open_monitor
from src.measurement.energy import Spent, energy_per_call
from src.measurement.paired import Conditions
from src.measurement.power_blocks import PowerBlocks
from src.measurement.rounds import Rounds
from src.tasks.arms.arm import Arm
from src.timers.host import HostTime, host_time
from src.timers.threads import pinned_threads


@dataclass
class Watch:
    """What else went on while something was measured."""

    monitor: Monitor
    load: Load
    pinned_cpus: list[int]
    others: set[str] = field(default_factory=set)  # other processes on the device


@dataclass
class Timed:
    """Rounds, what went on beside them; joules per call, and the host's and device's time, by metric prefix."""

    rounds: Rounds
    watches: list[Watch]
    energy_j: dict[str, float] = field(default_factory=dict)
    others: dict[str, "Timed"] = field(default_factory=dict)  # in turn: further unquantized arms, each alone
    host: dict[str, HostTime] = field(default_factory=dict)
    blocks: PowerBlocks | None = None  # where the device stood at its power cap
    energy_told: dict[str, Any] = field(default_factory=dict)  # in turn: where its joules come from

    @property
    def counted(self) -> Rounds:
        """The rounds that the speedup comes from."""
        return self.blocks.rounds() if self.blocks else self.rounds


def conditions(cfg: RootConf, monitor: Monitor | None = None) -> Conditions:
    """How the arms of a run are timed."""
    return Conditions(cold_caches(cfg), not is_part(cfg), monitor or Blind())


def cold_caches(cfg: RootConf) -> bool:
    """Whether each call must find the caches cold: a part of a model does, for the rest of it is read in between."""
    if cfg.measure.cache != "auto":
        return cfg.measure.cache == "cold"
    return is_part(cfg)


def is_part(cfg: RootConf) -> bool:
    """Whether a part of a model is measured: in the model its launches are hidden behind what comes before it."""
    return cfg.model.probe or bool(cfg.model.targets.get(cfg.target))


@contextmanager
def watched(device: Device, work: Callable[[], Any], idle: Pids = tuple) -> Iterator[Watch]:
    """Bind the threads that compute `work`, and watch the device and the machine while the block runs.

    Args:
        work: all that is.
        idle: ids of processes that hold the device and have no work for it now.
    """
    with cpu_load() as load, pinned_threads(device, work) as cpus:  # the load of all CPUs that it may use
        watch = Watch(open_monitor(device, cpus, idle), load, cpus)
        watch.others.update(watch.monitor.others())
        yield watch
        watch.others.update(watch.monitor.others())


def energy_j(
    arms: dict[str, tuple[Arm, int]], monitor: Monitor, run: RunContext, blocks: PowerBlocks | None = None
) -> dict[str, float]:
    """Joules per call by metric prefix; none for flushed caches, as flushing would be counted.

    Of the blocks at the power cap where there are some, else of windows. ``details.energy`` says which, and how far
    the counter's steps leave each arm unsure.

    Args:
        arms: by metric prefix, each with how many of its calls make a round.
        blocks: of the arms ``baseline_`` and the treated one.
    """
    if not arms or cold_caches(run.cfg) or monitor.energy_j() is None:
        return {}
    how, found = "power blocks", _of_blocks(blocks)
    if not found and run.cfg.measure.energy_s > 0:
        calls, sizes = [arm.call for arm, _ in arms.values()], [size for _, size in arms.values()]
        with run.phase("energy"):
            spent = energy_per_call(calls, sizes, run.device, monitor, run.cfg.measure.energy_s)
        how, found = "windows", dict(zip(arms, spent, strict=False))
    for prefix, each in found.items():
        told = {"from": how, "calls": each.calls, "seconds": each.seconds, "error": each.error}
        run.record.details.setdefault("energy", {})[f"{prefix}per_call"] = told
    return {prefix: each.per_call_j for prefix, each in found.items()}


def _of_blocks(blocks: PowerBlocks | None) -> dict[str, Spent]:
    arms = {"baseline_": blocks.spent("A"), "": blocks.spent("B")} if blocks else {}
    found = {prefix: spent for prefix, spent in arms.items() if spent}
    return found if len(found) == len(arms) else {}


def host_times(arms: dict[str, tuple[Arm, list[float]]], run: RunContext) -> dict[str, HostTime]:
    """What launching a call takes, by metric prefix; none on a CPU, nor of a pipeline, which waits for the device.

    Args:
        arms: each with the times of its rounds, ms per call.
    """
    if run.device.kind != "cuda" or run.cfg.target == PIPELINE:
        return {}
    cold, part = cold_caches(run.cfg), is_part(run.cfg)
    with run.phase("host time"):
        found = {
            prefix: host_time(
                arm.call, run.device, cold=cold, wall_ms=None if part else statistics.median(times_ms)
            )
            for prefix, (arm, times_ms) in arms.items()
        }
    return {prefix: host for prefix, host in found.items() if host}
