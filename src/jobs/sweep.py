"""A sweep on a cluster: each run's folder is made here, jobs run it there, and its record comes back by the disk."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from src.config.console import Terminal
from src.config.errors import ConfigError
from src.config.lines import runs_in_words
from src.config.paths import this_command
from src.config.schema.cluster import ClusterConf
from src.config.schema.root import RootConf, TrackingConf
from src.context import Execute
from src.jobs.arrays import ArrayBackend, Grouping, JobArray
from src.jobs.followed import Patience
from src.jobs.follower import follow, hints
from src.jobs.in_flight import in_flight
from src.jobs.node.portable import travelling, without_placeholders
from src.jobs.node.run import RunJob
from src.jobs.node.snapshot import take
from src.jobs.outputs_lock import one_at_a_time
from src.launching.preparation import new_sweep, writable, write_config
from src.launching.publication import SweepPublisher
from src.launching.repetition import total_timeout_s
from src.launching.standing import standing
from src.records.environment import environment, versions
from src.records.identity import Identity
from src.records.key import axes_of, requested, run_key
from src.records.record import Outcome, Record
from src.records.store import SweepManifest, next_attempt, run_folder, sweep_folder
from src.workloads.dtype import predicted


def run_on_cluster(
    configs: Iterable[RootConf],
    conf: ClusterConf,
    backend: ArrayBackend,
    execute: Execute,
    folders: list[Path] | None = None,
) -> list[int]:
    """Send every run that is neither measured nor under way, then follow all of them, or return.

    Args:
        configs: validated, all of one sweep; looked at one after another and not kept.
        execute: what a run's process does there: `src.run.execute`.
        folders: filled with where each one's record lies, or will.

    Returns:
        An exit status per run: 0 for a finding, 1 otherwise; 0 for what is sent and not waited for.

    Raises:
        ConfigError: outputs cannot be written, another command sends into them and does not come to an end, or the
            first array is refused; then nothing is left behind.
        KeyboardInterrupt: Ctrl-C; what was sent goes on.
    """
    sweep = _sent(configs, conf, backend, execute)
    statuses = sweep.finish()
    if folders is not None:
        there = sweep.manifest.folders(sweep.outputs)
        folders += [there[index] for index in sweep.asked]
    return statuses


def _sent(
    configs: Iterable[RootConf], conf: ClusterConf, backend: ArrayBackend, execute: Execute
) -> "ClusterSweep":
    """The sweep, once all of it is sent; no other command sends into its outputs meanwhile."""
    first = next(configs := iter(configs))
    outputs = without_placeholders(writable(Path(first.outputs)))
    with one_at_a_time(outputs):
        sweep = ClusterSweep(outputs, first.tracking, conf, backend, execute)
        try:
            for cfg in chain([first], configs):
                sweep.add(cfg)
            sweep.send()
        except BaseException:
            sweep.leave()
            raise
    return sweep


class ClusterSweep:
    """The state of one submission: the manifest, the arrays, and what of it the cluster has."""

    def __init__(
        self,
        outputs: Path,
        tracking: TrackingConf,
        conf: ClusterConf,
        backend: ArrayBackend,
        execute: Execute,
    ) -> None:
        """Args: outputs: absolute; tracking: where this process publishes to while it waits."""
        self.sweep, self.outputs, self.tracking = new_sweep(), outputs, tracking
        self.conf, self.backend, self.execute = conf, backend, execute
        self.console = Terminal(stderr=True, highlight=False, soft_wrap=True)
        self.earlier = in_flight(outputs, backend)
        self.grouping = Grouping(self.sweep, conf, backend.max_array_size())
        self.folder = sweep_folder(outputs, self.sweep)
        self.folder.mkdir(parents=True)
        self.snapshot = take(self.folder / "snapshot")
        self.manifest = SweepManifest.start(self.sweep, this_command())
        self.manifest.backend = backend.name
        self.versions = versions()
        self.listed: dict[str, int] = {}  # run key -> index into the manifest's runs
        self.asked: list[int] = []  # the index of each configuration's run; several may have the same
        self.axes: dict[int, dict[str, Any]] = {}
        self.may_be_sent = False  # whether the cluster may know of any array
        self.refused: set[int] = set()

    def say(self, text: str) -> None:
        """A line for the user."""
        self.console.print(text, markup=False)

    def add(self, cfg: RootConf) -> None:
        """List one run: measured before, under way, or with a folder of its own, to be sent."""
        cfg = predicted(cfg)
        key = run_key(cfg, requested(cfg.gpu))
        if key not in self.listed:
            self.listed[key] = len(self.manifest.runs)
            done = standing(self.outputs, key, cfg, self.say)
            sent = None if cfg.rerun else self.earlier.get(key)
            if done is not None and done.device:  # without a device it was the wrong node: nothing was tried
                self.manifest.add(key, done.attempt, skipped=True)
            elif sent is not None:
                self.manifest.add(key, sent.attempt, skipped=False, job=sent.job)["adopted"] = True
            else:
                self._prepare(cfg, key)
        self.asked.append(self.listed[key])

    def send(self) -> None:
        """One array after another; the manifest is on disk before each, and after it with the jobs' ids.

        Raises:
            ConfigError: the first array is refused, or it is not clear where one of them is to go.
        """
        for array in self.grouping.arrays:
            array.pack(self.conf.runs_per_job)
            array.request = self.backend.placed(array.request)
            for position, index in enumerate(array.runs):
                self.manifest.runs[index] |= array.place(position)
        self.manifest.write(self.outputs)
        self._announce()
        for array in self.grouping.arrays:
            earlier, self.may_be_sent = self.may_be_sent, True
            try:
                jobs = self._submit(array)
            except ConfigError as refusal:
                self.may_be_sent = earlier
                if not earlier:
                    raise
                self._refuse(array, str(refusal))
                continue
            for indices, job in zip(array.jobs(), jobs, strict=True):
                for index in indices:
                    self.manifest.runs[index]["job"] = job
            self.manifest.write(self.outputs)
            self.say(f"  {array.described}: job {jobs[0].partition('_')[0]}")

    def leave(self) -> None:
        """Give up sending: what the cluster has goes on, and where it has nothing, nothing is left behind."""
        if self.may_be_sent:
            if self.backend.detached:
                self.say(f"what was sent goes on\n{hints(self.sweep, self.outputs)}")
            return
        for run in self.manifest.runs:
            if not run["skipped"] and not run.get("adopted"):
                folder = run_folder(self.outputs, run["run_key"], run["attempt"])
                shutil.rmtree(folder)
                with contextlib.suppress(OSError):  # other attempts are in there
                    folder.parent.rmdir()
        shutil.rmtree(self.folder)

    def finish(self) -> list[int]:
        """Follow the runs, or say how to; an exit status per configuration."""
        publisher = SweepPublisher(self.tracking, self.manifest, self.folder)
        if self.conf.wait:
            patience = Patience(poll_s=self.conf.poll_s)
            statuses = follow(self.manifest, self.outputs, self.backend, publisher, self.console, patience)
        else:
            if self.tracking.publish == "worker":  # its jobs find the parent run that is noted now
                publisher.open()
                for line in publisher.close(over=False):
                    self.say(line)
            self.say(hints(self.sweep, self.outputs))
            statuses = [int(index in self.refused) for index in range(len(self.manifest.runs))]
        return [statuses[index] for index in self.asked]

    def _prepare(self, cfg: RootConf, key: str) -> None:
        """A new attempt: its folder, with what the node reads."""
        attempt = next_attempt(self.outputs, key)
        folder = run_folder(self.outputs, key, attempt)
        index = len(self.manifest.runs)
        self.manifest.add(key, attempt, skipped=False)
        self.axes[index] = axes_of(cfg)
        write_config(travelling(cfg, self.outputs, self.snapshot), folder)
        Identity(
            key,
            attempt,
            self.sweep,
            self.axes[index],
            outputs=str(self.outputs),
            cwd=str(Path.cwd()),
            snapshot=str(self.snapshot.folder),
            versions=self.versions,
            max_requeues=self.conf.max_requeues,
            max_num_timeout=self.conf.max_num_timeout,
        ).write(folder)
        self.grouping.add(index, cfg.gpu.slurm, total_timeout_s(cfg))

    def _submit(self, array: JobArray) -> list[str]:
        folders = self.manifest.folders(self.outputs)
        jobs = [RunJob(tuple(folders[index] for index in each), self.execute) for each in array.jobs()]
        request = replace(array.request, extra=array.request.extra | {"chdir": str(self.snapshot.folder)})
        return self.backend.submit(array.name, request, jobs, self.folder / self.backend.name)

    def _refuse(self, array: JobArray, reason: str) -> None:
        """Records for the runs of an array that the cluster does not take, after it took others."""
        self.say(f"error: {array.described}: {reason}")
        found = environment()
        for index in array.runs:
            run = self.manifest.runs[index]
            record = Record(run["run_key"], run["attempt"], self.sweep, self.axes[index], Outcome.FAILED)
            record.reason, record.environment = f"the cluster refused it: {reason}", found
            record.remedy = "correct gpu.slurm or hydra.launcher; the same command sends what has no result"
            record.write(run_folder(self.outputs, record.run_key, record.attempt))
            self.refused.add(index)

    def _announce(self) -> None:
        kinds = Counter(
            "measured before" if run["skipped"] else "under way already" if run.get("adopted") else "to send"
            for run in self.manifest.runs
        )
        counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        self.say(
            f"sweep {self.sweep}: {runs_in_words(len(self.manifest.runs))}: {counts}; records in {self.outputs}"
        )
