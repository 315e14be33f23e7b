"""What one call allocates, as a snapshot for PyTorch's memory viewer (pytorch.org/memory_viz).

On CUDA the allocator keeps such a history itself. For a CPU torch has none: the same format is built here from the
profiler's memory events (the format: torch.cuda.memory._snapshot; its reader: torch/utils/viz/MemoryViz.js).
"""

import pickle
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from src.devices.device import Device
from src.timers.timer import Call
from src.workloads.weights.parameters import stored

_MAX_EVENTS = 200_000  # of the CUDA history; a call of a large model has some thousands
_PROTOCOL = 4  # the viewer reads 2 to 4
_NEAR_BYTES = 2**20  # allocations closer than this are drawn as one segment
_PYTHON = re.compile(r"^(.+)\((\d+)\): (.+)$")  # the profiler's name of a Python frame

Frame = dict[str, Any]


def write_snapshot(call: Call, module: nn.Module, device: Device, path: Path) -> None:
    """Call once and write what was allocated and freed meanwhile, and what there was before.

    Args:
        call: one call, compiled and warm.
        module: whose weights stand in the snapshot of a CPU by name.
    """
    found = _cuda_snapshot(call) if device.kind == "cuda" else _cpu_snapshot(call, module)
    with path.open("wb") as file:
        pickle.dump(found, file, protocol=_PROTOCOL)


def _cuda_snapshot(call: Call) -> dict[str, Any]:
    memory = torch.cuda.memory
    memory._record_memory_history(
        "all", context="alloc", stacks="python", max_entries=_MAX_EVENTS, clear_history=True
    )
    try:
        output = call()
        torch.cuda.synchronize()
        found: dict[str, Any] = memory._snapshot()
        del output
    finally:
        memory._record_memory_history(None)
    return found


def _cpu_snapshot(call: Call, module: nn.Module) -> dict[str, Any]:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, with_stack=True) as profiler:
        output = call()
    results = profiler.profiler.kineto_results if profiler.profiler else None
    tree = results.experimental_event_tree() if results else []
    events = sorted(_memory_events(tree), key=lambda event: event["time_us"])
    del output
    living: dict[int, dict[str, Any]] = {block["addr"]: block for block in _weights(module)}
    extents = [(block["addr"], block["size"]) for block in living.values()]
    for event in events:
        extents.append((event["addr"], event["size"]))
        if event["action"] == "alloc":
            living[event["addr"]] = event
        else:
            living.pop(event["addr"], None)
    return {"device_traces": [events], "segments": _segments(extents, living), "allocator_settings": {}}


def _memory_events(nodes: list[Any]) -> Iterator[dict[str, Any]]:
    """Allocations (size > 0) and releases on the CPU below these nodes of the profiler's event tree."""
    for node in nodes:
        yield from _memory_events(node.children)
        if node.tag.name != "Allocation" or node.extra_fields.device.type != "cpu":
            continue
        size = node.extra_fields.alloc_size
        yield {
            "action": "alloc" if size > 0 else "free_completed",
            "addr": node.extra_fields.ptr,
            "size": abs(size),
            "stream": 0,
            "time_us": node.start_time_ns // 1000,
            "frames": [_frame(name) for name in _callers(node)],
        }


def _callers(node: Any) -> Iterator[str]:
    while (node := node.parent) is not None:
        yield node.name


@cache  # one object per frame: the file names each once
def _frame(name: str) -> Frame:
    found = _PYTHON.match(name)
    if found:
        return {"filename": found[1], "line": int(found[2]), "name": found[3]}
    return {"filename": "op", "line": 0, "name": name}


def _weights(module: nn.Module) -> Iterator[dict[str, Any]]:
    """The storages of parameters and buffers, looking inside quantized tensors, each once."""
    seen: set[int] = set()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        for inner, part in stored(name, tensor):
            storage = part.untyped_storage()
            if storage.nbytes() and storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                frames = [{"filename": "weights", "line": 0, "name": inner}]
                yield {"addr": storage.data_ptr(), "size": storage.nbytes(), "frames": frames}


def _segments(extents: list[tuple[int, int]], living: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Segments that hold every address, and at the end of the call the living blocks and the gaps between them."""
    bounds: list[list[int]] = []
    for addr, size in sorted(extents):
        if bounds and addr <= bounds[-1][1] + _NEAR_BYTES:
            bounds[-1][1] = max(bounds[-1][1], addr + size)
        else:
            bounds.append([addr, addr + size])
    segments = []
    for start, end in bounds:
        held = [living[addr] for addr in sorted(living) if start <= addr < end]
        segments.append(
            {
                "device": 0,
                "address": start,
                "total_size": end - start,
                "allocated_size": sum(block["size"] for block in held),
                "active_size": sum(block["size"] for block in held),
                "requested_size": sum(block["size"] for block in held),
                "stream": 0,
                "segment_type": "large",
                "segment_pool_id": (0, 0),
                "frames": [],
                "blocks": list(_blocks(start, end, held)),
            }
        )
    return segments


def _blocks(start: int, end: int, held: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Blocks without a gap: the viewer finds a block's address by adding up sizes."""
    reached = start
    for block in held:
        if block["addr"] > reached:
            yield _block(reached, block["addr"] - reached, "inactive", [])
        yield _block(block["addr"], block["size"], "active_allocated", block["frames"])
        reached = block["addr"] + block["size"]
    if reached < end:
        yield _block(reached, end - reached, "inactive", [])


def _block(address: int, size: int, state: str, frames: list[Frame]) -> dict[str, Any]:
    return {"address": address, "size": size, "requested_size": size, "state": state, "frames": frames}
