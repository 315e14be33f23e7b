"""A checkpoint: a folder with a file of weights and a config.json that says what they are."""

import contextlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin

import torch
from torch import nn

from src.config.paths import command
from src.config.schema import RootConf, SerializeConf
from src.outcomes import RunEndedError, ended, unsupported
from src.records.environment import versions
from src.records.record import Outcome
from src.serialization.files import first_line, replacing, sha256_of
from src.serialization.formats import (
    FILES,
    PICKLE,
    READERS,
    SAFETENSORS,
    TORCH,
    WRITERS,
    RefusedError,
    State,
    tensor_classes,
)
from src.serialization.pretrained import PRETRAINED, described, is_pretrained, read_pretrained
from src.treatments.layers import LayerRow
from src.workloads.model import tensor_bytes

FOLDER, INFO_NAME = "checkpoint", "config.json"
KIND, SCHEMA_VERSION = "quantpay checkpoint", 1
_TRUST = "serialize.trust=true, but only if you trust where it comes from: loading it can run any code"
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


@dataclass
class Written:
    """A file of weights that is on disk."""

    format: str
    path: Path
    refused: dict[str, str]  # formats tried before, and why they cannot carry it
    unsafe: list[str]


def write_weights(state: State, folder: Path, conf: SerializeConf) -> Written:
    """Write a state in the first format that can carry it, durable and all at once: an older file stays until then.

    Raises:
        RunEndedError: `unsupported` when none can, or only an unsafe pickle and that is not trusted; `failed` when
            the disk is full or does not take it.
    """
    formats = (SAFETENSORS, TORCH) if conf.format == "auto" else (conf.format,)
    refused: dict[str, str] = {}
    for name in formats:
        path = folder / FILES[name]
        try:
            with replacing(path, _state_bytes(state)) as temporary:
                unsafe = WRITERS[name](state, temporary)
                if unsafe and not conf.trust:
                    raise unsupported(f"only an unsafe pickle can carry {', '.join(unsafe)}", _TRUST)
        except RefusedError as error:
            refused[name] = str(error)
        else:
            return Written(PICKLE if unsafe else name, path, refused, unsafe)
    raise unsupported(f"serialize.format={conf.format}: {refused[formats[-1]]}", "serialize.format=auto")


def write_info(written: Written, state: State, cfg: RootConf, rows: list[LayerRow]) -> CheckpointInfo:
    """Write ``config.json`` beside the weights, their hash in it.

    Raises:
        RunEndedError: `failed`, when the disk is full or does not take it.
    """
    info = CheckpointInfo(
        format=written.format,
        file=written.path.name,
        bytes=written.path.stat().st_size,
        sha256=sha256_of(written.path),
        model=asdict(cfg.model),
        quant=asdict(cfg.quant),
        target=cfg.target,
        dtype=cfg.dtype,
        layers=[row.as_dict() for row in rows],
        tensor_classes=tensor_classes(state),
        versions=versions(),
        unsafe=written.unsafe,
    )
    content = json.dumps(asdict(info), indent=1)
    with replacing(written.path.with_name(INFO_NAME), len(content)) as temporary:
        temporary.write_text(content + "\n", encoding="utf-8")
    return info


def read_info(folder: Path) -> CheckpointInfo:
    """Read a checkpoint's ``config.json``, ours or that of a model that save_pretrained wrote.

    Raises:
        RunEndedError: there is none, or it is another program's, damaged, or of a newer schema.
    """
    path = folder / INFO_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror}), so this is no checkpoint") from error
    except ValueError as error:
        raise _unusable(path, f"not JSON ({error}), so this is no checkpoint") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        if is_pretrained(content):
            return CheckpointInfo(**described(folder, content))
        raise _unusable(path, "not written by task=serialize, nor by save_pretrained")
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise _unusable(path, f"schema {version} is newer than {SCHEMA_VERSION}", "update quantpay")
    known = {field.name for field in fields(CheckpointInfo)}
    try:
        info = CheckpointInfo(**{name: value for name, value in content.items() if name in known})
    except TypeError as error:
        raise _unusable(path, f"not complete ({error})") from error
    for field in fields(info):
        if not _is(getattr(info, field.name), field.type):
            raise _unusable(path, f"{field.name} is not what task=serialize writes there")
    if (info.format, info.file) not in [*FILES.items()]:
        raise _unusable(path, f"no format {info.format} in a file {info.file}")
    return info


