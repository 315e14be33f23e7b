"""The device that a run would find: this machine's own, or one that conf/gpu describes."""

import math
from dataclasses import dataclass

from hydra.utils import get_class

from src.config.schema.root import GpuConf
from src.devices.device import Device
from src.outcomes import RunEndedError


@dataclass(frozen=True)
class Card:
    """What is known of a device before a run opens it; `device` is None where nothing is."""

    device: Device | None
    here: bool  # opened on this machine
    source: str  # where the knowledge is from, in words
    remedy: str = ""

    @property
    def memory_gib(self) -> float | None:
        """GiB that it has; None: not known."""
        memory = math.nan if self.device is None else self.device.memory_gib
        return None if math.isnan(memory) else memory


def card_of(gpu: GpuConf, *, elsewhere: bool = False) -> Card:
    """The card that a run asks for.

    Args:
        elsewhere: the run would be on another machine, so that this one's device says nothing about it unless
            the entry itself says nothing.
    """
    if elsewhere and gpu.compute_capability is not None:
        return Card(_described(gpu), here=False, source=f"conf/gpu/{gpu.name}.yaml")
    try:
        opened: Device = get_class(gpu._target_)(gpu).open()
    except RunEndedError as end:
        if gpu.compute_capability is None:
            return Card(None, here=False, source=end.reason, remedy=end.remedy)
        return Card(_described(gpu), here=False, source=f"conf/gpu/{gpu.name}.yaml")
    except Exception as error:  # of a device of the user's own
        said = " ".join(str(error).split())[:200]
        return Card(
            None, here=False, source=f"gpu={gpu.name} cannot be opened: {type(error).__name__}: {said}"
        )
    return Card(opened, here=True, source="this machine's, taken for theirs" if elsewhere else "this machine")


def _described(gpu: GpuConf) -> Device:
    return Device(
        kind="cuda",
        name=gpu.description or gpu.name,
        memory_gib=math.nan if gpu.memory_gib is None else gpu.memory_gib,
        compute_capability=gpu.compute_capability,
    )
