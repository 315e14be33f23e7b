"""Compiled code on disk: packages of AOTInductor in a folder, with a package.json that says what they are.

They hold no weights: those come from the module that they are loaded into, so from a checkpoint, say.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from src.compilation.dynamic import calls_at, dynamic_arguments, ends, ranges_of
from src.compilation.exported import (
    Call,
    Loaded,
    State,
    call_instead,
    calls_of,
    compile_ahead_of_time,
    constants_of,
    described,
    weights_of,
)
from src.compilation.scopes import compiler_parts
from src.compilation.strides import strides_of
from src.config.schema.root import RootConf
from src.devices.device import Device
from src.outcomes import RunEndedError, unsupported
from src.records.environment import versions
from src.records.record import Outcome
from src.serialization.files import replacing, sha256_of
from src.serialization.kinds import kind_of_block
from src.serialization.package_info import (
    INFO_NAME,
    PackageInfo,
    Part,
    check_device,
    fits,
    inputs_of,
    unusable_package,
    verify_packages,
)
from src.workloads.workload import Workload

FOLDER = "packages"
_MIB = 2**20


def make_packages(workload: Workload, folder: Path, cfg: RootConf, device: Device) -> PackageInfo:
    """Compile what the compile mode's scope says into a folder; of repeated blocks each kind once.

    Blocks are of one kind when class, plain attributes, arguments, their strides and weights' shapes are the same.

    Raises:
        RunEndedError: `unsupported`, when torch.export cannot take one; `failed`, when the disk is full.
    """
    module = workload.denoiser()
    names = {part: name for name, part in module.named_modules()}
    low_high = [calls_at(cfg, end, device) for end in ends(cfg)]
    calls = calls_of(compiler_parts(module, cfg.compile), workload.call)
    calls = {part: call.settled(contiguous=bool(low_high)) for part, call in calls.items()}
    kinds: dict[str, list[nn.Module]] = {}
    for part, call in calls.items():
        kinds.setdefault(kind_of_block(part, call), []).append(part)
    if not kinds:
        raise unsupported(f"{type(module).__name__} calls no part that compile={cfg.compile.name} takes")
    parts = []
    for number, members in enumerate(kinds.values()):
        paths = [names[each] for each in members]
        at_ends = [found[paths[0]] for found in low_high]
        parts.append(_make(members[0], paths, calls[members[0]], at_ends, folder / f"{number}.pt2", cfg))
    info = PackageInfo(
        parts=parts,
        device=device.as_dict(),
        compile=asdict(cfg.compile),
        model=cfg.model.name,
        quant=cfg.quant.name,
        target=cfg.target,
        dtype=cfg.dtype,
        versions=versions(),
    )
    _write_info(info, folder)
    return info


def load_packages(
    module: nn.Module, folder: Path, info: PackageInfo, device: Device, *, verified: bool = False
) -> None:
    """Have a module, or its blocks, run the packages with their own weights.

    Args:
        module: of the model that they were built of.
        verified: `verify_packages` has seen them.

    Raises:
        RunEndedError: they were built for another device or torch, are damaged, or of another model: one line.
    """
    check_device(folder, info, device)
    if not verified:
        verify_packages(folder, info)
    for part in info.parts:
        path = folder / part.file
        further = _read_constants(folder / part.constants) if part.constants else {}
        for name in part.modules:
            target = _member(module, name, path)
            _check_weights(path, name, part, target)
            weights = constants_of(target)
            check = partial(_check_call, path, name, part)
            call_instead(target, Loaded(path, weights | further, check, part.strides))


def unload_packages(module: nn.Module) -> None:
    """Let go of compiled code, and so of the weights that it holds."""
    for part in module.modules():
        if isinstance(part._compiled_call_impl, Loaded):
            call_instead(part, None)


@contextmanager
def without_packages(module: nn.Module) -> Iterator[None]:
    """The module's own code runs inside."""
    there = {part: part._compiled_call_impl for part in module.modules()}
    unload_packages(module)
    try:
        yield
    finally:
        for part, loaded in there.items():
            if isinstance(loaded, Loaded):
                call_instead(part, loaded)


