"""The files of a calibration: ``calibration.json``, ``experiments.csv``, ``report.html``."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from src.calibration.plan import Experiment
from src.calibration.summary import Summary
from src.records.record import write_json

SCHEMA_VERSION = 1
RECORD_NAME = "calibration.json"


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
        return self.summary.status == "met" and not self.interrupted


def write_calibration(done: Calibration, experiments: Sequence[Experiment], folder: Path) -> None:
    """Write the three files; the record first."""
    from src.calibration.report import write_report

    write_json(folder / RECORD_NAME, asdict(done) | {"passed": done.passed})
    rows = [asdict(each) for each in experiments]
    pd.DataFrame(rows).to_csv(folder / "experiments.csv", index=False)
    write_report(done, experiments, folder)
