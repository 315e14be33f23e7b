"""An arm of a run whose compile mode makes packages: built, on disk, and loaded from there."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from src.compilation.dynamic import at_sizes, ends, inside
from src.compilation.scopes import compile_module
from src.config.schema.arms import compiled_as
from src.context import RunContext
from src.outcomes import RunEndedError, ended
from src.quality.sqnr import on_cpu, sqnr_db
from src.records.record import Outcome
from src.serialization.fresh import tensors_of
from src.serialization.package import FOLDER, load_packages, make_packages, size_mib, without_packages
from src.workloads.workload import Workload, build_workload

_LEAST_DB = (
    10.0  # compiled code differs from the eager model by rounding alone; below this it is another model
)
_BYTES = ("kind", "file", "bytes", "modules", "inputs")  # of a package, for the record


def compile_arm(name: str, workload: Workload, run: RunContext, folder: Path | None = None) -> None:
    """Compile an arm's workload by the run's compile mode.

    Args:
        name: baseline, treated, or the dtype of a rival.
        workload: what is compiled, in place.
        folder: where packages are put; None: into the run's folder, by the arm's name.

    Raises:
        RunEndedError: `unsupported`, when torch.export cannot take it; `bad_numerics`, when what comes out is not
            the model.
    """
    conf = run.cfg.compile
    if conf.package:
        _put_packages(workload, folder or packages_of(name, run.folder), name, run)
    else:
        compile_module(workload.denoiser(), compiled_as(run.cfg))


def packages_of(name: str, folder: Path) -> Path:
    """Where an arm's packages lie."""
    return folder / FOLDER / name


def _put_packages(workload: Workload, folder: Path, name: str, run: RunContext) -> None:
    """Build packages in a folder and load them; the record says how long that took and how large they are."""
    with run.phase(f"package {name}"):
        info = make_packages(workload, folder, run.cfg, run.device)
    with run.phase(f"load package {name}"):
        load_packages(workload.denoiser(), folder, info, run.device)
    with run.phase("compare with eager"):
        run.record.details.setdefault("package_sizes", {})[name] = dict(_against_eager(workload, run))
    prefix = "" if name == "treated" else f"{name}_"
    run.record.metrics |= {
        f"package/{prefix}build_s": run.record.phases_s[f"package {name}"],
        f"package/{prefix}size_mib": round(size_mib(folder, info), 4),
    }
    details = run.record.details.setdefault("packages", {})
    details[name] = [{key: getattr(part, key) for key in _BYTES} for part in info.parts]


def _against_eager(workload: Workload, run: RunContext) -> Iterator[tuple[str, str]]:
    """How near packages are to the model's own code, as called here, at both ends of dynamic dimensions and inside.

    Raises:
        RunEndedError: `bad_numerics`, where they give NaN, infinity, or mostly noise.
    """
    within = inside(run.cfg)
    for values in [{}, *ends(run.cfg), *([within] if within else [])]:
        size = " ".join(f"{name}={value}" for name, value in values.items()) or "as measured"
        try:
            call = _resized(workload, values, run) if values else workload
            with without_packages(workload.denoiser()):
                eager = tensors_of(on_cpu(call.call()))
        except Exception as error:
            if values is not within:  # which nobody asked for, and the model need not have
                raise
            yield size, f"not compared: {ended(error).reason}"
            return
        if not all(torch.isfinite(tensor).all() for tensor in eager):
            return  # that is the model's, or the scheme's: whoever calls it next says of which layer
        near_db = sqnr_db(eager, tensors_of(on_cpu(call.call())))
        if near_db < _LEAST_DB:
            raise RunEndedError(
                Outcome.BAD_NUMERICS, f"the package is not the model, {size}: SQNR {near_db:.1f} dB"
            )
        yield size, "equal" if math.isinf(near_db) else f"{near_db:.1f} dB"


def _resized(workload: Workload, values: Mapping[str, int], run: RunContext) -> Workload:
    """The same modules, called with other sizes."""
    model = None if workload.path else workload.denoiser()
    found = build_workload(at_sizes(run.cfg, values), run.device, model)
    return replace(found, module=workload.module) if workload.path else found
