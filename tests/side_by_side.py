"""`make test`: the whole suite in two processes, as the tests on a cluster mostly wait.

python -m tests.side_by_side            both; the closing line is that of the larger part
python -m tests.side_by_side ARGS...    pytest, with these arguments
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest"]
APART = (  # they wait more than they compute
    "tests/slurm",
    "tests/launching/test_hydra_suite.py",
    "tests/launching/test_node.py",
    "tests/launching/test_pool.py",
    "tests/records/test_cluster_tracking.py",
)


def main(arguments: list[str]) -> int:
    """Run the tests; the exit status is pytest's, of the part that failed if one did."""
    if arguments:
        return subprocess.run([*PYTEST, *arguments], cwd=ROOT, check=False).returncode
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        beside = subprocess.Popen([*PYTEST, *APART], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            status, closing = _shown([*PYTEST, *(f"--ignore={path}" for path in APART)])
            beside.wait()
        finally:
            beside.terminate()
            beside.wait()
        output.seek(0)
        print(f"\nbeside it, {' '.join(APART)}:\n{output.read()}\n{closing}", end="", flush=True)
    return status or beside.returncode


def _shown(command: list[str]) -> tuple[int, str]:
    """Run and show line by line what it says, but for the last line, which is returned with the status."""
    last = ""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            print(last, end="", flush=True)
            last = line
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
