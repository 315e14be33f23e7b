"""What a sweep's time goes into: wall seconds per run, the share in counted rounds, the share the device stood idle.

    python -m benchmarks.economy OUTPUTS                   every sweep that is on disk there
    python -m benchmarks.economy --run sweeps=linear_shapes   measured now, launch.share=never first, then auto

Counted rounds: the calls that a speedup comes from, without warm-up and flushed caches; of runs that were measured
together the baseline's rounds count once. Idle: no phase was on that calls a workload on the device.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
ON_THE_DEVICE = ("measure", "memory", "energy", "power blocks", "host time", "ceilings", "autoquant search")


class Economy(NamedTuple):
    """Of one sweep."""

    share: str  # launch.share
    runs: int
    wall_s: float
    rounds_s: float
    busy_s: float

    def row(self, name: str) -> str:
        """As a line of the table."""
        rounds, idle = self.rounds_s / self.wall_s, max(0.0, 1 - self.busy_s / self.wall_s)
        return f"| {name} | {self.share} | {self.runs} | {self.wall_s / self.runs:.1f} | {rounds:.0%} | {idle:.0%} |"


def main() -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("outputs", nargs="?", type=Path, help="a folder of runs")
    parser.add_argument("--run", nargs="+", metavar="OVERRIDE", help="a sweep to measure in both ways")
    args = parser.parse_args()
    if (args.outputs is None) == (args.run is None):
        parser.error("give a folder of runs, or --run and a sweep")
    print("| sweep | launch.share | runs | s per run | in counted rounds | device idle |")
    print("|---|---|---:|---:|---:|---:|")
    folders = measured(args.run) if args.run else iter([args.outputs])
    for outputs in folders:
        for manifest in sorted(outputs.glob("sweeps/*/sweep.json")):
            economy = of_sweep(outputs, json.loads(manifest.read_text()))
            if economy is not None:
                print(economy.row(manifest.parent.name), flush=True)


def measured(overrides: list[str]) -> Iterator[Path]:
    """The outputs of the sweep in each of the ways, with a compile cache that a first sweep has filled."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "inductor")}
        for name, share in (("filling", "auto"), ("never", "never"), ("auto", "auto")):
            outputs = Path(folder) / name
            options = [f"launch.share={share}", f"outputs={outputs}", "tracking=none"]
            command = [sys.executable, "-m", "src.run", "-m", *overrides, *options]
            with (Path(folder) / f"{name}.log").open("w") as log:
                subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
            if name != "filling":
                yield outputs


def of_sweep(outputs: Path, manifest: dict[str, Any]) -> Economy | None:
    """What the records say; None where nothing was measured."""
    folders = [outputs / run["folder"] for run in manifest["runs"] if not run["skipped"]]
    records = {folder: _read(folder / "record.json") for folder in folders}
    found = {folder: record for folder, record in records.items() if record}
    if not found:
        return None
    ends = [datetime.fromisoformat(record["finished_at"]) for record in found.values()]
    pairs = [_read(path) for path in outputs.glob(f"sweeps/{manifest['sweep']}/equal_pairs/*/record.json")]
    ends += [datetime.fromisoformat(pair["finished_at"]) for pair in pairs if pair]
    wall_s = (max(ends) - datetime.fromisoformat(manifest["started_at"])).total_seconds()
    busy_s = sum(
        seconds
        for record in (*found.values(), *filter(None, pairs))
        for phase, seconds in record["phases_s"].items()
        if phase in ON_THE_DEVICE
    )
    config = yaml.safe_load((next(iter(found)) / "config.yaml").read_text())
    share = config.get("launch", {}).get("share", "never")
    return Economy(share, len(found), wall_s, _rounds_s(found), busy_s)


def _rounds_s(found: dict[Path, dict[str, Any]]) -> float:
    baselines: dict[object, float] = defaultdict(float)
    treated_s = 0.0
    for folder, record in found.items():
        rounds = _read(folder / "rounds.json")
        if not rounds:
            continue
        calls = rounds["calls_per_round"]
        treated_s += sum(rounds["treated_ms"]) * calls[1] / 1e3
        first = tuple(
            rounds["baseline_ms"][:3]
        )  # runs that were measured together have the same rounds of it
        together = rounds.get("arms", 2) > 2
        own_s = sum(rounds["baseline_ms"]) * calls[0] / 1e3
        key = (record["details"]["shared"]["group"], first) if together else folder
        baselines[key] = max(baselines[key], own_s)
    return treated_s + sum(baselines.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


if __name__ == "__main__":
    main()
