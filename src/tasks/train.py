"""The task `train`: a model by the recipe in its file, from the seed or from where a killed run left it."""

import copy
import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_method, instantiate

from src.compilation.scopes import compile_module, compiler_options
from src.config.durations import duration
from src.config.schema.arms import compiled_as
from src.context import RunContext
from src.outcomes import RunEndedError
from src.quality.media import write_png
from src.quality.pictures import sheet
from src.records.mlflow.points import LOSSES_NAME
from src.records.record import Outcome, write_json
from src.tasks.converted import convert, mark_emulated, optimizer_of
from src.tasks.samples import drawn
from src.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from src.training.digits import Pictures
from src.training.objectives import Objective
from src.training.recipe import recipe_of, work_of
from src.training.step import Trainee, step, trainee
from src.workloads.model import initial_model

WEIGHTS_FOLDER = "weights"  # in the run's folder
_REPORT_S = 15.0  # between two lines of progress
_OF_LATE = 25  # steps that a loss in a line is the mean of


def train_model(run: RunContext) -> None:
    """Train, and write the weights' average, the losses and sheets of samples into the run's folder.

    Raises:
        ConfigError: the checkpoint is of another training.
        RunEndedError: `unsupported`, the recipe cannot be had here; `bad_numerics`, the loss is no number; `failed`,
            something cannot be written.
    """
    training = Training(run)
    training.go_on()
    compile_module(training.trainee.model, compiled_as(run.cfg))
    try:
        with run.phase("train"), compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
            while training.trainee.done < run.cfg.model.training.steps:
                training.step()
    finally:
        training.keep_losses()
    training.finish()


class Training:
    """A training and what belongs to it on disk: the checkpoint, and the sheets drawn so far beside it."""

    def __init__(self, run: RunContext) -> None:
        self.run, self.conf = run, run.cfg.model.training
        self.folder = Path(self.conf.checkpoint or run.folder.parent / "checkpoint")
        self.objective: Objective = instantiate(self.conf.objective)
        device = run.device.torch
        with run.phase("build"):
            given, held_out = get_method(self.conf.data)()
            self.pictures: Pictures = given.to(device)
            self.held_out: Pictures = held_out.to(device)
            model = initial_model(run.cfg.model, run.cfg.seed, self.conf.zero).to(device)
        made = partial(convert, objective=self.objective, pictures=self.pictures, run=run)
        self.trainee: Trainee = trainee(model, self.conf, made, optimizer_of(run))
        self.recipe = recipe_of(run.cfg)
        self._marks, self._told = [(0, time.monotonic())], 0.0  # steps done and when; at most two of them

    def go_on(self) -> None:
        """From the checkpoint, where there is one."""
        with self.run.phase("load checkpoint"):
            if load_checkpoint(self.trainee, self.recipe, self.folder):
                self.run.record.details["resumed_at_step"] = self.trainee.done
        self._marks = [(self.trainee.done, time.monotonic())]

    def step(self) -> None:
        """The next step, and what is due after it."""
        loss = step(self.trainee, self.objective, self.pictures, self.conf, self.run.cfg.seed)
        done = self.trainee.done
        if not math.isfinite(loss):
            raise RunEndedError(
                Outcome.BAD_NUMERICS,
                f"the loss of step {done} is {loss}",
                "a smaller model.training.learning_rate, or model.training.precision=float32",
            )
        if self.conf.samples_every and done % self.conf.samples_every == 0:
            self._on_disk("sheet of samples", self._draw)
        if done % self.conf.save_every == 0:
            self._on_disk("checkpoint", lambda: save_checkpoint(self.trainee, self.recipe, self.folder))
        if len(self._marks) == 1:
            self._marks.append((done, time.monotonic()))
        self._tell()

    def keep_losses(self) -> None:
        """Write the losses of all steps, those before the checkpoint among them, as far as they are numbers."""
        losses = [loss for loss in self.trainee.losses if math.isfinite(loss)]
        self._on_disk("losses", lambda: write_json(self.run.folder / LOSSES_NAME, {"loss": losses}))

    def finish(self) -> None:
        """Write what was trained; then the checkpoint is of no more use."""
        record, folder, average = self.run.record, self.run.folder, self.trainee.average
        own = self.trainee.done - self._marks[0][0]
        record.details["trained"] = {"steps": own, "step": work_of(self.run.cfg)}
        if own:  # else the checkpoint was of the last step
            record.metrics["training/step_ms"] = self._step_s() * 1e3
        with self.run.phase("judge"):
            found = self.objective.judged(average, self.held_out)
        record.metrics |= {f"training/{name}": value for name, value in found.items()}
        self._on_disk("sheet of samples", self._draw)
        self._on_disk("weights", lambda: self._write_weights(folder / WEIGHTS_FOLDER))
        if self.conf.weights is not None:
            self._on_disk("weights", lambda: self._write_weights(Path(str(self.conf.weights))))
        self._on_disk("sheets of samples", self._take_sheets)
        remove_checkpoint(self.folder)
        late = self.trainee.losses[-_OF_LATE:]
        record.metrics |= {
            "training/steps": float(self.trainee.done),
            "training/loss": sum(late) / len(late),
        }
        words = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items())
        record.reason = f"{self.trainee.done} steps: {words}; weights in {folder / WEIGHTS_FOLDER}"
        record.outcome = Outcome.OK
        mark_emulated(self.run)

    def _write_weights(self, folder: Path) -> None:
        """As diffusers' from_pretrained reads them."""
        stored: Any = copy.deepcopy(self.trainee.average).to(getattr(torch, self.conf.stored))
        stored.save_pretrained(folder)

    def _draw(self) -> None:
        if self.run.cfg.model.pipeline.samples:
            images = drawn(self.trainee.average, self.run)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_png(sheet(images), self.folder / f"samples_{self.trainee.done:06d}.png")

    def _take_sheets(self) -> None:
        """From beside the checkpoint, maybe on another disk, into the run's folder."""
        for path in sorted(self.folder.glob("samples_*.png")):
            shutil.move(path, self.run.folder / path.name)

    def _on_disk(self, what: str, write: Callable[[], None]) -> None:
        """Write something.

        Raises:
            RunEndedError: `failed`, it could not be written.
        """
        try:
            write()
        except OSError as error:
            raise RunEndedError(
                Outcome.FAILED,
                f"the {what} of step {self.trainee.done} cannot be written: {error.strerror or error}",
                f"room on that disk, then the same command: it goes on from the checkpoint in {self.folder}",
            ) from error

    def _tell(self) -> None:
        """Now and then where it is and how long it has to go."""
        now, done, steps = time.monotonic(), self.trainee.done, self.conf.steps
        if now - self._told < _REPORT_S and done < steps:
            return
        self._told, late = now, self.trainee.losses[-_OF_LATE:]
        left = duration(self._step_s() * (steps - done))
        told = (
            f", about {left} left" if done > self._marks[0][0] + 1 else ""
        )  # the first step may have compiled
        self.run.report(f"step {done} of {steps}, loss {sum(late) / len(late):.3f}{told}")

    def _step_s(self) -> float:
        """Wall seconds of a step of this process, with what was due after it.

        Without the first one, which compiles, where another follows.
        """
        first, moment = next(mark for mark in reversed(self._marks) if mark[0] < self.trainee.done)
        return (time.monotonic() - moment) / (self.trainee.done - first)
