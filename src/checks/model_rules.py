"""What is wrong with a model before it is built: factory, weights, what it is fed; likewise its pipeline's parts."""

from collections.abc import Iterator, Mapping
from typing import Any

from src.checks.input_types import leaves
from src.checks.signatures import Signature, foreign, lacking, lacks_method, method, mistakes, signature
from src.config.errors import ConfigError, accepted
from src.config.schema.model import (
    PIPELINE,
    ComponentConf,
    InputConf,
    ModelConf,
    PipelineConf,
    TextEncoderConf,
    WeightsConf,
)
from src.workloads.dims import count_of, resolve, resolved, shape_of
from src.workloads.weights.places import problems_of_pipeline, problems_of_weights

# Whole numbers that a tensor's dtype can hold, from the least to the greatest.
_RANGES = {
    "uint8": (0, 2**8 - 1), "int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1),
}  # fmt: skip
# Configurations whose text encoders look positions up in a table, and how many it holds where nothing else is given.
_POSITIONS = {"CLIPTextConfig": 77}
_LOADERS = ("from_pretrained", "from_single_file")
_WANTED = "give the dotted path of a class or a function, as diffusers.FluxTransformer2DModel"


def model_mistakes(model: ModelConf, axes: Mapping[str, int], target: str) -> Iterator[str]:
    """One line for each mistake in what a run would build of a model.

    Args:
        model: typed.
        axes: batch, resolution and frames of one call of the model.
        target: what of the model is measured; only with `pipeline` are the parts of its pipeline built.
    """
    if whole := [*problems_of_pipeline(model.pipeline, "model.pipeline")]:
        yield from whole  # and no line for each of its parts
        return
    yield from _component(model, "model")
    yield from _call_mistakes(model, f"{model.factory.get('_target_')}", "forward", "model")
    try:
        dims = resolve(model.dims, axes, "model.dims")
    except ConfigError as error:
        yield str(error)
        return
    yield from _feeding(model, dims, "model")
    if target == PIPELINE and model.pipeline._target_:
        yield from _pipeline(model.pipeline, dims, "model.pipeline")


def _component(conf: ModelConf | ComponentConf, where: str) -> Iterator[str]:
    """The factory of a model and where its weights come from."""
    if "_target_" not in conf.factory:
        yield f"{where}.factory._target_: a value is missing; {_WANTED}"
        return
    target = str(conf.factory["_target_"])
    if target.rpartition(".")[2] in _LOADERS:
        loads = f"give the class, and by {where}.weights its weights: {where}.weights.source=local, id=FOLDER"
        yield f"{where}.factory._target_={target}: loads weights, which would be random all the same; {loads}"
        return
    found = list(mistakes(conf.factory, f"{where}.factory", later=conf.weights.source != "random"))
    yield from found
    if not found:
        yield from _loadable(conf.weights, target, f"{where}.weights")
    published = (
        target.rpartition(".")[2] if target.startswith("diffusers.") else ""
    )  # an own class may extend one
    yield from problems_of_weights(conf.weights, f"{where}.weights", published)


def _loadable(weights: WeightsConf, target: str, where: str) -> Iterator[str]:
    if weights.source != "random" and lacks_method(target, "from_pretrained"):
        yield f"{where}.source={weights.source}: {target} has no from_pretrained; accepted: random"


def _pipeline(conf: PipelineConf, dims: Mapping[str, int], where: str) -> Iterator[str]:
    places = dict.fromkeys(conf.parts, "parts.") | dict.fromkeys(conf.encoders(), "text_encoders.")
    for name, part in conf.further().items():
        yield from _component(part, f"{where}.{places.get(name, '')}{name}")
    if "_target_" not in conf.scheduler:
        yield f"{where}.scheduler._target_: a value is missing; give the dotted path of a scheduler's class"
    yield from mistakes(conf.scheduler, f"{where}.scheduler")
    yield from mistakes({"_target_": conf._target_}, where, later=True)
    tokenizers = [each.tokenizer for each in conf.encoders().values()]
    names = [conf.denoiser, *conf.further(), "scheduler", *tokenizers, *conf.arguments]
    known = _known(conf._target_)
    for name in names if known else ():
        if known and name not in known.names:
            yield f"{where}: {conf._target_} has no component {name}; {accepted(name, known.names)}"
    yield from _call_mistakes(conf, conf._target_, "__call__", where)
    yield from _feeding(conf, dims, where)
    for name, encoder in conf.encoders().items() if not conf.prompts else ():
        yield from _positions(encoder, dims, f"{where}.text_encoders.{name}")
    try:
        shape_of(conf.latents, dims, f"{where}.latents")
    except ConfigError as error:
        yield str(error)


