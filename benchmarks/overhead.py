"""Seconds per run that a sweep spends outside its runs' own phases, against one fresh process per configuration.

    python benchmarks/overhead.py [--keep FOLDER]

Both ways measure the same matrix with the same code, publish to a fresh MLflow database of their own, and share
a warm compile cache, so what differs is what surrounds the runs: imports, composition, process starts, tracking.
Overhead = wall seconds less the seconds of the runs' phases (build, compile, quantize, measure, ...), per run.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUANT = ("int8wo", "int8dq", "float8wo")
BATCH = ("1", "4")
FIXED = (
    "model.factory.num_layers=1",
    "model.factory.num_single_layers=1",
    "measure.budget_s=2",
    "measure.max_warmup_s=1",
    "measure.warm_compile=false",
)


def sweep(outputs: Path) -> None:
    """The project's way: one command."""
    axes = [f"quant={','.join(QUANT)}", f"batch={','.join(BATCH)}"]
    _call([sys.executable, "-m", "src.run", "-m", *axes, *FIXED, f"outputs={outputs}"], outputs)


def loop(outputs: Path) -> None:
    """The bash loop's way: a fresh process per configuration that imports, composes, measures and logs."""
    for quant, batch in itertools.product(QUANT, BATCH):
        script = str(ROOT / "benchmarks" / "one_fresh_process.py")
        _call(
            [sys.executable, script, f"quant={quant}", f"batch={batch}", *FIXED, f"outputs={outputs}"],
            outputs,
        )


def _call(command: list[str], outputs: Path) -> None:
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(outputs.parent / "inductor"),
        "PYTHONPATH": str(ROOT),
    }
    log = outputs.parent / f"{outputs.name}.log"
    with log.open("a") as file:
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=file, stderr=subprocess.STDOUT)


def phases_s(outputs: Path) -> list[float]:
    """Seconds inside each run's own phases."""
    records = sorted(outputs.glob("runs/*/*/record.json"))
    return [sum(json.loads(path.read_text())["phases_s"].values()) for path in records]


def main() -> None:
    """Warm the cache, measure both ways, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="a folder for the records, instead of a temporary one")
    given = parser.parse_args().keep
    folder = given.resolve() if given else Path(tempfile.mkdtemp(prefix="quantpay-overhead-"))
    folder.mkdir(parents=True, exist_ok=True)
    print("filling the compile cache ...", flush=True)
    sweep(folder / "warm-up")
    overhead = {}
    print(
        "| way | runs | wall s | inside the runs s | outside, per run s |\n|---|---|---|---|---|", flush=True
    )
    for name, way in (("one sweep", sweep), ("a fresh process each", loop)):
        outputs = folder / way.__name__
        started = time.perf_counter()
        way(outputs)
        wall_s, inside = time.perf_counter() - started, phases_s(outputs)
        overhead[name] = (wall_s - sum(inside)) / len(inside)
        print(
            f"| {name} | {len(inside)} | {wall_s:.1f} | {sum(inside):.1f} | {overhead[name]:.2f} |",
            flush=True,
        )
    one, many = overhead.values()
    print(f"\n{many / one:.1f} times less overhead per run; records in {folder}")


if __name__ == "__main__":
    main()
