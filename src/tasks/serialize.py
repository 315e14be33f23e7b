"""The task `serialize`: quantize, save, load into an empty model, compare; then the same in a fresh process."""

import gc
import math
from pathlib import Path
from typing import Any

import torch

from src.compilation.scopes import compile_module, compiler_options
from src.config.schema.model import DENOISER
from src.context import RunContext
from src.devices.device import GIB
from src.measurement.memory import Peaks, peak_memory
from src.outcomes import RunEndedError, unsupported
from src.quality.sqnr import sqnr_db
from src.records.record import Outcome
from src.serialization.checkpoint import FOLDER, load_into, remove, verify, write_info, write_weights
from src.serialization.fresh import Asked, Tensors, call, call_fresh, digest, time_calls
from src.serialization.info import CheckpointInfo, check_same_run, other_versions, read_info
from src.serialization.package import FOLDER as PACKAGES
from src.serialization.package import load_packages, remove_packages
from src.serialization.package_info import check_compile, check_device, read_package
from src.serialization.pretrained import PRETRAINED, layers_apart
from src.tasks.arms.packaged import compile_arm
from src.tasks.arms.untreated import build
from src.tasks.saved_and_loaded import Reference, in_words, judged, note_speed
from src.treatments.layers import LayerRow
from src.treatments.routes.loading import check_loading
from src.treatments.routes.making import make_treated
from src.treatments.scheme import Scheme, make_scheme
from src.workloads.pipeline import check_weights
from src.workloads.weights.parameters import tensor_bytes
from src.workloads.workload import Workload, empty_workload


@torch.no_grad()
def check_serialization(run: RunContext) -> None:
    """Save and load a quantized model, and fill the record with what that took and whether it is still the same.

    Raises:
        RunEndedError: any outcome but ok; `bad_numerics` when a loaded model gives something else.
    """
    scheme = make_scheme(run.cfg.quant)
    scheme.check(run.device, run.cfg.dtype)
    check_loading(run.cfg)
    check_weights(run.cfg)
    _check_components(run.cfg.quant.components)
    conf = run.cfg.serialize
    folder = run.folder / FOLDER if conf.load is None else Path(conf.load)
    kept = conf.keep or conf.load is not None
    found: dict[str, Any] = {"checkpoint": str(folder) if kept else None}
    run.record.details["serialize"] = found
    if conf.load is not None:
        check_same_run(folder, read_info(folder), run.cfg)
        if packages := _packages(folder, run):
            info = read_package(packages)
            check_device(packages, info, run.device)
            check_compile(packages, info, run.cfg.compile)
    try:
        reference = _quantize_and_save(scheme, folder, run)
        _free(run)
        found["loaded"] = judged("here", reference, _load_and_call(folder, run), run)
        _free(run)
        found["fresh"] = _fresh(reference, folder, run)
    finally:
        if not kept:
            remove_packages(folder / PACKAGES)
            remove(folder)
    found["equal"] = found["loaded"]["equal"] and found["fresh"]["equal"]
    run.record.reason = in_words(found, run)
    run.record.outcome = Outcome.OK


def _check_components(components: list[str]) -> None:
    """A checkpoint holds the denoiser; what else is quantized would not be there after loading.

    Raises:
        RunEndedError: `unsupported`, when another component is to be quantized.
    """
    others = [name for name in components if name != DENOISER]
    if others:
        raise unsupported(
            f"task=serialize saves the denoiser alone, and quant.components names {', '.join(others)}",
            f"quant.components=[{DENOISER}]",
        )


def _quantize_and_save(scheme: Scheme, folder: Path, run: RunContext) -> Reference:
    """Build, quantize, call, and save unless there is a checkpoint; the model is gone on return."""
    workload, rows = build(run)
    state = workload.denoiser().state_dict()
    names, unquantized_bytes = set(state), sum(map(tensor_bytes, state.values()))
    del state  # it would hold the unquantized weights
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        workload = make_treated(scheme, workload, lambda: workload, rows, run)
    changed = sorted(names ^ set(workload.denoiser().state_dict()))
    if changed:
        raise unsupported(
            f"{run.cfg.quant.name} changes which tensors the model has ({changed[0]}, ...): "
            "its state does not fit into an empty model"
        )
    reference = _reference(workload, None if run.cfg.serialize.load else folder / PACKAGES, run)
    if run.cfg.serialize.load is None:
        _save(workload, rows, folder, run)
    else:
        info = read_info(folder)
        _note_file(info, run)
        if info.format == PRETRAINED:
            apart = layers_apart(info.layers, [row.name for row in rows if row.scheme])
            run.record.details["serialize"]["layers_apart"] = apart
    run.record.metrics["serialize/baseline_size_gib"] = unquantized_bytes / GIB
    run.record.metrics |= _bits_per_weight(workload, rows)
    return reference


