"""`make test`: the whole suite, a process per CPU, and beside them the tests on a cluster, which mostly wait.

python -m tests.side_by_side            all of it. What failed on clusters is run once more when nothing else runs,
                                        and told last: what fails only beside others must be mended too
python -m tests.side_by_side -x         pytest's options, for both parts
python -m tests.side_by_side PATH...    these tests alone, in one process
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest"]
SPREAD = ["--dist", "worksteal", "-n", "auto"]
WAITING = ["--dist", "loadfile", "-n", "2"]  # each process has clusters of its own
REMEMBERED = ["-o", "cache_dir=.pytest_cache/clusters"]  # what failed
ALONE = ["-n", "0", "--last-failed", "--last-failed-no-failures=none"]
APART = (  # they wait more than they compute
    "tests/slurm",
    "tests/jobs/test_node.py",
    "tests/workstation/test_pool.py",
    "tests/records/test_cluster_tracking.py",
)
_PROGRESS = re.compile(r"[.sxXEF]*( +\[ *\d+%\])?")


def main(arguments: list[str]) -> int:
    """Run the tests; the exit status is pytest's, of the part that failed if one did."""
    if any(not each.startswith("-") for each in arguments):
        return subprocess.run([*PYTEST, *arguments], cwd=ROOT, check=False).returncode
    beside = _started([*PYTEST, "-q", *WAITING, *REMEMBERED, *arguments, *APART])
    larger = _started([*PYTEST, *SPREAD, *arguments, *(f"--ignore={path}" for path in APART)])
    failed: list[str] = []  # what that part says at its end, told once more where it is read: last
    told = threading.Thread(target=_tell, args=(beside, failed))
    try:
        told.start()
        closing = ""
        for line in _lines(larger):
            print(closing, end="", flush=True)
            closing = line
        if larger.wait() and _stops_early(arguments):
            beside.terminate()
        told.join()
    finally:
        for process in (beside, larger):
            process.terminate()
            process.wait()
    again = _once_more(beside.returncode, failed, arguments)
    print(closing, end="", flush=True)
    return larger.returncode or again


def _once_more(status: int, failed: list[str], arguments: list[str]) -> int:
    """Tell what failed on clusters, and run it alone; returns the exit status that counts."""
    if not status:
        return 0
    print("\nOf the tests on a cluster:", *failed, "", sep="\n", flush=True)
    if status != pytest.ExitCode.TESTS_FAILED or _stops_early(arguments):
        return status
    command = [*PYTEST, "-q", *REMEMBERED, *ALONE, *arguments, *APART]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _started(command: list[str]) -> "subprocess.Popen[str]":
    unset = "PYTHONDONTWRITEBYTECODE"  # hundreds of processes import the same sources
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != unset},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def _tell(beside: "subprocess.Popen[str]", failed: list[str]) -> None:
    """What the part beside says, when it says it: its failures and its end, not its dots."""
    line = ""
    for line in _lines(beside):
        if line.startswith(("FAILED ", "ERROR ")):
            failed.append(line.rstrip())
        if not _PROGRESS.fullmatch(line.strip()):
            print(f"\n[cluster] {line.rstrip()}", end="", flush=True)
    failed.append(line.rstrip())  # how many
    print(flush=True)


def _stops_early(arguments: list[str]) -> bool:
    return any(each == "-x" or each.startswith(("--exitfirst", "--maxfail")) for each in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
