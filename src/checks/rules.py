"""What a single field of the configuration cannot say: rules between keys, by the dataclass they concern."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from src.autoquant.plan import read_plan
from src.checks.model_rules import model_mistakes
from src.checks.prompt_rules import prompt_mistakes
from src.checks.recipe_rules import calibration_mistakes, package_mistakes, recipe_mistakes
from src.checks.scheme_rules import scheme_mistakes
from src.checks.signatures import mistakes
from src.checks.training_rules import training_mistakes
from src.config.durations import seconds
from src.config.errors import ConfigError, accepted
from src.config.schema.cluster import ClusterConf, SlurmRequest, problems_of_extra, problems_of_runs_per_job
from src.config.schema.measure import MeasureConf
from src.config.schema.model import PIPELINE, WeightsConf
from src.config.schema.quant import LayersConf, QuantConf, SensitiveConf
from src.config.schema.root import (
    MODEL,
    AnalyzeConf,
    CalibrateConf,
    CollectConf,
    CompareConf,
    GpuConf,
    LaunchConf,
    RootConf,
    SerializeConf,
    TaskConf,
    TrackingConf,
    sizes_of_call,
)
from src.config.tracking_uri import problem_of_uri, without_password


def _known_target(root: RootConf | CalibrateConf, _: str) -> Iterator[str]:
    targets = root.model.target_names()
    if not targets:
        yield 'model.targets: a value is missing; give {denoiser: ""}, and parts by their paths: {block: blocks.0}'
    elif root.target not in targets:
        yield f"target={root.target}: model {root.model.name} has no such target; {accepted(root.target, targets)}"


def _root(root: RootConf, path: str) -> Iterator[str]:
    """What only the whole configuration can tell; the readers' own messages name key and value."""
    yield from _folder(root.outputs)
    yield from _known_target(root, path)
    yield from _components(root)
    if root.compile.scope == "none" and root.compile.tuning != "none":
        yield f"compile.tuning={root.compile.tuning}: compile={root.compile.name} compiles nothing"
    yield from package_mistakes(root)
    yield from _checkpoint(root.serialize)
    yield from training_mistakes(root)
    yield from recipe_mistakes(root)
    yield from [*prompt_mistakes(root)] or _model(root)
    try:
        if root.quant.plan is not None:
            read_plan(Path(root.quant.plan))
    except ConfigError as error:
        yield str(error)


def _folder(outputs: str) -> Iterator[str]:
    if not outputs.strip():
        yield "outputs=: no name; give a folder, or leave it out for ./outputs"
    if outputs.startswith("~"):
        yield f"outputs={outputs}: ~ is your home on a command line alone; give the whole path"


def _model(root: RootConf | CalibrateConf) -> Iterator[str]:
    model, usual = root.model.name, root.model.frames
    if root.frames and not usual:
        yield f"frames={root.frames}: {model} makes no videos; a model that does says so by model.frames"
    elif usual and not root.frames:
        yield f"frames=0: {model} makes videos; give frames={usual}, or another number"
    else:
        yield from model_mistakes(root.model, sizes_of_call(root), root.target)


def _checkpoint(conf: SerializeConf) -> Iterator[str]:
    if conf.load is not None and not Path(conf.load, "config.json").is_file():
        yield (
            f"serialize.load={conf.load}: no checkpoint, for there is no config.json in it; "
            "serialize.keep=true keeps one in outputs/runs/KEY/ATTEMPT/checkpoint"
        )


def _components(root: RootConf) -> Iterator[str]:
    quant, known = root.quant, root.model.component_names(root.target)
    pipeline, tokens = root.model.pipeline, "model.pipeline.prompt=tokens"
    for name in quant.components:
        if name not in known:
            unused = name in pipeline.text_encoders and root.target == PIPELINE
            yield (
                f"quant.components: target={root.target} of {root.model.name} has no component {name}; "
                f"{accepted(name, known)}{f'; with {tokens} also {name}' * unused}"
            )
    if not quant.components:
        yield f"quant.components=[]: nothing to quantize; {accepted('', known)}; or quant=none"


def _calibration(conf: CalibrateConf, path: str) -> Iterator[str]:
    yield from _folder(conf.outputs)
    yield from _known_target(conf, path)
    for value in conf.slowdowns:
        if not 0 < value <= 1:
            yield f"slowdowns={value}: must be above 0 and at most 1: 0.03 is a delay of 3 % of a call"
    if len({*conf.slowdowns}) < len(conf.slowdowns):
        yield f"slowdowns={conf.slowdowns}: each of them once"
    yield from calibration_mistakes(conf)
    yield from _model(conf)


