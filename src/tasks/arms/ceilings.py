"""The device's measured ceilings, in the record of every run."""

import math
from pathlib import Path

from src.context import RunContext
from src.measurement.ceilings import device_ceilings
from src.records.record import Record


def note_ceilings(run: RunContext) -> None:
    """Put the device's ceilings into the record: measured by the first run on it, read by the others. Once a run."""
    if run.cfg.measure.ceilings and not run.record.ceilings:
        with run.phase("ceilings"):
            folder = Path(run.cfg.outputs) / "cache" / "ceilings"
            run.record.ceilings = device_ceilings(run.device, folder, run.compilers)


def ceiling_metrics(record: Record) -> dict[str, float]:
    """``ceiling/copy_gb_s`` and the like; none of a busy machine, where they would be too low."""
    if not record.ceilings or record.ceilings["crowded"]:
        return {}
    values = {name: entry.get("value", math.nan) for name, entry in record.ceilings["entries"].items()}
    return {f"ceiling/{name}": value for name, value in values.items() if not math.isnan(value)}
