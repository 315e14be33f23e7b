"""How far a plan's device time is from what its runs then take, once a run of the kind was measured.

    python -m benchmarks.plans [OVERRIDE ...]

First one run, which compiles; then the same again, other schemes of its workload (compiled for the first time), and
those again. Before each the plan is asked, and its sum is compared with what the records of the runs say. Without
overrides the workload is one block of flux-tiny. A machine that is busy at one time and not at another is no plan's
fault: run it on a quiet one.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKLOAD = (
    "model=flux-tiny",
    "target=block",
    "compile=regional",
    "gpu=cpu",
    "measure.budget_s=3",
    "tracking=none",
)
STEPS = {
    "the first run, by a guess": "int8wo",
    "the same again": "int8wo",
    "other schemes of its workload": "int8dq,float8wo,uint4wo",
    "those again": "int8dq,float8wo,uint4wo",
}


def command(outputs: Path, overrides: Sequence[str], quant: str) -> list[str]:
    """A sweep over schemes."""
    asked = [*overrides, f"quant={quant}", "rerun=true", f"outputs={outputs}"]
    return [sys.executable, "-m", "src.run", "-m", *asked]


def predicted_s(asked: Sequence[str]) -> tuple[float, str]:
    """Seconds that the plan says, and which share of them is rounds."""
    text = subprocess.run([*asked, "plan=true"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.search(r"device hours in all(?:, (\S+) of them rounds)?.*: about (.*)$", text, re.MULTILINE)
    assert found, text
    return seconds_of(found[2]), found[1] or ""


def seconds_of(words: str) -> float:
    """Of a duration as a plan says it: 1 h 02 min, 3 min 20 s."""
    units = {"h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)\b", words))


def taken_s(outputs: Path, known: set[Path]) -> tuple[float, float]:
    """Seconds of the runs that are new in the folder, and of their rounds."""
    whole_s = rounds_s = 0.0
    for path in set(outputs.glob("runs/*/*/record.json")) - known:
        known.add(path)
        record = json.loads(path.read_text())
        began, ended = (datetime.fromisoformat(record[name]) for name in ("started_at", "finished_at"))
        whole_s += (ended - began).total_seconds()
        rounds_s += sum(record["phases_s"].get(name, 0.0) for name in ("measure", "power blocks"))
    return whole_s, rounds_s


def main(overrides: Sequence[str]) -> None:
    """Print the table as markdown."""
    print("| runs | predicted s | rounds | took s | rounds | took / predicted |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="quantpay-plans-") as folder:
        outputs, known = Path(folder), set[Path]()
        for name, quant in STEPS.items():
            asked = command(outputs, overrides, quant)
            said_s, share = predicted_s(asked)
            subprocess.run(asked, cwd=ROOT, capture_output=True, check=False)
            whole_s, rounds_s = taken_s(outputs, known)
            row = (
                name,
                f"{said_s:.0f}",
                share,
                f"{whole_s:.1f}",
                f"{rounds_s / whole_s:.0%}",
                f"{whole_s / said_s:.2f}",
            )
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or WORKLOAD)