def _positions(encoder: TextEncoderConf, dims: Mapping[str, int], where: str) -> Iterator[str]:
    """More token ids than an encoder has positions for."""
    config = encoder.factory.get("config")
    named = str(config.get("_target_", "")).rpartition(".")[2] if isinstance(config, Mapping) else ""
    if not isinstance(config, Mapping) or named not in _POSITIONS:
        return
    most = config.get("max_position_embeddings", _POSITIONS[named])
    if isinstance(most, int) and encoder.tokens > most:
        dim = next((each for each, size in dims.items() if "tokens" in each and size == encoder.tokens), "")
        given = f"{where}.tokens={encoder.tokens}{f' (as model.dims.{dim})' if dim else ''}"
        table = f"the encoder's table holds {most} positions ({where}.factory.config.max_position_embeddings)"
        yield f"{given}: {table}; accepted: 1 to {most}"


def _known(target: str) -> Signature | None:
    try:
        return signature(target)
    except LookupError:
        return None


def _call_mistakes(conf: ModelConf | PipelineConf, target: str, name: str, where: str) -> Iterator[str]:
    """Inputs that the model does not take, and those that it cannot do without."""
    try:
        known = method(target, name)
    except LookupError:  # its factory's mistake, told as such
        return
    if known is None:
        return
    yield from foreign([*conf.inputs], known, f"{where}.inputs", f"{target}.{name}")
    yield from foreign([*conf.call], known, f"{where}.call", f"{target}.{name}")
    if isinstance(conf, ModelConf):  # what else a pipeline is called with, its steps say
        yield from lacking([*conf.inputs, *conf.call], known, f"{where}.inputs", f"{target}.{name}")


def _feeding(conf: ModelConf | PipelineConf, dims: Mapping[str, int], where: str) -> Iterator[str]:
    """Shapes and arguments whose expressions cannot be resolved, and what is no tensor."""
    for key, tensor in leaves(conf.inputs, f"{where}.inputs"):
        yield from _tensor(tensor, dims, key)
    calls = {"call": conf.call}
    if isinstance(conf, PipelineConf):
        calls["call_with_tokens"] = conf.call_with_tokens
    for name, arguments in calls.items():
        for argument, value in arguments.items():
            try:
                resolved(value, dims, f"{where}.{name}.{argument}")
            except ConfigError as error:
                yield str(error)


def _tensor(tensor: Any, dims: Mapping[str, int], key: str) -> Iterator[str]:
    if not isinstance(tensor, InputConf):
        yield f"{key}={tensor}: not a tensor, whose shape is given: {{shape: [batch, 64]}}; what is none goes to call"
        return
    try:
        shape_of(tensor.shape, dims, f"{key}.shape")
        if tensor.count is not None:
            count_of(tensor.count, dims, f"{key}.count")
        signature(tensor.init)
    except ConfigError as error:
        yield str(error)
    except LookupError as error:
        yield f"{key}.init={tensor.init}: {error.args[0]}"
    if tensor.dtype in _RANGES:
        yield from _whole_numbers(tensor, *_RANGES[tensor.dtype], key)


def _whole_numbers(tensor: InputConf, least: int, most: int, key: str) -> Iterator[str]:
    if tensor.fill is None and tensor.init == InputConf.init:
        yield f"{key}.dtype={tensor.dtype}: normal values are no indices and no steps; give {key}.fill or {key}.init"
    elif tensor.fill is not None and not (least <= tensor.fill <= most and tensor.fill == int(tensor.fill)):
        yield f"{key}.fill={tensor.fill:g}: with dtype={tensor.dtype} a whole number from {least} to {most} is wanted"