def _fresh(reference: Reference, folder: Path, run: RunContext) -> dict[str, Any]:
    """What a fresh process makes of the checkpoint, and of the packages in it."""
    packages = _packages(folder, run)
    with run.phase("fresh process"):
        answer = call_fresh(run.cfg, run.device, folder, Asked(packages, rounds=packages is not None))
    run.record.metrics |= _load_metrics("fresh_", answer.load_s, answer.load_peaks)
    found = judged("in a fresh process", reference, answer.tensors(), run) | {"pid": answer.pid}
    if reference.timed and answer.timed:
        run.record.metrics["package/start_s"] = round(answer.start_s, 4)
        note_speed(reference.timed, answer.timed, run)
    return found


def _packages(folder: Path, run: RunContext) -> Path | None:
    """Where a checkpoint has its packages; None: the run makes none."""
    return folder / PACKAGES if run.cfg.compile.package else None


def _reference(workload: Workload, packages: Path | None, run: RunContext) -> Reference:
    """What the quantized model gives, and how quick it is where it is compiled into packages.

    Args:
        packages: the folder that they are put into; None: the run's own, for there is a checkpoint.
    """
    with compiler_options(run.cfg.compile, run.cfg.quant, run.device.kind):
        compile_arm("treated", workload, run, packages)
    with run.phase("call"):
        first, second = call(workload, run.cfg), call(workload, run.cfg)
    if not all(torch.isfinite(output).all() for output in first):
        raise RunEndedError(
            Outcome.BAD_NUMERICS,
            "the quantized model returns NaN or infinity: there is nothing to compare",
        )
    repeat_db = math.inf if digest(first) == digest(second) else sqnr_db(first, second)
    found = run.record.details["serialize"]
    found["deterministic"], found["output_sha256"] = repeat_db == math.inf, digest(first)
    if not run.cfg.compile.package:
        return Reference(first, repeat_db)
    with run.phase("measure"):
        return Reference(first, repeat_db, time_calls(workload, run.cfg, run.device))


def _save(workload: Workload, rows: list[LayerRow], folder: Path, run: RunContext) -> None:
    state = dict(workload.denoiser().state_dict())
    with run.phase("save"):
        written = write_weights(state, folder, run.cfg.serialize)
    with run.phase("checksum"):
        info = write_info(written, state, run.cfg, rows)
    _note_file(info, run)
    run.record.details["serialize"]["refused"] = written.refused
    run.record.metrics["serialize/save_s"] = run.record.phases_s["save"]


def _note_file(info: CheckpointInfo, run: RunContext) -> None:
    run.record.details["serialize"] |= {
        "format": info.format,
        "unsafe": info.unsafe,
        "file": info.file,
        "sha256": info.sha256,
        "tensor_classes": info.tensor_classes,
    }
    run.record.metrics["serialize/size_gib"] = info.bytes / GIB


def _load_and_call(folder: Path, run: RunContext) -> Tensors:
    with run.phase("build empty"):
        workload = empty_workload(run.cfg, run.device)
    info = read_info(folder)
    run.record.details["serialize"]["warnings"] = other_versions(info)
    with run.phase("checksum"):
        verify(folder, info)
    with run.phase("load"), peak_memory(run.device) as peaks:
        trust, dtype = run.cfg.serialize.trust, getattr(torch, run.cfg.dtype)
        load_into(workload.denoiser(), folder, info, run.device.torch, trust, dtype)
        run.device.synchronize()
    run.record.metrics |= _load_metrics("", run.record.phases_s["load"], peaks)
    with run.phase("call"):
        if packages := _packages(folder, run):
            load_packages(workload.denoiser(), packages, read_package(packages), run.device)
        else:
            compile_module(workload.denoiser(), run.cfg.compile)
        return call(workload, run.cfg)


def _load_metrics(prefix: str, seconds: float, peaks: Peaks) -> dict[str, float]:
    """Seconds and the peak of loading (allocated on CUDA, RSS on a CPU); no peak where its reset is forbidden."""
    found = {f"serialize/{prefix}load_s": round(seconds, 4)}
    if gib := peaks.of_the_phase().gib:
        found[f"serialize/{prefix}load_peak_gib"] = round(next(iter(gib.values())), 4)
    return found


def _bits_per_weight(workload: Workload, rows: list[LayerRow]) -> dict[str, float]:
    """Bits stored per weight of the quantized layers; nothing where none is."""
    layers = [workload.module.get_submodule(row.fqn) for row in rows if row.scheme]
    weights = [weight for layer in layers if isinstance(weight := layer.weight, torch.Tensor)]
    if not weights:
        return {}
    bits, numbers = 8 * sum(map(tensor_bytes, weights)), sum(weight.numel() for weight in weights)
    return {"serialize/bits_per_weight": bits / numbers}


def _free(run: RunContext) -> None:
    """Give back what no name holds any more, so that the next peak does not contain it."""
    torch._dynamo.reset()  # compiled code holds the weights it was made for
    gc.collect()
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()
