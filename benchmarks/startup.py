"""Seconds until a command answers, and until a run's first round; which heavy packages each one imports.

    python -m benchmarks.startup [REPEATS]

Each command runs REPEATS times (3), in a process of its own; the least is printed, of the wall clock and of the CPU,
which other processes disturb less. The single run is one small Linear, its code in the compile cache, to the moment
in which it says that it measures. The first one, which is not counted, also takes the device's ceilings, unless
other processes keep the CPU busy: then each run takes them again, which are 7 s of CPU.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchao", "diffusers", "transformers", "mlflow", "pandas", "scipy", "submitit")
LINEAR = ("model=linear", "quant=int8wo", "gpu=cpu", "measure.budget_s=0.5", "tracking=none")
COMMANDS = {
    "--version": ("run", "--version"),
    "--help": ("run", "--help"),
    "--cfg job": ("run", "--cfg", "job"),
    "--list": ("run", "--list"),
    "plan=true": ("run", *LINEAR, "plan=true", "rerun=true"),
    "collect": ("collect", "tracking=none"),
    "analyze": ("analyze",),
}


# As a user's Python: it keeps what it compiled of our own modules.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def command(outputs: Path, module: str, *arguments: str, imports: bool = False) -> list[str]:
    """One of the project's commands; with `imports` Python lists on stderr what it imports."""
    listing = ["-X", "importtime"] if imports else []
    where = [] if any(each.startswith("--") for each in arguments) else [f"outputs={outputs}"]
    return [sys.executable, *listing, "-m", f"src.{module}", *arguments, *where]


def wall_and_cpu_s(asked: Sequence[str]) -> tuple[float, float]:
    """Of the whole command."""
    started, before_s = time.perf_counter(), _children_cpu_s()
    nowhere = subprocess.DEVNULL
    subprocess.run(asked, cwd=ROOT, env=_ENVIRONMENT, stdout=nowhere, stderr=nowhere, check=False)
    return time.perf_counter() - started, _children_cpu_s() - before_s


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def first_round_s(asked: Sequence[str]) -> float:
    """Until the run says that it measures."""
    started = time.perf_counter()
    with subprocess.Popen(
        asked, cwd=ROOT, env=_ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stderr is not None
        reached = [time.perf_counter() for line in run.stderr if line.strip() == "measure"]
    return reached[0] - started


def imported(asked: Sequence[str]) -> list[str]:
    """The heavy packages that a command's own process imports."""
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    names = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    return [name for name in HEAVY if name in names]


def main(repeats: int) -> None:
    """Measure all, print the table."""
    with tempfile.TemporaryDirectory(prefix="quantpay-startup-") as folder:
        outputs = Path(folder)
        run = command(outputs, "run", *LINEAR, "rerun=true")
        first_round_s(run)  # fills the compile cache
        print(
            f"first round of a single cached run: {min(first_round_s(run) for _ in range(repeats)):.2f} s\n"
        )
        print("| command | s | CPU s | imports |\n|---|---|---|---|", flush=True)
        for name, (module, *arguments) in COMMANDS.items():
            each = [wall_and_cpu_s(command(outputs, module, *arguments)) for _ in range(repeats)]
            wall_s, cpu_s = (min(seconds) for seconds in zip(*each, strict=True))
            heavy = " ".join(imported(command(outputs, module, *arguments, imports=True)))
            print(f"| `{name}` | {wall_s:.2f} | {cpu_s:.2f} | {heavy or 'none of them'} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