def size_mib(folder: Path, info: PackageInfo) -> float:
    """Of all files of code, and of the constants beside them."""
    files = [name for part in info.parts for name in (part.file, part.constants) if name]
    return sum((folder / name).stat().st_size for name in files) / _MIB


def remove_packages(folder: Path) -> None:
    """Remove what `make_packages` wrote, and the folder if nothing else is in it."""
    for pattern in ("*.pt2", "*.constants.safetensors", INFO_NAME):
        for path in folder.glob(pattern):
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write_info(info: PackageInfo, folder: Path) -> None:
    content = json.dumps(asdict(info), indent=1, default=str)
    with replacing(folder / INFO_NAME, len(content)) as temporary:
        temporary.write_text(content + "\n", encoding="utf-8")


def _make(
    part: nn.Module, paths: list[str], call: Call, at_ends: list[Call], path: Path, cfg: RootConf
) -> Part:
    """Compile a part, also for calls of other sizes where there are some, and put it on disk.

    Args:
        part: one of its kind.
        paths: in the denoiser, of all of its kind.
        call: of the part in this run.
        at_ends: with the least and with the most of all dynamic dimensions; empty: there are none.
        path: of the file, which gets the part's class into its name.
    """
    path = path.with_stem(f"{path.stem}_{type(part).__name__}")
    beside = path.with_suffix(".constants.safetensors")
    inputs = inputs_of(call.tensors(), ranges_of(call, *at_ends) if at_ends else None)
    example, dynamic = dynamic_arguments(call, *at_ends) if at_ends else (call, None)
    code = compile_ahead_of_time(part, example, cfg.compile, dynamic)
    with replacing(path, sum(Path(file).stat().st_size for file in code.files)) as temporary:
        code.write(temporary)
    if code.constants:
        with replacing(beside, sum(tensor.nbytes for tensor in code.constants.values())) as temporary:
            _write_constants(code.constants, temporary)
    return Part(
        file=path.name,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        constants=beside.name if code.constants else None,
        constants_sha256=sha256_of(beside) if code.constants else None,
        kind=type(part).__name__,
        modules=paths,
        inputs=inputs,
        weights=weights_of(part),
        strides=[strides_of(each) for each in call.tensors()],
        values=[*map(repr, call.split()[1])],
    )


def _write_constants(constants: State, path: Path) -> None:
    """With the kind of device that each is on: code for a GPU may want some on the host."""
    places = {name: tensor.device.type for name, tensor in constants.items()}
    save_file({name: tensor.cpu().contiguous() for name, tensor in constants.items()}, path, places)


def _read_constants(path: Path) -> State:
    with safe_open(path, framework="pt") as file:
        places = file.metadata()
        return {name: file.get_tensor(name).to(places[name]) for name in file.keys()}  # noqa: SIM118


def _member(module: nn.Module, name: str, path: Path) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        raise unusable_package(path, f"of another model: this one has no {name}") from error


def _check_weights(path: Path, name: str, part: Part, target: nn.Module) -> None:
    found = weights_of(target)
    for own in sorted({*found, *part.weights}):
        there, here = part.weights.get(own, "none"), found.get(own, "none")
        if there != here:
            raise unusable_package(
                path,
                f"of another model or scheme: {own} of {name or 'the model'} is {there} in it, and {here} here",
            )


def _check_call(path: Path, name: str, part: Part, call: Call) -> None:
    """Refuse what the code is not made for: it would read beside its tensors, or give other numbers."""
    tensors, values = call.split()
    pairs = zip(part.inputs, tensors, strict=False)
    apart = [(text, described(tensor)) for text, tensor in pairs if not fits(text, tensor)]
    if len(tensors) != len(part.inputs):
        apart.append((f"{len(part.inputs)} tensors", f"{len(tensors)}"))
    remedy = "the batch and resolution it was built with, or one built with compile.dynamic_shapes"
    if not apart and part.values is not None and (here := [*map(repr, values)]) != part.values:
        both = zip_longest(part.values, here, fillvalue="nothing")
        apart = [(there, own) for there, own in both if there != own]
        remedy = "compile=regional or default, which make code for each such call"
    if apart:
        built, called = apart[0]
        said = f"{path}: {name or 'the model'} was compiled for {built}, and is called with {called}"
        raise RunEndedError(Outcome.FAILED, said, remedy)
