"""What ``package.json`` beside packages says, and whether this device and torch can run them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from src.config.paths import command
from src.config.schema.root import CompileConf
from src.devices.device import Device
from src.outcomes import RunEndedError
from src.records.environment import versions
from src.records.record import Outcome
from src.serialization.files import sha256_of
from src.serialization.info_file import made_of, read_content

INFO_NAME = "package.json"
KIND, SCHEMA_VERSION = "quantpay package", 3
_IN_THE_CODE = ("scope", "mode", "tuning", "options", "dynamic_shapes")  # of a compile mode: what changes it


@dataclass
class Part:
    """One file of code, and the modules that it is the code of."""

    file: str
    bytes: int
    sha256: str
    constants: str | None  # a file of tensors that are in the model's code and not among its weights
    kind: str  # the class
    modules: list[str]  # paths in the denoiser; empty text: the whole of it
    inputs: list[str]  # dtypes and shapes of the tensors of a call; of a dynamic side its range, ``1-8``
    weights: dict[str, str]  # dtypes and shapes, by the names in the code
    strides: list[list[int]] | None = None  # of the inputs, as `strides_of` says; None: schema 1 does not say
    constants_sha256: str | None = None  # of that file; None: there is none, or an earlier version wrote it
    values: list[str] | None = None  # the other arguments, which are in the code; None: as above


@dataclass
class PackageInfo:
    """All packages in a folder. It is data: nothing in it is called."""

    parts: list[Part]
    device: dict[str, Any]  # that they were compiled on and for
    compile: dict[str, Any]  # conf/compile as resolved
    model: str
    quant: str
    target: str
    dtype: str
    versions: dict[str, str]
    kind: str = KIND
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Of a file, the parts are what JSON has of them."""
        self.parts = [part if isinstance(part, Part) else Part(**part) for part in self.parts]


def inputs_of(tensors: Sequence[torch.Tensor], shapes: Sequence[Sequence[Any]] | None) -> list[str]:
    """What the tensors of a call are: ``bfloat16 [1-8, 256, 64]`` is one whose first side may be 1 to 8.

    Args:
        shapes: of each the sides, a dynamic one as [least, most]; None: all are fixed.
    """
    found = [[*tensor.shape] for tensor in tensors] if shapes is None else shapes
    return [
        f"{str(tensor.dtype)[6:]} [{', '.join(map(_side, sides))}]"
        for tensor, sides in zip(tensors, found, strict=True)
    ]


def fits(text: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is one that `inputs_of` describes."""
    dtype, _, shape = text.partition(" ")
    sides = [side.split("-") for side in shape[1:-1].split(", ") if side]
    return (
        dtype == str(tensor.dtype)[6:]
        and len(sides) == tensor.dim()
        and all(int(s[0]) <= size <= int(s[-1]) for s, size in zip(sides, tensor.shape, strict=True))
    )


def _side(side: Any) -> str:
    return "-".join(map(str, side)) if isinstance(side, (list, tuple)) else str(side)


def read_package(folder: Path) -> PackageInfo:
    """Read ``package.json`` in a folder.

    Raises:
        RunEndedError: there is none, or it is damaged or of a newer schema.
    """
    path = folder / INFO_NAME
    content = read_content(path, "there is no package", unusable_package)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise unusable_package(path, "not written by compile=aot")
    return made_of(PackageInfo, content, SCHEMA_VERSION, path, unusable_package)


def verify_packages(folder: Path, info: PackageInfo) -> None:
    """Compare the files of code, and of their constants, with the hashes in ``package.json``.

    Raises:
        RunEndedError: one is missing, damaged or another one.
    """
    hashes = {part.file: part.sha256 for part in info.parts}
    hashes |= {
        part.constants: part.constants_sha256
        for part in info.parts
        if part.constants and part.constants_sha256
    }
    for name, digest in hashes.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            raise unusable_package(path, f"is missing, damaged or another file: {INFO_NAME} has its SHA-256")


def check_device(folder: Path, info: PackageInfo, device: Device) -> None:
    """Whether the code can run here.

    A CPU's code is for as many threads as there were: of parts of sums it has one for each, and with more threads it
    would write beside them; or it takes those threads whatever it is told.

    Raises:
        RunEndedError: it was compiled by another torch, for a device that can do something else, or for another
            number of threads: one line.
    """
    here = versions()["torch"]
    if info.versions.get("torch") != here:
        raise unusable_package(folder, f"built with torch {info.versions.get('torch')}, this is {here}")
    lacks = missing(info.device, device.as_dict())
    if lacks:
        raise unusable_package(folder, f"built for {info.device.get('name')}; this is {device.name}: {lacks}")
    threads = info.device.get("threads")
    if device.threads and threads and threads != device.threads:
        raise unusable_package(
            folder, f"built for gpu.threads={threads}; here it is {device.threads}", f"gpu.threads={threads}"
        )


def check_compile(folder: Path, info: PackageInfo, conf: CompileConf) -> None:
    """Whether the code is what this compile mode makes.

    Raises:
        RunEndedError: it was compiled by another mode, or with other options: one line.
    """
    here = json.loads(json.dumps(asdict(conf), default=str))
    other = [name for name in _IN_THE_CODE if name in info.compile and info.compile[name] != here[name]]
    if not other:
        return
    was, is_ = (", ".join(f"compile.{name}={of[name]}" for name in other) for of in (info.compile, here))
    raise unusable_package(
        folder, f"built with {was}; asked for is {is_}", f"compile={info.compile['name']}, as built"
    )


def missing(built: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What a device lacks that code of another one needs, in words; empty where it runs.

    A CPU's code uses all instruction sets that were there, a CUDA device's one compute capability.
    """
    if built.get("kind") != here["kind"]:
        return f"a {here['kind']} device"
    if built.get("compute_capability") != here["compute_capability"]:
        return f"compute capability {here['compute_capability']}, not {built.get('compute_capability')}"
    there = set(built.get("identity", {}).get("instruction_sets", []))
    absent = sorted(there - set(here["identity"].get("instruction_sets", [])))
    return f"it has no {', '.join(absent)}" if absent else ""


def unusable_package(path: Path, why: str, remedy: str = "") -> RunEndedError:
    """How a run ends that was given a package which cannot be used, and what to do."""
    again = f"build it here: {command('run', 'task=serialize', 'compile=aot', 'serialize.keep=true')}"
    return RunEndedError(Outcome.FAILED, f"{path}: {why}", f"{remedy}, or {again}" if remedy else again)
