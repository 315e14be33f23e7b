"""A training recipe for the task `train`: what it makes of the model's layers, and what steps their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn
from torch.optim import Optimizer

from src.context import RunContext
from src.outcomes import RunEndedError
from src.records.record import EMULATED, write_json
from src.tasks.conclusions.conclusion import set_aside_emulated
from src.training.digits import Pictures
from src.training.objectives import Objective
from src.treatments.layers import capture_layers, unmatched
from src.treatments.scheme import make_scheme
from src.workloads.workload import Workload


@dataclass
class _Trained(Workload):
    """A model that is called as its training calls it."""

    lose: Callable[[nn.Module], Any] = nn.Module.eval  # the loss of one batch of a model

    def call(self) -> Any:
        """One batch."""
        return self.lose(self.module)


def convert(model: nn.Module, objective: Objective, pictures: Pictures, run: RunContext) -> None:
    """Let the recipe of a run change a model's layers, in place; ``layers.json`` says of each what became of it.

    Raises:
        RunEndedError: `unsupported`, the device lacks what the recipe needs, or it takes no layer.
    """
    if not run.cfg.quant.trains:
        return
    scheme = make_scheme(run.cfg.quant)
    try:
        scheme.check(run.device, run.cfg.model.training.precision)
    except RunEndedError as error:
        error.remedy = error.remedy.replace(
            "dtype=", "model.training.precision="
        )  # which is what counts here
        raise
    count = run.cfg.model.training.batch
    first = torch.arange(count, device=pictures.labels.device) % len(pictures)
    batch = Pictures(pictures.images[first], pictures.labels[first])
    workload = _Trained(model, (), {}, lose=lambda module: objective.loss(module, batch, torch.Generator()))
    rows, _ = capture_layers(workload, keep=False)
    try:
        with run.phase("convert"):
            scheme.apply(workload, rows, run)
    finally:
        write_json(run.folder / "layers.json", [row.as_dict() for row in rows])
    run.record.metrics["quantize/layers"] = float(sum(bool(row.scheme) for row in rows))
    run.record.details["warnings"] = unmatched(run.cfg.quant.layers, rows)


def optimizer_of(run: RunContext) -> Callable[..., Optimizer]:
    """What steps the weights: the recipe's optimizer, if it has one; takes what AdamW takes."""
    own = run.cfg.quant.optimizer
    made: Callable[..., Optimizer] = (
        instantiate(own, _partial_=True, _convert_="all") if own else torch.optim.AdamW
    )
    return made


def mark_emulated(run: RunContext) -> None:
    """Say of a training whose recipe was emulated that nothing is known of its speed."""
    if emulated := run.record.details.get("emulated"):
        run.record.verdict, run.record.remedy = EMULATED, emulated["remedy"]
        run.record.reason += (
            f"; emulated by {emulated['how']}, so its speed says nothing: {emulated['reason']}"
        )
        set_aside_emulated(run.record)
