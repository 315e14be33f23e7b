"""A run's arms compiled ahead, by another process while other runs are measured; the run finds the code in the cache.

Nothing of it can go wrong for the run: what is not compiled ahead, or not as the run does it, the run compiles.
"""

import json
import os
import traceback
from dataclasses import replace
from pathlib import Path

import torch
from hydra.utils import get_class

from src.compilation.ahead import compile_alone, compile_only, needs_the_device, without_content
from src.compilation.inductor import kept_options
from src.compilation.scopes import FirstCall, compiler_options
from src.config.schema.arms import compiled_as, is_usual
from src.config.schema.root import RootConf
from src.context import RunContext
from src.devices.device import Device
from src.records.record import Record, write_json
from src.records.store import sweep_folder
from src.treatments.layers import capture_layers
from src.treatments.scheme import make_scheme
from src.workloads.workload import build_workload

_FOLDER = "compiled_ahead"  # in a sweep's folder
_LAST = 19  # a nice value: whoever else wants a core gets it


def compile_ahead(cfg: RootConf, record: Record, cpus: frozenset[int]) -> None:
    """In a process that compiles: both arms of a run, in the order and by the code of its own process.

    Args:
        cfg: of the run, its dtype settled.
        cpus: where to compile for another device than the CPU.
    """
    compile_alone()
    os.nice(_LAST - os.nice(0))
    try:
        device: Device = get_class(cfg.gpu._target_)(cfg.gpu).open()
        if device.kind != "cpu" and cpus:  # a CPU's code depends on how many CPUs its process may use
            os.sched_setaffinity(0, cpus)
        compile_arms(cfg, record, device)
    except Exception:
        traceback.print_exc()  # into this process' log; the run meets the same, or not, and says so
    torch._dynamo.reset()


@torch.no_grad()
def compile_arms(cfg: RootConf, record: Record, device: Device) -> None:
    """Compile both arms, and tell the run the seconds of the first call of each that was not in the cache.

    Only the baseline where the scheme goes by values; nothing where kernels are chosen by timing them, or for a
    treatment that is not quantizing alone.

    Raises:
        Exception: whatever building, quantizing and compiling raise without content.
    """
    scheme = make_scheme(cfg.quant)
    scheme.check(device, cfg.dtype)
    compiled = compiled_as(cfg)
    if needs_the_device(compiled) or not is_usual(cfg):
        return
    with compiler_options(cfg.compile, cfg.quant, device.kind), without_content():
        workload = build_workload(cfg, device)
        rows, _ = capture_layers(workload, cfg.quant.components, keep=False)
        seconds = {"baseline": compile_only(workload, compiled)}
        if not scheme.observes(device):
            treated = workload.twin()
            with kept_options():
                scheme.apply(treated, rows, RunContext(cfg, record, Path(), device, lambda _: None))
            seconds["treated"] = compile_only(treated, compiled)
    found = {name: round(took_s, 3) for name, took_s in seconds.items() if took_s is not None}
    write_json(_place(cfg, record), found)


def note_ahead(first: FirstCall, name: str, run: RunContext) -> FirstCall:
    """A first call that found everything in the cache, with what another process took to put it there."""
    if not first.from_cache:
        return first
    try:
        found: dict[str, float] = json.loads(_place(run.cfg, run.record).read_text(encoding="utf-8"))
    except OSError:
        return first
    if name not in found:
        return first
    run.record.details.setdefault("compiled_ahead_s", {})[name] = found[name]
    return replace(first, ahead_s=found[name])


def _place(cfg: RootConf, record: Record) -> Path:
    return sweep_folder(Path(cfg.outputs), record.sweep) / _FOLDER / f"{record.run_key}.json"
