"""The fork server imports what runs need without initialising CUDA, which no forked process could use then.

There is no CUDA here: what torch would do with a device is counted, and NVML is one with a Hopper in it.
"""

import sys
import types
from pathlib import Path

import pytest
import torch

from src.processes import preload
from src.processes.children import PRELOAD_VARIABLE

MODULES = {
    "asks_for_the_device": "import torch\nCAPABILITY = torch.cuda.get_device_capability()\n",
    "starts_cuda": "import torch\ntorch._C._cuda_init()\n",
    "needs_neither": "",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """How often CUDA was initialised on this machine, which has a device; the modules can be imported."""
    started: list[str] = []
    hopper = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0),
    )
    monkeypatch.setitem(sys.modules, "pynvml", hopper)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch._C, "_cuda_init", lambda: started.append("started"), raising=False)
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(sys.modules, name, None)  # so that it is removed afterwards
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PRELOAD_VARIABLE, ",".join(MODULES))
    return started


def test_imports_leave_cuda_alone(started: list[str]) -> None:
    before = torch.cuda.get_device_properties
    preload.preload()
    assert not started
    assert sys.modules["asks_for_the_device"].CAPABILITY == (9, 0)
    assert "starts_cuda" not in sys.modules  # the run imports it itself
    assert "needs_neither" in sys.modules
    assert torch.cuda.get_device_properties is before
    torch._C._cuda_init()
    assert started
