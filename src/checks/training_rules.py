"""What trainings need to be told: from scratch (`task=train`), and of steps by a recipe and without it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.checks.signatures import mistakes
from src.config.schema.arms import is_usual, recipe_text
from src.config.schema.model import PIPELINE
from src.config.schema.quant import QuantConf
from src.config.schema.root import RootConf
from src.config.schema.steps import NO_OPTIMIZER, USUAL_OPTIMIZER, StepsConf


def training_mistakes(root: RootConf) -> Iterator[str]:
    """One line for each mistake."""
    yield from _training(root)
    yield from _steps(root)


def _training(root: RootConf) -> Iterator[str]:
    """What `task=train` needs to be told."""
    conf, name = root.model.training, root.model.name
    if not root.task.trains:
        return
    if not conf.objective:
        wanted = "model.training.objective={_target_: ...}"
        yield f"task={root.task.name}: {name} has no recipe; give model=digits, or {wanted}"
        return
    yield from mistakes(conf.objective, "model.training.objective")
    yield from mistakes({"_target_": conf.data}, "model.training.data")
    if (root.quant.config or root.quant.candidates) and not root.quant.trains:
        wanted = "give quant=none, or a recipe: quant=training/float8_rowwise"
        yield f"quant={root.quant.name}: task={root.task.name} trains the model as it is, or by a recipe; {wanted}"
    if replace(root.training, emulate=False) != StepsConf():
        yield f"training: of task=training, but for training.emulate; task={root.task.name} takes model.training"
    if conf.checkpoint is not None and Path(conf.checkpoint).is_file():
        yield f"model.training.checkpoint={conf.checkpoint}: a file; give the folder that it is in"


def _steps(root: RootConf) -> Iterator[str]:
    """What `task=training` can compare, and what only it can."""
    quant, name = root.quant, root.task.name
    if not root.task.steps:
        if quant.trains and not root.task.trains:
            yield f"quant={quant.name}: a training recipe; give task=training, or a scheme for inference"
        return
    if root.target == PIPELINE:
        yield f"target={PIPELINE}: task={name} trains a denoiser or a part of it; give target=denoiser, or block"
    if (quant.where, quant.via) != ("device", "direct"):
        yield f"quant.where={quant.where}, quant.via={quant.via}: task={name} takes device and direct alone"
    if root.measure.pairing == "in_turn":
        yield f"measure.pairing=in_turn: task={name} holds both arms at once; give measure.pairing=auto"
    if root.compile.package:
        yield f"compile={root.compile.name}: makes packages, which do not train; give compile=regional"
    if not is_usual(root):
        yield f"treatment=[{','.join(root.treatment)}]: task={name} compares quant alone; give treatment=[quant]"
    if doing := recipe_text(root.recipe):
        yield f"recipe: task={name} takes models as they are, not with {doing}; give recipe=plain"
    yield from _optimizers(root.training.optimizer, quant)


def _optimizers(given: dict[str, Any], quant: QuantConf) -> Iterator[str]:
    """Of steps by a recipe and without it: what `training.optimizer` can be."""
    yield from mistakes(given, "training.optimizer", later=True)
    if "_target_" not in given:
        yield f"training.optimizer: no _target_; give training.optimizer={{_target_: {USUAL_OPTIMIZER}}}"
    elif given["_target_"] == NO_OPTIMIZER and quant.optimizer:
        yield (
            f"training.optimizer._target_={NO_OPTIMIZER}: quant={quant.name} brings its own optimizer, so only the "
            f"baseline would be without; give training.optimizer._target_={USUAL_OPTIMIZER}, or a recipe without one"
        )
