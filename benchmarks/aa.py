"""A/A: how often the instrument sees a difference where there is none.

    python benchmarks/aa.py [--runs 60] [overrides ...]

Runs `quant=none` (the baseline against itself) under many seeds, each in a process of its own, on this machine's
default device, and counts the verdicts. A false verdict is `helps` or `hurts`; at most 5 % may be.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the sweep and print the counts; exit status 1 with more than 5 % false verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--outputs", default="outputs/aa")
    given, overrides = parser.parse_known_args()
    seeds = f"seed=range(0,{given.runs})"
    fixed = [
        "quant=none",
        seeds,
        "measure.budget_s=5",
        "measure.warm_compile=false",
        f"outputs={given.outputs}",
    ]
    command = [sys.executable, "-m", "src.run", "-m", *fixed, *overrides]
    subprocess.run(command, cwd=ROOT, check=True)
    newest = max(
        (ROOT / given.outputs / "sweeps").glob("*/sweep.json"), key=lambda path: path.stat().st_mtime
    )
    folders = [ROOT / given.outputs / run["folder"] for run in json.loads(newest.read_text())["runs"]]
    records = [json.loads((folder / "record.json").read_text()) for folder in folders]
    verdicts = Counter(record["verdict"] or record["outcome"] for record in records)
    false = verdicts["helps"] + verdicts["hurts"]
    covered = sum(
        r["metrics"]["speedup/ci_low"] <= 1 <= r["metrics"]["speedup/ci_high"]
        for r in records
        if r["verdict"]
    )
    print(f"{len(records)} A/A runs: {dict(verdicts)}")
    print(f"false verdicts: {false} of {len(records)} ({false / len(records):.1%}; at most 5 % may be)")
    print(f"interval holds 1: {covered} of {len(records)} ({covered / len(records):.1%}; 95 % should)")
    return int(false > 0.05 * len(records))


if __name__ == "__main__":
    sys.exit(main())
