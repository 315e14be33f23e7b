"""Which devices were calibrated, as the tracked experiment tells it (`python -m src.calibrate`)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from src.analysis.runs.devices import Device
from src.analysis.runs.tracked.local_store import Tagged
from src.config.paths import command


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


def newest(runs: Iterable[Tagged]) -> dict[Device, Calibrated]:
    """The newest calibration of each device, by its name and identity; `runs` come newest first."""
    found: dict[Device, Calibrated] = {}
    for run in runs:
        tags = run.tags
        moment = datetime.fromtimestamp(run.start_ms / 1e3, tz=UTC)
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
        found.setdefault((each.device, tags.get("device_identity", "")), each)
    return found


def warnings(
    devices: dict[Device, str], calibrations: dict[Device, Calibrated], protocols: Mapping[Device, set[str]]
) -> Iterator[str]:
    """What is to be said of the calibration of devices that speedups were measured on.

    Args:
        devices: that they were measured on, with what each is called.
        calibrations: the newest of each device.
        protocols: of the runs' measurements, by device; empty where a record names none.
    """
    again = command("calibrate")
    if without := [device for key, device in devices.items() if key not in calibrations]:
        each = "it" if len(without) == 1 else "each"
        have = (
            f"{without[0]} has"
            if len(without) == 1
            else f"{len(without)} devices ({'; '.join(without)}) have"
        )
        yield f"{have} no calibration here: {again} on {each} shows whether its numbers can be trusted."
    for key, device in devices.items():
        if (found := calibrations.get(key)) is None:
            continue
        if not found.passed:
            why = found.failed or f"{found.status}, too little was measured to say"
            yield f"The newest calibration of {device} ({found.date}) did not pass: {why}; {again} repeats it."
        if others := sorted(protocols.get(key, set()) - {found.protocol, ""}):
            yield (
                f"{device} was calibrated with measurement protocol {found.protocol}, its runs were made with "
                f"{', '.join(others)}: {again} calibrates the present one."
            )