def _launching(conf: LaunchConf, path: str) -> Iterator[str]:
    try:
        if conf.budget is not None:
            seconds(conf.budget, f"{path}budget")
    except ConfigError as error:
        yield str(error)


def _collecting(conf: CollectConf, path: str) -> Iterator[str]:
    yield from _folder(conf.outputs)
    for name in ("watch", "cancel", "lost"):
        if getattr(conf, name) and conf.sweep is None:
            yield f"{name}=true: of which sweep? give sweep=ID; the folders in {conf.outputs}/sweeps are the ids"
    if conf.watch and conf.cancel:
        yield "cancel=true: not with watch=true; cancelling waits until the jobs are over"
    if conf.lost and (conf.watch or conf.cancel):
        yield "lost=true: not with watch=true or cancel=true; it is for a sweep that nobody can be asked about"


def _comparing(conf: CompareConf, path: str) -> Iterator[str]:
    yield from _folder(conf.outputs)
    for name in ("before", "after"):
        if not getattr(conf, name):
            yield f"{name}=: with what? give {name}=SWEEP, an id in {conf.outputs}/sweeps, or {name}=FOLDER"


def _analyzing(conf: AnalyzeConf, path: str) -> Iterator[str]:
    yield from _folder(conf.outputs)
    if conf.predict is not None and conf.predict != MODEL and not Path(conf.predict).is_file():
        yield f"predict={conf.predict}: no such file; give a CSV file with the columns M, K, N, quant, or {MODEL}"
    if conf.device is not None and conf.predict in (None, MODEL):
        instead = "predict=model takes gpu=NAME" if conf.predict else "an analysis shows all devices"
        yield f"device={conf.device}: is for predict=FILE.csv, the shapes to predict; {instead}"


def _ordered_pairs(measure: MeasureConf, path: str) -> Iterator[str]:
    if measure.min_pairs > measure.max_pairs:
        yield f"{path}min_pairs={measure.min_pairs}: must be at most {path}max_pairs={measure.max_pairs}"


def _weights_have_a_place(weights: WeightsConf, path: str) -> Iterator[str]:
    if weights.source != "random" and not weights.id:
        yield f"{path}source={weights.source}: give {path}id=..., a folder or a repository"


def _layer_rules(layers: LayersConf, path: str) -> Iterator[str]:
    yield from _patterns(f"{path}include", *layers.include)
    yield from _patterns(f"{path}exclude", *layers.exclude)
    if layers.max_m is not None and layers.min_m > layers.max_m:
        yield f"{path}min_m={layers.min_m}: must be at most {path}max_m={layers.max_m}"
    sensitive, key = layers.sensitive, f"{path}sensitive."
    if sensitive._target_:
        yield from mistakes({"_target_": sensitive._target_}, key.removesuffix("."), later=True)
    elif sensitive != SensitiveConf():
        yield f"{key}min_sqnr_db={sensitive.min_sqnr_db:g}: nothing is chosen by it; give layers=sensitive beside it"


def _device(gpu: GpuConf, path: str) -> Iterator[str]:
    yield from _patterns(f"{path}match", gpu.match)
    yield from mistakes({"_target_": gpu._target_}, path.removesuffix("."), later=True)


def _task(task: TaskConf, path: str) -> Iterator[str]:
    yield from mistakes({"_target_": task._target_}, path.removesuffix("."), later=True)


def _patterns(key: str, *patterns: str) -> Iterator[str]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"{key}={pattern}: not a regular expression: {error}"


def _tracker(tracking: TrackingConf, path: str) -> Iterator[str]:
    problem = problem_of_uri(tracking.uri) if tracking.enabled else ""
    if problem:
        yield f"{path}uri={without_password(tracking.uri)}: {problem}"


# By the dataclass that a rule concerns, wherever that stands in the configuration.
RULES: dict[type, Callable[[Any, str], Iterator[str]]] = {
    RootConf: _root,
    CalibrateConf: _calibration,
    LaunchConf: _launching,
    CollectConf: _collecting,
    AnalyzeConf: _analyzing,
    CompareConf: _comparing,
    MeasureConf: _ordered_pairs,
    QuantConf: scheme_mistakes,
    WeightsConf: _weights_have_a_place,
    LayersConf: _layer_rules,
    GpuConf: _device,
    TaskConf: _task,
    SlurmRequest: problems_of_extra,
    ClusterConf: problems_of_runs_per_job,
    TrackingConf: _tracker,
}
