"""What ``config.json`` in a checkpoint's folder says: read, held against a run and against the versions here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config.paths import command
from src.config.schema.root import RootConf
from src.outcomes import RunEndedError
from src.records.environment import versions
from src.records.record import Outcome
from src.serialization.formats import FILES
from src.serialization.info_file import made_of, read_content
from src.serialization.pretrained import PRETRAINED, described, is_pretrained

INFO_NAME = "config.json"
KIND, SCHEMA_VERSION = "quantpay checkpoint", 1
_COMPARED = ("torch", "torchao", "diffusers")  # versions that a checkpoint may depend on


@dataclass
class CheckpointInfo:
    """What ``config.json`` says of the weights beside it. It is data: nothing in it is called."""

    format: str  # safetensors, torch (read with weights_only=True), pickle (read only when trusted)
    file: str
    bytes: int
    sha256: str
    model: dict[str, Any]  # conf/model as resolved
    quant: dict[str, Any]  # conf/quant as resolved
    target: str
    dtype: str
    layers: list[dict[str, Any]]  # the layer table
    tensor_classes: list[str]
    versions: dict[str, str]
    unsafe: list[str]  # what only a pickle can carry
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION


def read_info(folder: Path) -> CheckpointInfo:
    """Read a checkpoint's ``config.json``, ours or that of a model that save_pretrained wrote.

    Raises:
        RunEndedError: there is none, or it is another program's, damaged, or of a newer schema.
    """
    path = folder / INFO_NAME
    content = read_content(path, "this is no checkpoint", unusable)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        if is_pretrained(content):
            return CheckpointInfo(**described(folder, content))
        raise unusable(path, "not written by task=serialize, nor by save_pretrained")
    info = made_of(CheckpointInfo, content, SCHEMA_VERSION, path, unusable)
    if (info.format, info.file) not in [*FILES.items()]:
        raise unusable(path, f"no format {info.format} in a file {info.file}")
    return info


def check_same_run(folder: Path, info: CheckpointInfo, cfg: RootConf) -> None:
    """Whether a checkpoint was saved of what a run makes, as far as names tell.

    Raises:
        RunEndedError: of another model, scheme, target or dtype: which.
    """
    if info.format == PRETRAINED:
        wanted, classes = str(cfg.model.factory["_target_"]).rpartition(".")[2], info.model["classes"]
        if wanted not in classes and wanted[:1].isupper():  # of a function the class is not known
            raise unusable(
                folder,
                f"of another class: {', '.join(filter(None, classes))}, not {wanted}",
                "its own model=...",
            )
        return
    saved = {"model": info.model.get("name"), "quant": info.quant.get("name")}
    saved |= {"target": info.target, "dtype": info.dtype}
    here = {"model": cfg.model.name, "quant": cfg.quant.name, "target": cfg.target, "dtype": cfg.dtype}
    other = [name for name in saved if saved[name] != here[name]]
    if other:
        was, is_ = (" ".join(f"{name}={of[name]}" for name in other) for of in (saved, here))
        raise unusable(folder, f"of another run: saved with {was}, this is {is_}", was)


def other_versions(info: CheckpointInfo) -> list[str]:
    """Warnings: libraries whose version is another one than when the checkpoint was saved."""
    here = versions()
    return [
        f"saved with {name} {info.versions.get(name, 'unknown')}, loaded with {here[name]}"
        for name in _COMPARED
        if info.versions.get(name) != here[name] and (name in info.versions or info.format != PRETRAINED)
    ]


def unusable(path: Path, why: str, remedy: str = "") -> RunEndedError:
    """How a run ends that was given a checkpoint which cannot be used, and what to do."""
    again = f"save it again: {command('run', 'task=serialize', 'serialize.keep=true')}"
    return RunEndedError(Outcome.FAILED, f"{path}: {why}", remedy or again)
