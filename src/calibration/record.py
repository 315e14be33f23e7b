"""The record of a calibration, ``calibration.json``, and what of it MLflow shows."""

import contextlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src.calibration.experiments.plan import Experiment, experiment
from src.calibration.summary import Status, Summary, found_rate
from src.records.mlflow.content import identity_text
from src.records.record import write_json

SCHEMA_VERSION = 1
RECORD_NAME = "calibration.json"
EXPERIMENTS_NAME = "experiments.jsonl"


@dataclass(frozen=True)
class Calibration:
    """One calibration of one device."""

    device: dict[str, Any]
    environment: dict[str, Any]  # versions, commit, host
    config: dict[str, Any]  # resolved
    summary: Summary
    started_at: str
    finished_at: str
    interrupted: bool = False
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def passed(self) -> bool:
        """Whether all requirements are met."""
        return self.summary.status is Status.MET and not self.interrupted


def write_record(done: Calibration, folder: Path) -> None:
    """Write ``calibration.json``, with what MLflow is told of it."""
    tracked = {"tags": tags(done), "metrics": metrics(done)}
    write_json(folder / RECORD_NAME, asdict(done) | {"passed": done.passed, "tracked": tracked})


def read_experiments(path: Path) -> list[Experiment]:
    """The experiments that reached the disk, without their rounds; a line cut short by a kill is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            content = json.loads(line)
            content.pop("rounds")
            found.append(experiment(content))
    return found


def tags(done: Calibration) -> dict[str, str]:
    """What readers of MLflow look for: device, whether it passed and what failed, and of which instrument."""
    summary = done.summary
    found = {
        "device": str(done.device["name"]),
        "device_identity": identity_text(done.device),
        "passed": str(done.passed).lower(),
        "status": str(summary.status),
        "failed": "; ".join(f"{each.text}: {each.measured}, {each.limit}" for each in summary.failed),
        "protocol": str(done.environment.get("protocol", "")),
        "measure": str(done.config["measure"]["name"]),
        "aa": f"{summary.false_rate.hits} of {summary.false_rate.of}",
    }
    return {name: text for name, text in found.items() if text}


def metrics(done: Calibration) -> dict[str, float]:
    """MLflow's headline numbers; relative differences and rates are shares, not percent."""
    summary, preset = done.summary, done.summary.preset
    found = {"experiments": float(summary.experiments), "crowded": float(summary.crowded)}
    if summary.false_rate.of:
        found["aa_false_rate"] = summary.false_rate.value
    for group in summary.groups:
        if group.slowdown:
            found[found_rate(group.slowdown)] = group.hurts.value
        else:
            found["aa_coverage"] = group.coverage.value
            found |= {} if group.spread is None else {"aa_spread": group.spread}
    means = {
        "harness_bias": summary.harness,
        "built_second": summary.built_second,
        "second_arm": summary.second_arm,
    }
    found |= {name: mean.value for name, mean in means.items() if mean is not None}
    if summary.timer_ns:
        found |= {
            "timer_ns": summary.timer_ns["per_round_ns"],
            "timer_call_ns": summary.timer_ns["per_call_ns"],
        }
    if preset:
        found |= {"seconds_per_comparison": preset.seconds_median, "half_width": preset.half_width_median}
    return {f"calibration/{name}": value for name, value in found.items()}
