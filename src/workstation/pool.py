"""The devices of this machine as a backend: a queue in this process, one job at a time on each, by submitit.

`DevicePool.states` starts what waits on what is free, so somebody has to ask: `src.jobs.follower` does.
A job's folder holds ``job.json``, made exclusively by whoever starts or cancels the job: by it other processes know
the jobs of a pool whose process is gone.
"""

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from submitit import LocalExecutor

from src.config.schema.cluster import SlurmRequest
from src.devices.visible import start_alone
from src.jobs.backend import JobState
from src.jobs.states import ABANDONED
from src.records.record import RecordError, write_json, write_new_json
from src.records.store import MANIFEST_NAME, is_alive, process, read_manifest, sweep_folder, this_process
from src.workstation.starting import apart, uninterrupted

_STATE_NAME = "job.json"
_LARGEST = 1_000_000  # of an "array": any number
_TIME_MIN = 60  # of a job whose request does not say
_END_S = 30.0  # of a job that is told to end
_AGAIN_S = 1.0  # it is told again: it may be only starting
_POLL_S = 0.1


@dataclass(frozen=True)
class _Queued:
    id: str
    call: Callable[[], Any]
    request: SlurmRequest
    folder: Path


class DevicePool:
    """Devices of this machine; without any, it starts nothing and only knows the jobs of other processes."""

    name: ClassVar[str] = "submitit_local"

    def __init__(
        self,
        outputs: Path,
        devices: Sequence[str] = (),
        max_num_timeout: int = 0,
        cpus: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        """Args: outputs: the folder of all runs; devices: as CUDA_VISIBLE_DEVICES names them, empty for the CPU;
        max_num_timeout: how often a job that reaches its time limit is started again; cpus: that a device's jobs may
        use, by device; a device without any: all.
        """
        self.outputs, self.max_num_timeout = outputs, max_num_timeout
        self.detached = not devices
        self._free, self._cpus = list(devices), cpus or {}
        self._queue: list[_Queued] = []
        self._running: dict[str, Any] = {}  # device -> submitit's job
        self._folders: dict[str, Path] = {}

    def submit(
        self, name: str, request: SlurmRequest, jobs: Sequence[Callable[[], Any]], folder: Path
    ) -> list[str]:
        """Queue jobs; returns their ids in order, made from the name.

        Args:
            name: unique; `find_by_name` finds it again.
            request: only `time_min` and `extra.chdir`, the folder that the jobs start in, mean something here.
            jobs: pickled by submitit, called in a process of their own.
            folder: gets a folder per job, with its pickle and its output.
        """
        ids = [f"{name}_{task}" for task in range(len(jobs))] if len(jobs) > 1 else [name]
        for job, call in zip(ids, jobs, strict=True):
            self._folders[job] = (folder / job).absolute()
            self._queue.append(_Queued(job, call, request, self._folders[job]))
        return ids

    def states(self, jobs: Collection[str]) -> dict[str, JobState]:
        """Start what waits on devices that are free, then say how these jobs stand."""
        for device in [device for device, started in self._running.items() if started.done()]:
            del self._running[device]
            self._free.append(device)
        for device in list(self._free):
            self._use(device)
        queued, lives = {each.id for each in self._queue}, cache(self._lives)
        found = {job: self._state(job, queued, lives) for job in jobs}
        return {job: state for job, state in found.items() if state}

    def cancel(self, jobs: Collection[str]) -> None:
        """Drop what has not started; what runs is told to end (SIGTERM), and waited for."""
        self._queue = [queued for queued in self._queue if queued.id not in jobs]
        told = [job for job in jobs if not _made(self._folder(job), {"cancelled": True})]
        now = time.monotonic()
        deadline, again = now + _END_S, now
        while now < deadline and (left := [pid for job in told if (pid := self._pid(job))]):
            if now >= again:
                again = now + _AGAIN_S
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
            time.sleep(_POLL_S)
            for started in self._running.values():
                started.done()  # reaps it
            now = time.monotonic()

    def find_by_name(self, name: str) -> str | None:
        """The id of what was submitted by a name: the name itself."""
        return name

    def max_array_size(self) -> int:
        """As many as there are."""
        return _LARGEST

    def placed(self, request: SlurmRequest) -> SlurmRequest:
        """There is one place."""
        return request

    def _use(self, device: str) -> None:
        """Start the next job on a device, unless none waits or another sweep's has the device."""

        def start() -> dict[str, Any]:
            while self._queue:
                queued = self._queue.pop(0)
                if _made(queued.folder, {"process": this_process()}):  # else another process has cancelled it
                    self._free.remove(device)
                    self._running[device] = self._submitted(queued, device)
                    return process(int(self._running[device].job_id))
            return {}

        if self._queue:
            with uninterrupted():
                start_alone(device, start)

    def _submitted(self, queued: _Queued, device: str) -> Any:
        """The job, as submitit's executor for this machine has started it."""
        time_min = queued.request.time_min or _TIME_MIN
        env = ["env", f"CUDA_VISIBLE_DEVICES={device}"]
        if "CUDA_VISIBLE_DEVICES" not in os.environ:
            env.append("CUDA_DEVICE_ORDER=PCI_BUS_ID")  # NVML's and nvidia-smi's numbers
        python = shlex.join([*env, sys.executable])
        executor = LocalExecutor(queued.folder, max_num_timeout=self.max_num_timeout, python=python)
        delay_s = min(90, 30 * time_min)  # SIGUSR2, before the time limit
        executor.update_parameters(timeout_min=time_min, signal_delay_s=delay_s, stderr_to_stdout=True)
        with apart(Path(queued.request.extra.get("chdir") or Path.cwd()), self._cpus.get(device)):
            started = executor.submit(queued.call)
        owner = {"process": process(int(started.job_id)), "device": device or "CPU"}
        write_json(queued.folder / _STATE_NAME, owner)
        return started

    def _state(
        self, job: str, queued: Collection[str], lives: Callable[[str], bool | None]
    ) -> JobState | None:
        """None: it cannot be said, as the job is another host's."""
        folder = self._folder(job)
        content = _content(folder)
        if content is None and job in queued:
            return JobState("PENDING", "all devices are busy")
        if content is None:
            alive = lives(_sweep(job))
            return None if alive is None else JobState("PENDING" if alive else ABANDONED)
        if content.get("cancelled"):
            return JobState("CANCELLED")
        node, alive = f"device {content.get('device', '')}", is_alive(content.get("process", {}))
        if alive is None:
            return None
        if alive:
            return JobState("RUNNING", node=node)
        return JobState("COMPLETED" if any(folder.glob("*_result.pkl")) else "FAILED", node=node)

    def _lives(self, sweep: str) -> bool | None:
        """Whether the process lives that starts a sweep's jobs; None: it is on another host."""
        try:
            return is_alive(read_manifest(sweep_folder(self.outputs, sweep) / MANIFEST_NAME).driver)
        except RecordError:
            return False

    def _pid(self, job: str) -> int | None:
        """Of the process that runs a job; None: none does, or not on this machine."""
        owner = (_content(self._folder(job)) or {}).get("process", {})
        if not is_alive(owner) or owner == this_process():
            return None
        return int(owner["pid"])

    def _folder(self, job: str) -> Path:
        return self._folders.get(job) or sweep_folder(self.outputs, _sweep(job)) / self.name / job


def _sweep(job: str) -> str:
    """qp-SWEEP-GROUP_TASK -> SWEEP."""
    return job.partition("_")[0].removeprefix("qp-").rpartition("-")[0]


def _made(folder: Path, content: dict[str, Any]) -> bool:
    """Make the file that decides what becomes of a job; whether it was not there."""
    return write_new_json(folder / _STATE_NAME, content)


def _content(folder: Path) -> dict[str, Any] | None:
    """What ``job.json`` says; None: nobody has started or cancelled the job.

    One that cannot be read tells no more than that the sweep's process was about to start the job.
    """
    try:
        return dict(json.loads((folder / _STATE_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError:  # the disk was full, or the machine went down
        try:
            return {"process": read_manifest(folder.parents[1] / MANIFEST_NAME).driver}
        except RecordError:
            return {}
