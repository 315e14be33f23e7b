"""A checkpoint: a folder with a file of weights and a config.json that says what they are (info.py)."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.config.lines import first_line
from src.config.schema.root import RootConf, SerializeConf
from src.outcomes import ended, unsupported
from src.records.environment import versions
from src.records.record import Outcome
from src.serialization.files import replacing, sha256_of
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
from src.serialization.info import INFO_NAME, CheckpointInfo, unusable
from src.serialization.pretrained import PRETRAINED, read_pretrained
from src.treatments.layers import LayerRow
from src.workloads.weights.parameters import tensor_bytes

FOLDER = "checkpoint"
_TRUST = "serialize.trust=true, but only if you trust where it comes from: loading it can run any code"


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


def verify(folder: Path, info: CheckpointInfo) -> None:
    """Compare the file of weights with the size and the hash in ``config.json``.

    Raises:
        RunEndedError: it is missing, truncated or another one.
    """
    path = folder / info.file
    if info.format == PRETRAINED:  # nothing beside it says what its files are
        return
    if not path.is_file():
        raise unusable(path, "is missing")
    if (found := path.stat().st_size) != info.bytes:
        raise unusable(path, f"has {found} bytes, {INFO_NAME} says {info.bytes}: truncated, or another file")
    if sha256_of(path) != info.sha256:
        raise unusable(path, f"its SHA-256 is not the one in {INFO_NAME}: damaged, or another file")


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
        trust: load a pickle, which may run any code.
        dtype: of the run; of a checkpoint of ours the file says it.

    Raises:
        RunEndedError: it cannot be read safely, or is of another model: which names, in one line; `unsupported` when
            a tensor class was not saved as such.
    """
    path = folder / info.file
    if info.format == PICKLE and not trust:
        raise unusable(
            path, f"an unsafe pickle, the only way to carry {', '.join(info.unsafe)}; not loaded", _TRUST
        )
    with _readable(path, info):
        if info.format == PRETRAINED:
            state = read_pretrained(module, folder, device, dtype)
        else:
            state = READERS[info.format](path, device, info.tensor_classes, trust and info.format == PICKLE)
    _check_state(path, info, state, module)
    module.load_state_dict(state, assign=True)


@contextlib.contextmanager
def _readable(path: Path, info: CheckpointInfo) -> Iterator[None]:
    """Whatever foreign bytes make a reader raise is told of the file; no memory is no fault of it."""
    try:
        yield
    except RefusedError as error:
        raise unusable(path, str(error)) from error
    except Exception as error:
        if ended(error).outcome is Outcome.OOM:
            raise
        raise unusable(
            path, f"not a readable {info.format} file ({type(error).__name__}: {first_line(error)})"
        ) from error


def _check_state(path: Path, info: CheckpointInfo, state: State, module: nn.Module) -> None:
    """Whether what was read is of this model, and quantized as it was saved."""
    if problem := _misfit(module.state_dict(), state):
        raise unusable(
            path, f"of another model: {problem}", "the model, target and quant that it was saved with"
        )
    found = {name if info.format != PRETRAINED else name.rpartition(".")[2] for name in tensor_classes(state)}
    if lost := sorted(set(info.tensor_classes) - found):
        raise unsupported(
            f"{path}: holds plain tensors instead of {', '.join(lost)}: saving dropped the quantization",
            "another scheme: this class cannot be saved",
        )


def remove(folder: Path) -> None:
    """Remove what this module wrote, and the folder if nothing else is in it."""
    for name in {*FILES.values(), INFO_NAME}:
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


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


def _state_bytes(state: State) -> int:
    return sum(map(tensor_bytes, state.values()))
