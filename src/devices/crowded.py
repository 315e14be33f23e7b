"""An out-of-memory on a GPU that others use as well: it says nothing of the device."""

import re

from src.devices.device import GIB, Device
from src.devices.monitor import Holder, NvmlMonitor, open_monitor
from src.records.record import Outcome, Record

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": GIB}
_LACKS = re.compile(r"Tried to allocate ([\d.]+) (\w+)\b.*? of which ([\d.]+) (\w+) is free", re.DOTALL)
_ALONE = "the same command once nobody else uses the device (launch.compile_ahead=never); else "


def withhold_if_crowded(record: Record, device: Device) -> None:
    """Say it of a run that ran out of a GPU's memory beside others who held it: the next sweep measures it again.

    A sweep's own processes that compile ahead are among them. Where others hold less than what was lacking, as torch
    told it, the run would have ended so without them too.

    Args:
        record: of the run, its outcome decided; its process still has the device.
    """
    if record.outcome is not Outcome.OOM or device.kind != "cuda" or "CUDA" not in record.reason:
        return
    monitor = open_monitor(device)
    holders = monitor.holders() if isinstance(monitor, NvmlMonitor) else []
    if not holders or _would_lack(record.reason, holders):
        return
    record.details["withheld"] = True
    record.reason += f"; others held memory of the device: {', '.join(each.words for each in holders)}"
    record.remedy = _ALONE + record.remedy


def _would_lack(said: str, holders: list[Holder]) -> bool:
    """Whether what was asked for is more than what was free and what others hold; False where that is not known."""
    found = _LACKS.search(said)
    held = [each.bytes for each in holders]
    if not found or None in held or not {found[2], found[4]} <= _UNITS.keys():
        return False
    lacking = float(found[1]) * _UNITS[found[2]] - float(found[3]) * _UNITS[found[4]]
    return lacking > sum(each or 0 for each in held)
