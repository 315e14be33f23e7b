"""Where a model's weights are said to be, looked at before a run: is it there, is it whole, is it unquantized?"""

import re
from collections.abc import Iterator
from pathlib import Path

from src.config.errors import accepted
from src.config.paths import at_home
from src.config.schema.model import BOX, INDEX, PipelineConf, WeightsConf
from src.workloads.weights.files import FOLDER, counted, damage, json_object, quantized_files, variant_of

_BASELINE = "quant=..., for the baseline is unquantized"
# What the run sets itself, and what would quantize the baseline: key of from_pretrained -> what to give instead.
_OURS = {
    "torch_dtype": "dtype=...",
    "dtype": "dtype=...",
    "device_map": "gpu=...",
    "local_files_only": "weights.source=local",
    "subfolder": "weights.subfolder=...",
    "variant": "weights.variant=...",
    "revision": "weights.revision=...",
    "quantization_config": _BASELINE,
    "load_in_8bit": _BASELINE,
    "load_in_4bit": _BASELINE,
}
REMEDY = (
    "an unquantized checkpoint; or task=serialize serialize.load={folder}, which compares this one with what "
    "quant=... makes of unquantized weights"
)
_LEGACY = "Transformer2DModel"  # what diffusers once called several classes
_OTHER = "give another folder, or the model=... that they belong to"
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def problems_of_weights(weights: WeightsConf, where: str, cls: str = "") -> Iterator[str]:
    """What is wrong with where a model's weights are said to be, one line each.

    Args:
        weights: of a model that the run is going to build.
        where: the key of `weights`.
        cls: the name of the class that is to load them; diffusers' configurations tell whose they are.
    """
    for name in weights.arguments.keys() & _OURS.keys():
        yield f"{where}.arguments.{name}: is not given here; {_OURS[name].replace('weights.', f'{where}.')}"
    folder = weights.folder()
    if weights.source == "box" and (folder is None or not folder.is_dir()):
        yield f"{where}.id={weights.id}: none that comes along; {accepted(str(weights.id), _in_the_box())}"
        return
    if folder is None:
        yield from _of_repository(weights, where)
        return
    try:
        yield from [*_of_folder(weights, folder, where, cls)]
    except OSError as error:
        yield f"{where}.id={weights.id}: {error.filename} cannot be read ({error.strerror})"


def _in_the_box() -> list[str]:
    return sorted(path.name for path in BOX.glob("*/")) if BOX.is_dir() else []


def problems_of_pipeline(conf: PipelineConf, where: str) -> Iterator[str]:
    """What is wrong with where a whole pipeline's weights are said to be; of its parts see `problems_of_weights`.

    Args:
        where: its key.
    """
    weights, given = conf.weights, f"{where}.weights.id={conf.weights.id}"
    if weights.subfolder:
        yield f"{where}.weights.subfolder={weights.subfolder}: a whole pipeline is in no subfolder; give id alone"
    folder, cls = weights.folder(), conf._target_.rpartition(".")[2]
    if folder is None or weights.subfolder:
        return
    saved = json_object(folder / INDEX).get("_class_name")
    if not folder.exists():
        yield f"{given}: no such folder: {folder}; `hf download OWNER/NAME --local-dir {folder}` fetches one"
    elif not saved:
        single = "; a single model: model.weights" if (folder / "config.json").is_file() else ""
        yield f"{given}: no {INDEX} that names a class; give a pipeline that save_pretrained wrote{single}"
    elif saved != cls:
        yield f"{given}: of {saved}, and this model's pipeline is {cls}; {_OTHER}"
    else:
        names = {each.tokenizer for each in conf.encoders().values()} if conf.prompts else set()
        for name in sorted({"scheduler", *names}):
            if not (folder / name).is_dir():
                yield f"{given}: no folder {name} in it; fetch what is missing"


def _of_folder(weights: WeightsConf, folder: Path, where: str, cls: str) -> Iterator[str]:
    problem = _absent(weights, folder, where) or damage(folder, weights.variant)
    problem = problem or _of_another(folder, cls)
    if problem:
        yield f"{where}.id={weights.id}: {problem}"
    else:
        yield from _of_variant(weights, folder, where)
        yield from _of_quantized(weights, folder, where)


def _of_another(folder: Path, cls: str) -> str:
    """Whether a configuration of diffusers names another class than the one that is to load it."""
    saved = json_object(folder / "config.json").get("_class_name")
    if not cls or saved in (None, cls, _LEGACY):
        return ""
    return f"weights of {saved}, and the model's class is {cls}; {_OTHER}"


def _of_repository(weights: WeightsConf, where: str) -> Iterator[str]:
    """Of a hub: from_pretrained takes a folder of that name instead, where there is one."""
    if weights.source != "hub" or not weights.id:
        return
    given = f"{where}.id={weights.id}"
    if Path(at_home(weights.id)).exists():
        yield f"{given}: is a folder here, and with {where}.source=hub a repository; give {where}.source=local"
    elif not _REPOSITORY.fullmatch(weights.id):
        yield f"{given}: no repository, which is OWNER/NAME; for a folder give {where}.source=local"


def _absent(weights: WeightsConf, folder: Path, where: str) -> str:
    """Why there is no model of diffusers or transformers; empty where one is."""
    given = Path(weights.id or "")
    if given.is_file():
        return (
            "a file, and from_pretrained reads a folder: make one by the class's "
            "from_single_file(FILE).save_pretrained(FOLDER)"
        )
    if not folder.is_dir():
        return f"no folder {folder}; {_instead(given, where)}"
    return (
        "" if (folder / "config.json").is_file() else f"no config.json in {folder}; {_instead(folder, where)}"
    )


def _instead(folder: Path, where: str) -> str:
    """What to give: the subfolders that have a model, where there are any; of a hub's cache what it holds."""
    snapshots = sorted(folder.glob("snapshots/*/"))
    if snapshots:
        return f"give {where}.id={snapshots[-1]}"
    parts = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder.is_dir() else []
    return f"give {where}.subfolder={', '.join(parts)}" if parts else f"give {FOLDER}"


def _of_variant(weights: WeightsConf, folder: Path, where: str) -> Iterator[str]:
    """Whether there are files of the variant that is asked for; nothing is known of names that nobody knows."""
    found = {variant_of(path.name) for path in folder.iterdir()} - {None}
    if not found or (weights.variant or "") in found:
        return
    there = ", ".join(sorted(filter(None, found))) or "none"
    if weights.variant is None:
        yield f"{where}.variant=null: {folder} has only files of a variant; give {where}.variant={there}"
    else:
        also = "; or null, for there are files of no variant" if "" in found else ""
        yield f"{where}.variant={weights.variant}: no such files in {folder}; accepted: {there}{also}"


def _of_quantized(weights: WeightsConf, folder: Path, where: str) -> Iterator[str]:
    method, found = quantized_files(folder, weights.variant)
    if not method and not found:
        return
    said = counted(found) if found else f"its quantization_config says {method}"
    remedy = REMEDY.format(folder=folder)
    yield f"{where}.id={weights.id}: quantized, but a baseline is unquantized: {said}; give {remedy}"
