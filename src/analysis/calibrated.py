"""Which devices were calibrated, as the tracked experiment tells it (`python -m src.calibrate`)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from src.records.record import Record

if TYPE_CHECKING:
    from mlflow.entities import Run

COMMAND = "python -m src.calibrate"


@dataclass(frozen=True)
class Calibrated:
    """The newest calibration of a device."""

    device: str
    date: str
    status: str  # met, not met, undecided
    passed: bool
    failed: str  # the requirements that are not met, with what was measured
    false: str  # A/A pairs that came out helps or hurts: 0 of 60
    protocol: str
    measure: str  # the preset

    @property
    def text(self) -> str:
        """For the report's protocol section."""
        how = "passed" if self.passed else self.status
        return f"{self.device}: {self.date}, {how}, measure={self.measure}; equal copies told apart: {self.false}"


def newest(runs: "Iterable[Run]") -> dict[str, Calibrated]:
    """The newest calibration of each device; `runs` come newest first."""
    found: dict[str, Calibrated] = {}
    for run in runs:
        tags = run.data.tags
        moment = datetime.fromtimestamp(run.info.start_time / 1e3, tz=UTC)
        each = Calibrated(
            device=tags.get("device", ""),
            date=f"{moment:%Y-%m-%d}",
            status=tags.get("status", ""),
            passed=tags.get("passed") == "true",
            failed=tags.get("failed", ""),
            false=tags.get("aa", "unknown"),
            protocol=tags.get("protocol", ""),
            measure=tags.get("measure", ""),
        )
        found.setdefault(each.device, each)
    return found


def warnings(
    devices: Iterable[str], calibrations: dict[str, Calibrated], records: Iterable[Record]
) -> Iterator[str]:
    """What is to be said of the calibration of devices that speedups were measured on."""
    records = list(records)
    for device in dict.fromkeys(devices):
        found = calibrations.get(device)
        if found is None:
            yield f"{device} has no calibration here: {COMMAND} on it shows whether its numbers can be trusted."
            continue
        if not found.passed:
            why = found.failed or f"{found.status}, too little was measured to say"
            yield f"The newest calibration of {device} ({found.date}) did not pass: {why}; {COMMAND} repeats it."
        of_runs = {str(r.environment.get("protocol")) for r in records if r.device.get("name") == device}
        if others := sorted(of_runs - {found.protocol, "None"}):
            yield (
                f"{device} was calibrated with measurement protocol {found.protocol}, its runs were made with "
                f"{', '.join(others)}: {COMMAND} calibrates the present one."
            )
