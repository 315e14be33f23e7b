"""How long a cluster sweep takes from the command to the last sbatch, and how much memory.

    python -m benchmarks.submission

With a stub in place of SLURM, so that it is our own time: composing, checking, run keys, folders, pickles. The real
sbatch adds about 15 ms per array of up to 1,000 runs.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (1_000, 10_000)
STUBS = {
    "sbatch": 'echo "Submitted batch job $$"',
    "srun": "true",
    "squeue": "true",
    "sacct": "true",
    "scancel": "true",
    "scontrol": 'echo "MaxArraySize = 1001"',
    "sinfo": "true",
}
# 40 sets of group options, as a large sweep has them: 5 schemes, 4 compile modes, 2 GPUs
AXES = (
    "gpu=h100,a100",
    "quant=none,int8wo,int8dq,float8wo,float8dq",
    "compile=none,default,regional,max-autotune",
    "batch=1,2,4,8,16",
)


def main() -> None:
    """Print a line per size."""
    for size in map(int, sys.argv[1:] or SIZES):
        with tempfile.TemporaryDirectory() as folder:
            print(submit(Path(folder), size))


def submit(folder: Path, size: int) -> str:
    """A line about one submission."""
    for name, line in STUBS.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    combinations = 2 * 5 * 4 * 5
    seeds = f"seed=range({size // combinations})"
    command = [sys.executable, "-m", "src.run", "-m", "hydra/launcher=slurm", "hydra.launcher.wait=false"]
    command += [*AXES, seeds, f"outputs={folder / 'outputs'}", "tracking=none"]
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=environment, check=True)
    seconds, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    sent = len(list((folder / "outputs").glob("runs/*/001/identity.json")))
    return (
        f"{sent} runs sent: {seconds:.1f} s ({cpu_s:.1f} CPU seconds), peak {used.ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
