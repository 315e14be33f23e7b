"""The profile of a run, on demand: a trace and a memory snapshot of one call of each arm, and the kernel table."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from src.compilation.scopes import compiled_apart
from src.context import RunContext
from src.devices.device import Device
from src.outcomes import ended, log_text
from src.profiling.kernels import dominant_kernel, kernel_metrics, kernel_table, read_profile, write_table
from src.profiling.snapshots import write_snapshot
from src.profiling.trace import write_trace
from src.statistics.speedup import Verdict
from src.tasks.arms.arm import Arm
from src.timers.steps import mark_step

_ARMS = ("baseline", "treated")
_TABLE = "kernels.csv"
# Inductor's C++ kernels are seen by the profiler only where the generated code says when they begin and end.
_SEEN_ON_CPU = {"cpp.enable_kernel_profile": True}


def profile_arms(run: RunContext, *arms: Arm) -> None:
    """Profile one call of each arm into the run's folder, if asked; a failure is only noted.

    Call this when timing is over. Once both arms have been profiled, by one call or two, the kernel table follows.
    """
    if not run.cfg.measure.profile:
        return
    with run.phase("profile"):
        try:
            _profile(run, arms)
        except Exception as error:  # whatever it is, the measured numbers stand
            print(log_text(error), file=sys.stderr)
            run.record.details["profile"] = {"failed": ended(error).reason}


def _profile(run: RunContext, arms: tuple[Arm, ...]) -> None:
    with _visible(run, arms):
        for arm in arms:
            call = _step(arm, run.device)
            call()  # compiles, where it has to
            write_trace(call, run.device, _trace(run, arm.name))
            write_snapshot(call, arm.workload.module, run.device, run.folder / f"memory_{arm.name}.pickle")
    if not all(_trace(run, name).exists() for name in _ARMS):
        return  # the treated arm is still to come, or the baseline's profile failed
    profiles = {name: read_profile(_trace(run, name), run.device.kind == "cuda") for name in _ARMS}
    rows = kernel_table(profiles)
    write_table(run.folder / _TABLE, rows)
    run.record.metrics |= kernel_metrics(rows, profiles)
    if run.record.verdict == Verdict.HURTS:
        run.record.reason = "; ".join(filter(None, [dominant_kernel(rows), run.record.reason]))
    files = [*run.folder.glob("trace_*.json.gz"), *run.folder.glob("memory_*.pickle"), run.folder / _TABLE]
    run.record.details["profile"] = {"files": sorted(file.name for file in files)}


def _visible(run: RunContext, arms: tuple[Arm, ...]) -> AbstractContextManager[None]:
    conf = run.cfg.compile
    compiled_cpp = run.device.kind == "cpu" and conf.scope != "none" and conf.backend == "inductor"
    if not compiled_cpp or conf.package:  # what is in a package stays as it is
        return nullcontext()
    return compiled_apart(_SEEN_ON_CPU, again=lambda: [arm.call() for arm in arms])


def _step(arm: Arm, device: Device) -> Callable[[], Any]:
    def call() -> Any:
        mark_step(device)
        return arm.call()

    return call


def _trace(run: RunContext, arm: str) -> Path:
    return run.folder / f"trace_{arm}.json.gz"
