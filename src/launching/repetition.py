"""A run in several processes, one after the other, each isolated as a single one would be.

The first is measured as any run. What it found once and for all (memory, energy, compile times, a profile, a plan of
autoquant, what a pipeline's components take) the others do not find again: they build, treat and time, against an
unquantized model of the dtype that was the fastest in the first.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from src.autoquant.plan import read_plan
from src.config.schema.root import RootConf
from src.launching.endings import kept
from src.records.pooled import FOLDER_NAME, is_measured, process_folder
from src.records.record import RECORD_NAME, Outcome, Record, write_json
from src.records.settled import settled_by

Start = Callable[[RootConf, Record, Path, str], Record]
PLAN_NAME = "plan.json"
# of a run that is started again
_STAYS = ("config.yaml", "identity.json", "claim.json", "run.log", RECORD_NAME)


def processes_of(cfg: RootConf) -> int:
    """In how many processes a run is measured: in one where no speed is compared."""
    return cfg.measure.processes if cfg.task.compares else 1


def total_timeout_s(cfg: RootConf) -> float:
    """The time limit of all processes of a run."""
    return cfg.measure.timeout_s * processes_of(cfg)


def run_processes(cfg: RootConf, record: Record, folder: Path, start: Start) -> Record:
    """Measure a run in its processes; its record is on disk on return, and the files of its first process with it.

    What a process measured is on disk when it ends, in ``processes/<number>/``. One that ends otherwise than well
    does not end the run once another has measured; before that, only one that was killed does not.

    Args:
        start: runs one process: configuration, identity, folder and what its phases are to be called.
    """
    count = processes_of(cfg)
    if count == 1:
        return start(cfg, record, folder, "")
    _set_aside(folder)
    found, measured, same = record, False, dict[str, str]()
    for number in range(1, count + 1):
        own = process_folder(folder, number)
        own.mkdir(parents=True)
        conf = further(cfg, folder) if measured else cfg
        found = start(conf, _identity(cfg, record, number, same), own, f"process {number} of {count}: ")
        if measured or found.outcome is Outcome.KILLED:
            continue
        _move_up(own, folder)
        measured = is_measured(found)
        if not measured:
            break
        cfg, same = _settled(cfg, found)
    return kept(found, folder)


def further(cfg: RootConf, folder: Path) -> RootConf:
    """What the processes after the first are asked: the same treatment, its time alone."""
    measure = replace(
        cfg.measure,
        warm_compile=False,
        startup=False,
        energy_s=0.0,
        ceilings=False,
        profile=False,
        components=False,
    )
    quant = cfg.quant
    if (folder / PLAN_NAME).exists():
        quant = replace(quant, plan=str(_applied_plan(folder)))
    return replace(cfg, measure=measure, quant=quant)


def _settled(cfg: RootConf, first: Record) -> tuple[RootConf, dict[str, str]]:
    """The configuration with the dtype that the first process settled; what the others must do as it did."""
    return replace(cfg, dtype=first.axes.get("dtype", cfg.dtype)), settled_by(first)


def _identity(cfg: RootConf, record: Record, number: int, same: dict[str, str]) -> Record:
    """The record that a process of the run fills in; `same` is what it must do as the first did."""
    process = {
        "number": number,
        "of": processes_of(cfg),
        "confidence": cfg.measure.confidence,
        "margin": cfg.measure.margin,
        "in_turn_drift": cfg.measure.in_turn_drift,
        **same,
    }
    now = datetime.now(UTC).isoformat()
    axes = record.axes | {"dtype": cfg.dtype}
    return replace(record, axes=axes, details=record.details | {"process": process}, started_at=now)


def _applied_plan(folder: Path) -> Path:
    """The run's plan with what was applied of it in the end, which may be less, or nothing."""
    plan = read_plan(folder / PLAN_NAME)
    rows = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
    applied = {row["fqn"]: row["scheme"] for row in rows if row["scheme"]}
    path = folder / FOLDER_NAME / f"applied_{PLAN_NAME}"
    write_json(path, plan.limited_to(applied).as_dict())
    return path


def _move_up(own: Path, folder: Path) -> None:
    """The run's files are those of its first process; its record stays as the process wrote it."""
    for file in own.iterdir():
        if file.name != RECORD_NAME:
            file.rename(folder / file.name)


def _set_aside(folder: Path) -> None:
    """What an earlier start of the same job left, perhaps on another machine, is kept and not counted.

    The files and folders of its first process too, which `_move_up` made the run's.
    """
    processes = folder / FOLDER_NAME
    if not processes.exists():
        return
    starts = f"{FOLDER_NAME}_of_start_"
    aside = folder / f"{starts}{len(list(folder.glob(f'{starts}*'))) + 1}"
    aside.mkdir()
    own = (each for each in folder.iterdir() if not each.name.startswith((".", starts)))
    left = [each for each in own if each.name not in _STAYS and each != processes]
    for each in [*left, *processes.iterdir()]:  # if this start dies meanwhile, the next does the rest
        each.rename(aside / each.name)
    processes.rmdir()