def verify(folder: Path, info: CheckpointInfo) -> None:
    """Compare the file of weights with the size and the hash in ``config.json``.

    Raises:
        RunEndedError: it is missing, truncated or another one.
    """
    path = folder / info.file
    if info.format == PRETRAINED:  # nothing beside it says what its files are
        return
    if not path.is_file():
        raise _unusable(path, "is missing")
    if (found := path.stat().st_size) != info.bytes:
        raise _unusable(path, f"has {found} bytes, {INFO_NAME} says {info.bytes}: truncated, or another file")
    if sha256_of(path) != info.sha256:
        raise _unusable(path, f"its SHA-256 is not the one in {INFO_NAME}: damaged, or another file")


def check_same_run(folder: Path, info: CheckpointInfo, cfg: RootConf) -> None:
    """Whether a checkpoint was saved of what a run makes, as far as names tell.

    Raises:
        RunEndedError: of another model, scheme, target or dtype: which.
    """
    if info.format == PRETRAINED:
        wanted, classes = str(cfg.model.factory["_target_"]).rpartition(".")[2], info.model["classes"]
        if wanted not in classes and wanted[:1].isupper():  # of a function the class is not known
            raise _unusable(
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
        raise _unusable(folder, f"of another run: saved with {was}, this is {is_}", was)


def load_into(
    module: nn.Module,
    folder: Path,
    info: CheckpointInfo,
    device: torch.device,
    trust: bool,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Put the weights of a checkpoint into a module whose parameters are on the meta device.

    Args:
        module: of the model and target that were saved; its tensors are replaced.
        folder: of the checkpoint, which `verify` has seen.
        info: what `read_info` made of it.
        device: where the weights are put.
        trust: load a pickle, which may run any code.
        dtype: of the run; of a checkpoint of ours the file says it.

    Raises:
        RunEndedError: it cannot be read safely, or is of another model: which names, in one line; `unsupported` when
            a tensor class was not saved as such.
    """
    path = folder / info.file
    if info.format == PICKLE and not trust:
        raise _unusable(
            path, f"an unsafe pickle, the only way to carry {', '.join(info.unsafe)}; not loaded", _TRUST
        )
    try:
        if info.format == PRETRAINED:
            state = read_pretrained(module, folder, device, dtype)
        else:
            state = READERS[info.format](path, device, info.tensor_classes, trust and info.format == PICKLE)
    except RefusedError as error:
        raise _unusable(path, str(error)) from error
    except Exception as error:  # whatever foreign bytes make a reader raise
        if ended(error).outcome is Outcome.OOM:
            raise
        raise _unusable(
            path, f"not a readable {info.format} file ({type(error).__name__}: {first_line(error)})"
        ) from error
    if problem := _misfit(module.state_dict(), state):
        raise _unusable(
            path, f"of another model: {problem}", "the model, target and quant that it was saved with"
        )
    found = {name if info.format != PRETRAINED else name.rpartition(".")[2] for name in tensor_classes(state)}
    if lost := sorted(set(info.tensor_classes) - found):
        raise unsupported(
            f"{path}: holds plain tensors instead of {', '.join(lost)}: saving dropped the quantization",
            "another scheme: this class cannot be saved",
        )
    module.load_state_dict(state, assign=True)


def other_versions(info: CheckpointInfo) -> list[str]:
    """Warnings: libraries whose version is another one than when the checkpoint was saved."""
    here = versions()
    return [
        f"saved with {name} {info.versions.get(name, 'unknown')}, loaded with {here[name]}"
        for name in _COMPARED
        if info.versions.get(name) != here[name] and (name in info.versions or info.format != PRETRAINED)
    ]


def remove(folder: Path) -> None:
    """Remove what this module wrote, and the folder if nothing else is in it."""
    for name in {*FILES.values(), INFO_NAME}:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; of a list its members too."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    return isinstance(value, outer) and (outer is not list or all(_is(each, inner[0]) for each in value))


def _misfit(wanted: dict[str, Any], state: State) -> str:
    """Which names or shapes differ; empty when all fit."""
    missing, foreign = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    said = [f"{len(names)} {what}, as {names[0]}" for what, names in
            (("missing", missing), ("unknown", foreign)) if names]  # fmt: skip
    if shapes:
        first = shapes[0]
        sides = f"{tuple(state[first].shape)} instead of {tuple(wanted[first].shape)}"
        said.append(f"{len(shapes)} of another shape, as {first}: {sides}")
    return "; ".join(said)


def _unusable(path: Path, why: str, remedy: str = "") -> RunEndedError:
    again = f"save it again: {command('run', 'task=serialize', 'serialize.keep=true')}"
    return RunEndedError(Outcome.FAILED, f"{path}: {why}", remedy or again)


def _state_bytes(state: State) -> int:
    return sum(map(tensor_bytes, state.values()))
