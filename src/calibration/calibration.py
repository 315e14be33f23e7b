"""A calibration from its processes to its files: measure, sum up, write, publish, say."""

import json
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from src.calibration.experiments.measuring import REPEATED, as_run, measure_batch
from src.calibration.experiments.plan import Spec, experiment, plan
from src.calibration.progress import CalibrationProgress
from src.calibration.record import EXPERIMENTS_NAME, Calibration, read_experiments
from src.calibration.report import write_files
from src.calibration.summary import Status, summarize
from src.calibration.terminal import show
from src.calibration.tracking import publish
from src.config.console import Terminal
from src.config.errors import ConfigError
from src.config.schema.root import AUTO, CalibrateConf
from src.local.devices import Devices
from src.local.server import preloaded, prepared
from src.processes.isolated import EndedBy, Ending, Preloaded
from src.records.mlflow.connection import TrackingError, connect

_PRELOAD = ("torch", "src.calibration.experiments.measuring")
_OVERHEAD_S = 10.0  # of an experiment, beside its warm-up and budget


def calibrate(conf: CalibrateConf, console: Console | None = None) -> int:
    """Measure, write the files, publish, and print the summary.

    Returns:
        0 when all requirements are met, else 1.

    Raises:
        ConfigError: the outputs folder cannot be written, or the device is not here.
        KeyboardInterrupt: Ctrl-C; what was measured is on disk, summed up, and not published.
    """
    console = console or Terminal(highlight=False, width=None if sys.stdout.isatty() else 100)
    outputs = prepared(Path(conf.outputs))
    driver = Driver(conf, outputs)
    try:
        driver.measure()
    except KeyboardInterrupt:
        done = driver.finish(interrupted=True)
        console.print(f"stopped; what was measured is kept in {driver.folder}", markup=False, soft_wrap=True)
        show(console, done)
        raise
    done = driver.finish(interrupted=False)
    show(console, done)
    _publish(driver.folder, conf, console)
    console.print(f"report: {driver.folder / 'report.html'}", markup=False, soft_wrap=True)
    return 0 if done.summary.status is Status.MET else 1


class Driver:
    """The state of one calibration: its folder, what was measured so far, what went wrong."""

    def __init__(self, conf: CalibrateConf, outputs: Path) -> None:
        self.conf, self.started_at = conf, datetime.now(UTC)
        self.server = Preloaded(preloaded([conf], _PRELOAD))
        self._settle(outputs)
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.folder = outputs / "calibration" / slug(self.device["name"]) / name
        self.folder.mkdir(parents=True)
        text = yaml.safe_dump(asdict(self.conf), sort_keys=False)
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        self.heard = 0
        self.answers: list[dict[str, Any]] = []
        self.trouble: list[str] = []

    def measure(self) -> None:
        """All experiments, one process after another; one that dies costs its own experiments only."""
        conf = self.conf
        batches = plan(conf.experiments, conf.slowdowns, conf.processes, conf.seed)
        total = sum(map(len, batches))
        with CalibrationProgress(total, len(batches)) as progress:
            progress.say(
                f"calibrating {self.device['name']}: {total} experiments, processes: {len(batches)}, "
                f"measure={conf.measure.name}, into {self.folder}"
            )
            for number, batch in enumerate(batches, start=1):
                trouble = self._run(number, batch, progress)
                self.trouble += [f"process {number}: {trouble}"] if trouble else []
                progress.end_process(number, trouble)
                if trouble and not self.heard:
                    break  # what ends the first process at once ends all

    def finish(self, *, interrupted: bool) -> Calibration:
        """Sum up what is on disk, and write the files."""
        experiments = read_experiments(self.folder / EXPERIMENTS_NAME)
        timers = [answer["timer"] for answer in self.answers]
        done = Calibration(
            device=self.device,
            environment=self.answers[0]["environment"] if self.answers else {},
            config=asdict(self.conf),
            summary=summarize(experiments, self.conf.measure, timers, self.trouble),
            started_at=self.started_at.isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            interrupted=interrupted,
        )
        write_files(done, experiments, self.folder)
        return done

    def _run(self, number: int, batch: Sequence[Spec], progress: CalibrationProgress) -> str:
        """One process; returns what ended it early, or nothing."""
        measure = self.conf.measure
        each_s = measure.budget_s + measure.max_warmup_s + _OVERHEAD_S

        def hear(text: str) -> None:
            found = experiment(json.loads(text))
            self.heard += 1
            progress.add(found)

        ending = self.server.run(
            measure_batch,
            (self.conf, number, list(batch), self.folder / EXPERIMENTS_NAME),
            log=self.folder / "processes.log",
            timeout_s=measure.timeout_s + (1 + REPEATED) * (1 + len(batch)) * each_s,
            hear=hear,
        )
        if ending.by is EndedBy.ITSELF and "trouble" not in ending.answer:
            self.answers.append(ending.answer)
            return ""
        return _why(ending, self.folder)

    def _settle(self, outputs: Path) -> None:
        """What the device is, and what dtype=auto stands for, for all processes alike: asked of children.

        Raises:
            ConfigError: the device is not here or cannot be opened, or no dtype can be told.
        """
        devices = Devices(self.server, outputs / "calibration")
        devices.folder.mkdir(exist_ok=True)
        self.device = devices.described(self.conf.gpu)
        if "absent" in self.device:
            raise ConfigError(self.device["absent"])
        quick = replace(self.conf, measure=replace(self.conf.measure, ceilings=False))  # not needed otherwise
        dtype = devices.with_dtype(as_run(quick), self.device).dtype
        if dtype == AUTO:
            raise ConfigError(
                f"dtype=auto cannot be told; {devices.folder}/dtype.log says why; give another dtype"
            )
        self.conf = replace(self.conf, dtype=dtype)


def slug(name: str) -> str:
    """A device's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _why(ending: Ending, folder: Path) -> str:
    if ending.by is EndedBy.ITSELF:
        return str(ending.answer["trouble"])
    if ending.by is EndedBy.TIMEOUT:
        return "not done in time; a larger measure.timeout_s"
    return f"{ending.reason}; {folder / 'processes.log'} has its last words"


def _publish(folder: Path, conf: CalibrateConf, console: Console) -> None:
    """To MLflow; a tracker that is down costs a message, and `src.collect` does it later."""
    if not conf.tracking.enabled:
        return
    try:
        publish(folder, connect(conf.tracking))
    except TrackingError as error:
        console.print(f"warning: {error}", markup=False, soft_wrap=True)
