"""Kill -9 at random, of a sweep's process or of one that measures or compiles its runs: what is on disk afterwards?

    python -m benchmarks.kills [--kills 200] [--seed 0] [--compiled]

First one sweep is timed whole; each kill falls at a random moment of the later seven eighths of that time, and may
find that the sweep has ended. After each kill the same command runs again. Every run must then have a record, each
record must lie in the folder of its own configuration, and none may have been measured twice without need.
Prints the counts.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SWEEP = (
    "model=linear",
    "model.dims={M:4,K:64,N:64},{M:8,K:64,N:64}",
    "quant=int8wo,int8dq,none",
    "gpu=cpu",
    "measure.budget_s=0.2",
    "measure.max_warmup_s=0.05",
    "measure.min_pairs=8",
    "measure.ceilings=false",
    "tracking=none",
    "launch.share=auto",
)
EAGER = ("compile=none",)
COMPILED = ("compile=default", "launch.compile_ahead=always", "measure.warm_compile=false")
RUNS = 6


def main() -> None:
    """Kill, run again, look; until so many were killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compiled", action="store_true", help="with processes that compile ahead, killed as well"
    )
    args = parser.parse_args()
    chance, counts = random.Random(args.seed), Counter[str]()
    lasts_s = _whole_sweep_s(args.compiled)
    print(f"a sweep lasts {lasts_s:.0f} s", flush=True)
    for number in range(args.kills):
        with tempfile.TemporaryDirectory() as folder:
            killed = killed_at_random(
                Path(folder), chance.uniform(lasts_s / 8, lasts_s), chance, args.compiled
            )
            counts[f"killed: {killed}"] += 1
            completed = _start(Path(folder), args.compiled).wait()
            counts.update(f"wrong: {what}" for what in wrong(Path(folder)))
            counts["wrong: the second command failed"] += completed != 0
        print(f"{number + 1}/{args.kills}", dict(counts), flush=True)


def killed_at_random(outputs: Path, after_s: float, chance: random.Random, compiled: bool) -> str:
    """Start the sweep and kill one of its processes; returns which, once all of them are gone."""
    driver = _start(outputs, compiled)
    until = time.monotonic() + after_s
    while driver.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    runs = _descendants(driver.pid)
    victim = chance.choice(["driver", "run"]) if runs else "driver"
    if driver.poll() is not None:
        return "nothing, it had ended"
    os.kill(driver.pid if victim == "driver" else chance.choice(runs), signal.SIGKILL)
    driver.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in runs):
        time.sleep(0.05)
    return victim


def wrong(outputs: Path) -> list[str]:
    """What is not as it should be."""
    found, ended, standing = [], set[str](), Counter[str]()
    for config in outputs.glob("runs/*/*/config.yaml"):
        record = config.with_name("record.json")
        if not record.exists():
            continue  # of a driver that was killed
        content, asked = json.loads(record.read_text()), yaml.safe_load(config.read_text())
        own = (content["run_key"], f"{content['attempt']:03d}") == record.parts[-3:-1]
        if not own or content["axes"]["quant"] != asked["quant"]["name"]:
            found.append("a record in another run's folder")
        elif content["shape"] not in ({}, asked["model"]["dims"]):
            found.append("a record of another shape")
        if content["outcome"] == "ok":
            ended.add(content["run_key"])
            standing[content["run_key"]] += not content["details"]["withheld"]  # measured again by design
    found += ["runs without a record"] * (len(ended) < RUNS)
    return found + ["a run measured twice"] * sum(number > 1 for number in standing.values())


def _whole_sweep_s(compiled: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        _start(Path(folder), compiled).wait()
        return time.monotonic() - began


def _start(outputs: Path, compiled: bool) -> subprocess.Popen[bytes]:
    options = COMPILED if compiled else EAGER
    command = [sys.executable, "-m", "src.run", "-m", *SWEEP, *options, f"outputs={outputs}"]
    with (outputs / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def _descendants(driver: int) -> list[int]:
    """The processes of the driver's runs: children of its fork server."""
    servers = _children(driver)
    return [pid for server in servers for pid in _children(server)]


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if stat.read_text(errors="replace").rpartition(")")[2].split()[1] == str(parent):
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
