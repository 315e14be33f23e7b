"""What the host takes to launch a call, beside what the device takes to compute it. CUDA only."""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from src.devices.device import Device
from src.timers.blocked import BlockedTimer, Call
from src.timers.timer import cache_flusher

_SPENT_MS = 1000.0  # on the calls of one arm, where they are quick
_CALLS = 20  # at most
_FIRST_CALLS = 3  # if none of them was launched ahead, no other will be
_ATTEMPTS = 2  # the host's time is known beforehand
_CLEAR = 0.05  # waiting share of a call that could not be launched ahead


@dataclass(frozen=True)
class HostTime:
    """One arm's call: milliseconds of the host and of the device, medians over several calls.

    `host_ms` is how long the host takes to launch the call while the device does not hold it up; `device_ms` what
    the device takes when nothing waits for the host; `wall_ms` how long the call lasts where it is used: as measured
    for a whole model; for a part of one the longer of the two, since a host that is slower sets the pace.

    With `ahead` False the host could not launch all of a call before the device began (more kernels than the launch
    queue holds, or a call that waits for the device): then both times are upper bounds, and the waiting share is a
    lower one.
    """

    host_ms: float
    device_ms: float
    wall_ms: float
    ahead: bool = True

    @property
    def bound(self) -> bool:
        """Whether the host sets the pace: launching takes longer than computing; of bounds, clearly longer."""
        return self.host_ms > self.device_ms and (self.ahead or self.waiting_share > _CLEAR)

    @property
    def waiting_share(self) -> float:
        """The part of a call, where it is used, in which the device waits for the host: 0 to 1."""
        return min(1.0, max(0.0, 1 - self.device_ms / self.wall_ms))

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self) | {"bound": self.bound, "waiting_share": round(self.waiting_share, 4)}


def host_time(
    call: Call, device: Device, *, cold: bool = False, wall_ms: float | None = None
) -> HostTime | None:
    """Measure both times of a call that was called before; None on a CPU, where there is nothing to launch.

    It takes about a second, or one and a half of slow calls.

    Args:
        cold: flush the caches before each call, as it was timed.
        wall_ms: of a call where it is used; None: `call` is a part of a model.
    """
    if device.kind != "cuda":
        return None
    unblocked_ms = _unblocked_ms(call)
    timer = BlockedTimer(cache_flusher(device) if cold else None, attempts=_ATTEMPTS)
    timer.expect(call, unblocked_ms)
    lasts_ms = max(unblocked_ms, wall_ms or 0.0, 1e-3)
    calls = max(1, min(_CALLS, int(_SPENT_MS / lasts_ms)))
    taken = timer.take(call, min(_FIRST_CALLS, calls))
    if any(each.ahead for each in taken):
        taken += timer.take(call, calls - len(taken))
    ahead = [each for each in taken if each.ahead]
    device_ms = statistics.median(each.device_ms for each in ahead or taken)
    host_ms = statistics.median(each.host_ms for each in ahead) if ahead else unblocked_ms
    return HostTime(
        round(host_ms, 4), round(device_ms, 4), wall_ms or max(host_ms, device_ms), ahead=bool(ahead)
    )


def _unblocked_ms(call: Call) -> float:
    """Host time of a call that finds the device idle: the shorter of two; it may wait for the device inside."""
    found = []
    for _ in range(2):
        torch.cuda.synchronize()
        torch.compiler.cudagraph_mark_step_begin()
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) * 1e3)
    torch.cuda.synchronize()
    return min(found)
