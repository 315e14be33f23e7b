"""What jobs do in the tests of the backend; pickled by reference, imported on the node from its working folder."""

import json
import os
import time
from pathlib import Path


def report(path: Path, value: int) -> int:
    """Write down what the job sees."""
    names = (
        "SLURMD_NODENAME",
        "CUDA_VISIBLE_DEVICES",
        "SLURM_JOB_NAME",
        "SLURM_CPUS_PER_TASK",
        "QUANTPAY_SETUP",
    )
    seen = {name: os.environ.get(name, "") for name in names} | {"cwd": str(Path.cwd()), "value": value}
    path.write_text(json.dumps(seen))
    return value


def hoard(size: int) -> None:
    """Take that many bytes of memory, and keep them until somebody minds."""
    held = bytearray(b"x") * size
    time.sleep(60)
    print(len(held))


def wait(seconds: float) -> None:
    time.sleep(seconds)
