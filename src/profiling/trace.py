"""A trace of one call by torch's profiler, for Perfetto (ui.perfetto.dev)."""

from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from src.devices.device import Device
from src.timers.timer import Call


def write_trace(call: Call, device: Device, path: Path) -> None:
    """Call twice under the profiler, the first time to warm it up, and write the second one's trace.

    Args:
        call: one call, compiled and warm.
        device: where it runs; on CUDA its kernels are traced beside the CPU's ops.
        path: of the gzipped chrome trace, ending in ``.json.gz``.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.kind == "cuda")
    with profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=1, active=1, repeat=1),
        record_shapes=True,
        acc_events=True,
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
    ) as profiler:
        for _ in range(2):
            call()
            device.synchronize()
            profiler.step()
