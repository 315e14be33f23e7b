"""An arm of a run whose compile mode makes packages: built, on disk, and loaded from there."""

from pathlib import Path

from src.compilation.scopes import compile_module
from src.context import RunContext
from src.serialization.package import FOLDER, load_packages, make_packages, size_mib
from src.workloads.workload import Workload

_BYTES = ("kind", "file", "bytes", "modules", "inputs")  # of a package, for the record


def compile_arm(name: str, workload: Workload, run: RunContext, folder: Path | None = None) -> None:
    """Compile an arm's workload by the run's compile mode.

    Args:
        name: baseline, treated, or the dtype of a rival.
        workload: what is compiled, in place.
        run: its context.
        folder: where packages are put; None: into the run's folder, by the arm's name.

    Raises:
        RunEndedError: `unsupported`, when torch.export cannot take it.
    """
    conf = run.cfg.compile
    if conf.package:
        _put_packages(workload, folder or packages_of(name, run.folder), name, run)
    else:
        compile_module(workload.denoiser(), conf)


def packages_of(name: str, folder: Path) -> Path:
    """Where an arm's packages lie."""
    return folder / FOLDER / name


def _put_packages(workload: Workload, folder: Path, name: str, run: RunContext) -> None:
    """Build packages in a folder and load them; the record says how long that took and how large they are."""
    with run.phase(f"package {name}"):
        info = make_packages(workload, folder, run.cfg, run.device)
    with run.phase(f"load package {name}"):
        load_packages(workload.denoiser(), folder, info, run.device)
    prefix = "" if name == "treated" else f"{name}_"
    run.record.metrics |= {
        f"package/{prefix}build_s": run.record.phases_s[f"package {name}"],
        f"package/{prefix}size_mib": round(size_mib(folder, info), 4),
    }
    details = run.record.details.setdefault("packages", {})
    details[name] = [{key: getattr(part, key) for key in _BYTES} for part in info.parts]
