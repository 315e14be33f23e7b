import gc
import platform
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from src.devices.device import GIB, Device
from src.measurement.memory import Peaks, fits_twice, peak_memory

MIB = 2**20
CUDA = Device(kind="cuda", name="a GPU", memory_gib=80.0)


def touched(mib):
    return torch.ones(mib * MIB, dtype=torch.uint8)


def test_each_phase_has_its_own_peak(cpu):
    with peak_memory(cpu) as before:
        pass
    if not before.gib:
        pytest.skip("this container forbids resetting the peak")
    with peak_memory(cpu) as large:
        touched(200)
    with peak_memory(cpu) as small:
        touched(1)
    grown = (large.gib["rss"] - before.gib["rss"]) * 1024
    assert 150 < grown < 300
    assert large.gib["rss"] - small.gib["rss"] > 0.15
    assert large.of_the_phase().gib == large.gib


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no malloc_trim")
def test_a_peak_does_not_count_what_was_freed_before(cpu):
    """Blocks too small for malloc to map by themselves, and one behind them that keeps its heap from shrinking."""
    with peak_memory(cpu) as held:
        blocks = [torch.ones(100 * 2**10, dtype=torch.uint8) for _ in range(2000)]
        behind = torch.ones(100 * 2**10, dtype=torch.uint8)
    if not held.gib:
        pytest.skip("this container forbids resetting the peak")
    del blocks
    with peak_memory(cpu) as freed:
        assert behind.all()
    assert held.gib["rss"] - freed.gib["rss"] > 0.15


def test_a_peak_does_not_count_quantized_layers_that_nobody_holds(cpu):
    """They refer to themselves: a collection alone frees them."""
    layer = torch.nn.Linear(64, 64)
    quantize_(layer, Int8WeightOnlyConfig(version=2))
    gone = weakref.ref(layer)
    gc.disable()
    try:
        del layer
        assert gone() is not None
        with peak_memory(cpu):
            assert gone() is None
    finally:
        gc.enable()


def test_a_peak_is_read_when_the_phase_fails(cpu):
    with pytest.raises(RuntimeError, match="inside"), peak_memory(cpu) as peaks:
        raise RuntimeError("inside")
    assert set(peaks.gib) <= {"rss"}


def test_no_peak_where_it_cannot_be_reset(cpu, monkeypatch):
    def forbidden(self, text):
        raise PermissionError(self)

    monkeypatch.setattr(Path, "write_text", forbidden)
    with peak_memory(cpu) as peaks:
        touched(1)
    assert peaks.gib == {}
    assert peaks.metrics("") == {}
    assert peaks.phase_metrics("build") == {}


def test_less_what_another_arm_held():
    peaks = Peaks({"allocated": 3.0, "reserved": 0.25}).less(GIB // 2)
    assert peaks.gib == {"allocated": 2.5, "reserved": 0.0}


def test_names_of_metrics():
    assert Peaks({"rss": 1.23456}).metrics("baseline_") == {"memory/baseline_peak_rss_gib": 1.2346}
    assert Peaks({"allocated": 1.0, "reserved": 2.0}).metrics("") == {
        "memory/peak_allocated_gib": 1.0,
        "memory/peak_reserved_gib": 2.0,
    }
    assert Peaks({"allocated": 1.0, "reserved": 2.0}).phase_metrics("quantize") == {
        "memory/quantize_peak_gib": 1.0,
        "memory/quantize_peak_reserved_gib": 2.0,
    }
    assert Peaks({"rss": 1.0}).phase_metrics("build") == {"memory/build_peak_gib": 1.0}


def test_cuda_peaks_are_reset_before_and_read_after(monkeypatch):
    log = []
    fakes = {
        "synchronize": lambda: log.append("synchronize"),
        "empty_cache": lambda: log.append("empty"),
        "reset_peak_memory_stats": lambda: log.append("reset"),
        "memory_allocated": lambda: GIB,
        "memory_reserved": lambda: 1.5 * GIB,
        "max_memory_allocated": lambda: 3 * GIB,
        "max_memory_reserved": lambda: 4 * GIB,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    with peak_memory(CUDA) as peaks:
        log.append("inside")
    assert log == ["synchronize", "empty", "reset", "inside", "synchronize"]
    assert peaks.gib == {"allocated": 3.0, "reserved": 4.0}
    assert peaks.of_the_phase().gib == {"allocated": 2.0, "reserved": 2.5}  # another run's stays out


@pytest.mark.parametrize(("model_gib", "fits"), [(10, True), (31, True), (33, False)])
def test_a_second_copy_fits_on_a_gpu(monkeypatch, model_gib, fits):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (40 * GIB, 80 * GIB))
    assert fits_twice(model_gib * GIB, CUDA) == fits


@pytest.mark.parametrize(("model_gib", "fits"), [(1, True), (6, True), (8, False)])
def test_a_second_copy_fits_in_memory(cpu, monkeypatch, model_gib, fits):
    meminfo = SimpleNamespace(read_text=lambda: f"MemTotal: 1 kB\nMemAvailable:   {10 * MIB} kB\n")
    monkeypatch.setattr("src.measurement.memory.Path", lambda _: meminfo)
    assert fits_twice(model_gib * GIB, cpu) == fits
