"""This program's probes of single Linear layers on one GPU, many beside each other: minutes instead of hours.

    python -m benchmarks.linear_probes PROBES.jsonl [--workers 14] [--limit-s 150] [--cells CELLS.json]
    python -m benchmarks.linear_grid --rows PROBES.jsonl               # held against the published grid

Worker processes build and compile their cells beside each other; when all are done they take turns (a file lock) and
time them, alone on the device, by what times a run's rounds. Cells are those of the published grid, or of a JSON list
of {"M", "K", "N", "quants"}. One JSON line per cell, written as soon as it is known.
"""

import argparse
import fcntl
import json
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.linear_grid import GRID, Cell, grid

OPTIONS = (
    "model=linear", "model.factory.bias=true", "compile=default", "gpu=auto", "dtype=bfloat16", "tracking=none",
    "measure=quick", "measure.budget_s=0.3", "measure.max_warmup_s=0.1", "measure.min_round_ms=1",
)  # fmt: skip
COMPILING = 0.6  # of the limit, at most


@dataclass
class Probe:
    """A cell's two arms, compiled; or why there are none."""

    cell: Cell
    cfg: Any
    arms: tuple[Any, Any] | None
    error: str
    compile_s: float


def work(
    number: int, cells: list[Cell], out: Path, options: tuple[str, ...], barrier: Any, ends_s: float
) -> None:
    """One worker: compile all, wait for the others, then time one cell after the other."""
    import torch

    torch.set_grad_enabled(False)
    began, left_s = time.time(), ends_s - time.time()
    make, probes = maker(options), []
    for cell in cells:
        if time.time() - began > COMPILING * left_s:
            print(f"worker {number}: {len(cells) - len(probes)} cells left out, the time is up", flush=True)
            break
        probes.append(make(cell))
    print(f"worker {number}: {len(probes)} cells compiled in {time.time() - began:.0f} s", flush=True)
    barrier.wait(timeout=left_s)
    for probe in probes:
        with taking_turns(out):
            if time.time() > ends_s:
                print(f"worker {number}: the time is up", flush=True)
                return
            row = timed(probe)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def maker(options: tuple[str, ...]) -> Any:
    """A function that makes the probe of a cell as a run does: same layer, scheme, compiler options."""
    from tests.composing import composer

    compose = composer({})

    def make(cell: Cell) -> Probe:
        m, k, n, quant = cell
        cfg = compose(*options, f"quant={quant}", f"model.dims={{M:{m},K:{k},N:{n}}}")
        began = time.time()
        try:
            return Probe(cell, cfg, arms(cfg), "", time.time() - began)
        except Exception as error:
            return Probe(cell, cfg, None, f"{type(error).__name__}: {error}"[:300], time.time() - began)

    return make


def arms(cfg: Any) -> tuple[Any, Any]:
    """The unquantized and the quantized layer, compiled and called."""
    from src.compilation.scopes import compile_module, compiler_options
    from src.treatments.layers import capture_layers
    from src.treatments.scheme import make_scheme
    from src.workloads.workload import build_workload

    device, scheme = opened(cfg), make_scheme(cfg.quant)
    scheme.check(device, cfg.dtype)
    baseline = build_workload(cfg, device)
    treated = baseline.twin()
    rows, _ = capture_layers(baseline, cfg.quant.components, keep=False)
    run = context(cfg, device)
    scheme.search(baseline, rows, run)
    scheme.apply(treated, rows, run)
    with compiler_options(cfg.compile, cfg.quant, device.kind):
        for workload in (baseline, treated):
            compile_module(workload.module, cfg.compile)
            workload.call()
            workload.call()
    device.synchronize()
    return baseline, treated


def opened(cfg: Any) -> Any:
    """The device of a configuration."""
    from hydra.utils import get_class

    return get_class(cfg.gpu._target_)(cfg.gpu).open()


def context(cfg: Any, device: Any) -> Any:
    """What a scheme is handed; nothing of it is kept."""
    from src.context import RunContext
    from src.records.key import axes_of
    from src.records.record import Record

    return RunContext(
        cfg, Record("0" * 16, 1, "probes", axes_of(cfg)), Path("/nonexistent"), device, lambda _: None
    )


def timed(probe: Probe) -> dict[str, Any]:
    """The row of a cell."""
    from src.measurement.paired import Conditions, measure_interleaved
    from src.measurement.rounds import estimate_speedup
    from src.statistics.speedup import verdict

    row: dict[str, Any] = dict(zip(("M", "K", "N", "quant"), probe.cell, strict=True))
    row["compile_s"] = round(probe.compile_s, 2)
    if probe.arms is None:
        return row | {"error": probe.error}
    device, conf, began = opened(probe.cfg), probe.cfg.measure, time.time()
    calls = [arm.call for arm in probe.arms]
    try:
        under = Conditions(cold=True, launches=device.kind != "cuda")
        rounds = measure_interleaved(*calls, device, conf, under)
    except Exception as error:
        return row | {"error": f"{type(error).__name__}: {error}"[:300]}
    found = estimate_speedup(rounds, conf)
    baseline_ms, treated_ms, *_ = rounds.as_arrays()
    return row | {
        "speedup": found.ratio, "low": found.ci_low, "high": found.ci_high, "pairs": found.pairs,
        "verdict": str(verdict(found, conf.margin)), "base_ms": float(sorted(baseline_ms)[len(baseline_ms) // 2]),
        "ms": float(sorted(treated_ms)[len(treated_ms) // 2]), "late": list(rounds.late_calls),
        "stop": str(rounds.stop_reason), "seconds": round(time.time() - began, 2),
    }  # fmt: skip


@contextmanager
def taking_turns(out: Path) -> Iterator[None]:
    """One process at a time."""
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shares(cells: list[Cell], workers: int) -> list[list[Cell]]:
    """Cells of one layer stay together, for its baseline is compiled once; layers are dealt out at random."""
    layers: dict[tuple[int, int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        layers[cell[:3]].append(cell)
    dealt = list(layers.values())
    random.Random(0).shuffle(dealt)
    return [[cell for layer in dealt[index::workers] for cell in layer] for index in range(workers)]


def main() -> None:
    """Probe the cells, and say how long it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--limit-s", type=float, default=150)
    parser.add_argument("--cells", type=Path)
    parser.add_argument("options", nargs="*", help="of a run, over those that are here")
    given = parser.parse_args()
    cells = [*grid("speedup", GRID)]
    if given.cells:
        listed = json.loads(given.cells.read_text())
        cells = [(each["M"], each["K"], each["N"], quant) for each in listed for quant in each["quants"]]
    began, processes = time.time(), multiprocessing.get_context("spawn")
    with processes.Manager() as manager:
        dealt = [share for share in shares(cells, given.workers) if share]
        barrier = manager.Barrier(len(dealt))
        common = (given.out, (*OPTIONS, *given.options), barrier, began + given.limit_s)
        workers = [processes.Process(target=work, args=(i, share, *common)) for i, share in enumerate(dealt)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(f"all done after {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
