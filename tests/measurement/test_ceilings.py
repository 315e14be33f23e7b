import errno
import fcntl
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from threading import Barrier

import pytest
import torch

from src.devices.device import Device
from src.devices.load import Load
from src.devices.monitor import Blind, Reading
from src.measurement import ceilings, rates
from src.measurement.ceilings import SCHEMA_VERSION, device_ceilings, measure_ceilings
from src.measurement.rates import RATES, Rate, best_rate
from src.records.locks import locked
from src.records.record import Record, read_record
from src.tasks.arms.ceilings import ceiling_metrics
from tests.conftest import SMALL_LINEAR

MIB = 2**20
CUDA = Device(kind="cuda", name="a GPU", memory_gib=80.0)
ENTRY = {"value": 1.5, "unit": "GB/s", "shape": [8], "windows": [1.5], "spread": 0.0, "tried": {"8": 1.5}}
MEASURED = {"entries": dict.fromkeys(RATES, ENTRY), "crowded": False, "foreign_cpus": 0.0}


@pytest.fixture
def small(monkeypatch):
    """One small matmul, one buffer of a MiB."""
    monkeypatch.setattr(rates, "_PROBES", (32,))
    monkeypatch.setattr(rates, "_SIZES", {"cpu": (64, 128), "cuda": (64,)})
    monkeypatch.setattr(rates, "_LEAST_CACHE_MIB", 0.25)
    monkeypatch.setattr(rates, "_WINDOW_S", 0.001)


@pytest.fixture
def measured(monkeypatch):
    """Nothing is measured; the list grows when it would have been."""
    calls = []

    def fake(device, _):
        calls.append(device)
        return dict(MEASURED)

    monkeypatch.setattr(ceilings, "_apart", fake)
    return calls


# ---- one rate


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", sorted(RATES))
def test_this_machine_reaches_something(cpu, name):
    found = best_rate(RATES[name], replace(cpu, cache_mib=None), budget_s=30)
    if "reason" in found and name.startswith(("float8", "float16")):
        pytest.skip(found["reason"])
    assert math.isfinite(found["value"])
    assert found["value"] > 0
    assert len(found["windows"]) == 5
    assert min(found["windows"]) <= found["value"] <= max(found["windows"])
    assert found["value"] == max(found["tried"].values())
    assert found["unit"] == {"copy": "GB/s", "int8": "TOP/s"}.get(name.split("_")[0], "TFLOP/s")
    sizes = [MIB, 2 * MIB] if name.startswith("copy") else [64, 128]
    assert [int(size) for size in found["tried"]] == sizes
    assert found["shape"][0] in sizes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8, torch.float8_e4m3fn, torch.int64])
def test_operands_are_random_and_the_runs_seed_sees_nothing_of_it(cpu, dtype):
    before = torch.get_rng_state()
    a, b = rates._operands(dtype, 1500, cpu)  # more than the numbers drawn
    assert torch.equal(torch.get_rng_state(), before)
    assert a.shape == b.shape == (1500, 1500)
    assert b.stride() == (1, 1500)  # as a Linear's weight
    assert a.double().unique().numel() > 50
    assert a[-1].double().std() > 0


@pytest.mark.parametrize(("cache_mib", "reckoned_mib"), [(126.0, 126), (None, 64), (1.0, 64)])
def test_a_copied_buffer_is_several_caches(cache_mib, reckoned_mib):
    sizes = rates._sizes(RATES["copy_gb_s"], replace(CUDA, cache_mib=cache_mib))
    assert sizes == [4 * reckoned_mib * MIB, 8 * reckoned_mib * MIB]
    tiny = replace(CUDA, memory_gib=16 / 1024)
    assert rates._sizes(RATES["copy_gb_s"], tiny) == [MIB]


class Clock:
    """A clock that only calls move."""

    def __init__(self):
        self.seconds = 0.0

    def perf_counter(self):
        return self.seconds

    def perf_counter_ns(self):
        return round(self.seconds * 1e9)

    def pass_by(self, seconds):
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(rates, "time", found)
    return found


def of_seconds(clock, seconds, fails_at=math.inf):
    """A rate whose call of size n takes seconds(n); at `fails_at` there is no kernel any more."""

    def make(size, device):
        if size >= fails_at:
            raise RuntimeError("no such kernel\nand a long explanation")
        return lambda: clock.pass_by(seconds(size))

    return Rate("TFLOP/s", make, lambda size: size**3, lambda size: [size])


@pytest.mark.usefixtures("small")
def test_the_best_size_wins_and_a_refusal_ends_it(cpu, clock):
    found = best_rate(of_seconds(clock, lambda size: 0.002, fails_at=128), cpu, budget_s=10)
    assert found["shape"] == [64]
    assert found["ended"] == "RuntimeError: no such kernel"
    assert found["value"] == pytest.approx(64**3 / 0.002, rel=1e-4)


@pytest.mark.usefixtures("small")
def test_what_has_no_kernel_has_a_reason(cpu, clock):
    found = best_rate(of_seconds(clock, lambda _: 0, fails_at=0), cpu, budget_s=10)
    assert found == {"unit": "TFLOP/s", "reason": "RuntimeError: no such kernel", "refused": True}


@pytest.mark.usefixtures("small")
def test_a_naive_kernel_is_given_up_in_time(cpu, clock):
    found = best_rate(of_seconds(clock, lambda size: 0.05 * (size / 32) ** 3), cpu, budget_s=0.5)
    assert clock.seconds < 2
    assert "[64] would take about" in found["reason"]


# ---- all of them


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("foreign_cpus", "crowded"), [(0.0, False), (1.2, True)])
def test_a_busy_machine_is_noted(cpu, monkeypatch, foreign_cpus, crowded):
    load = Load(foreign_cpus=foreign_cpus, cpus=1, seconds=1.0)
    monkeypatch.setattr(ceilings, "cpu_load", lambda: nullcontext(load))
    found = measure_ceilings(cpu, budget_s=1.0)
    assert (found["crowded"], found["foreign_cpus"]) == (crowded, foreign_cpus)
    assert set(found["entries"]) == set(RATES)
    for entry in found["entries"].values():
        assert entry["unit"]
        assert entry.get("value", 0) > 0 or entry["reason"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("neighbours", "slowdowns", "doubts"),
    [
        ([[], []], (), []),
        ([["pid 7"], []], (), ["pid 7"]),
        ([[], ["pid 7"]], (), ["pid 7"]),
        ([[], []], ("HW thermal slowdown",), ["HW thermal slowdown"]),
    ],
)
def test_a_gpu_s_ceilings_are_doubted_for_what_its_monitor_saw(
    cpu, monkeypatch, neighbours, slowdowns, doubts
):
    monitor = Blind("")
    monkeypatch.setattr(monitor, "others", lambda: neighbours.pop(0))
    monkeypatch.setattr(monitor, "read", lambda: Reading({}, slowdowns))
    monkeypatch.setattr(ceilings, "open_monitor", lambda *_, **__: monitor)
    monkeypatch.setattr(ceilings, "RATES", {"float32_tflop_s": RATES["float32_tflop_s"]})
    monkeypatch.setattr(
        ceilings, "cpu_load", lambda: nullcontext(Load(foreign_cpus=5.0, cpus=8, seconds=1.0))
    )
    found = measure_ceilings(
        replace(cpu, threads=None), budget_s=1.0
    )  # of a GPU the host's load says nothing
    assert (found["crowded"], found["doubts"]) == (bool(doubts), doubts)


def test_measured_once_per_device_threads_and_torch(cpu, tmp_path, measured, monkeypatch):
    first, again = device_ceilings(cpu, tmp_path), device_ceilings(cpu, tmp_path)
    assert (first.pop("cached"), again.pop("cached")) == (False, True)
    assert first == again
    assert (first["device"], first["threads"], first["torch"]) == (cpu.name, 1, torch.__version__)
    assert len(measured) == 1
    device_ceilings(replace(cpu, threads=2), tmp_path)
    monkeypatch.setattr(torch, "__version__", "0.0")
    device_ceilings(cpu, tmp_path)
    assert len(measured) == 3
    assert len(list(tmp_path.glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("name", "measures"),
    [
        ("NVIDIA_TF32_OVERRIDE", 2),
        ("ONEDNN_DEFAULT_FPMATH_MODE", 2),
        ("TORCHINDUCTOR_CACHE_DIR", 1),
        ("HOME", 1),
    ],
)
def test_what_was_measured_under_a_variable_is_not_used_without_it(
    cpu, tmp_path, measured, monkeypatch, name, measures
):
    monkeypatch.delenv(name, raising=False)
    device_ceilings(cpu, tmp_path)
    monkeypatch.setenv(name, "1")
    assert [device_ceilings(cpu, tmp_path)["cached"] for _ in range(2)] == [measures == 1, True]
    assert len(measured) == measures


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:40],
        lambda text: "[1]",
        lambda text: "\x00",
        lambda text: text.replace("1.5", "-1.5"),
        lambda text: text.replace('"value"', '"velue"'),
        lambda text: text.replace('"copy_gb_s"', '"copy"'),
        lambda text: text.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 1'),
    ],
)
def test_a_spoilt_file_is_measured_again(cpu, tmp_path, measured, spoil):
    device_ceilings(cpu, tmp_path)
    (path,) = tmp_path.glob("*.json")
    sound = path.read_text()
    path.write_text(spoil(sound))
    assert not device_ceilings(cpu, tmp_path)["cached"]
    assert len(measured) == 2
    assert path.read_text() == sound


def test_what_a_busy_machine_reached_is_not_kept(cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(ceilings, "_apart", lambda *_: MEASURED | {"crowded": True})
    found = device_ceilings(cpu, tmp_path)
    assert found["crowded"]
    assert not list(tmp_path.glob("*.json"))


def test_measuring_that_hangs_costs_the_ceilings_alone(cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(ceilings, "_HANG_S", 0.01)
    found = device_ceilings(cpu, tmp_path)
    assert found["entries"] == {}
    assert "died or was not done after" in found["reason"]
    assert not list(tmp_path.glob("*.json"))
    assert ceiling_metrics(Record("k", 1, "s", {}, ceilings=found)) == {}


def test_two_at_once_measure_once(cpu, tmp_path, monkeypatch):
    """Each opens the lock's file itself, as two processes do."""
    both, measured = Barrier(2), []

    def slow(device, _):
        measured.append(device)
        time.sleep(0.2)
        return MEASURED

    def ask(_):
        both.wait(timeout=60)
        return device_ceilings(cpu, tmp_path)["cached"]

    monkeypatch.setattr(ceilings, "_apart", slow)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, range(2))) == [False, True]
    assert len(measured) == 1


# ---- on CUDA


def test_on_cuda_device_events_are_read(monkeypatch):
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def elapsed_time(self, end):
            return 8.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    assert rates._window_s(lambda: log.append("call"), 2, CUDA) == 0.004
    assert log == ["synchronize", "record", "call", "call", "record", "synchronize"]


def test_on_cuda_nothing_is_left_behind(monkeypatch):
    log = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: log.append("clear"), raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("empty"))
    monkeypatch.setattr(ceilings, "best_rate", lambda *_: ENTRY)
    monkeypatch.setattr(ceilings, "open_monitor", lambda *_, **__: Blind())
    found = ceilings._apart(CUDA, tuple)
    assert log == ["synchronize", "clear", "empty"] * len(RATES)
    assert not found["crowded"]


# ---- in a record


def test_a_run_records_them_and_the_next_one_reads_them(compose, execute_run, tmp_path, monkeypatch):
    monkeypatch.setattr(ceilings, "BUDGET_S", 1.0)
    cfg = compose(*SMALL_LINEAR, "quant=none", "measure.ceilings=true", f"outputs={tmp_path}")
    torch.set_num_threads(1)
    record = execute_run(cfg)
    found = record.ceilings
    assert record.outcome == "ok", record.reason
    assert record.phases_s["ceilings"] > 0
    assert found["threads"] == 1
    assert found["entries"]["copy_gb_s"]["value"] > 0
    shown = {name.removeprefix("ceiling/"): v for name, v in record.metrics.items() if "ceiling/" in name}
    kept = list((tmp_path / "cache" / "ceilings").glob("*.json"))
    if found["crowded"]:
        assert (shown, kept) == ({}, [])
        return
    assert shown == {n: entry["value"] for n, entry in found["entries"].items() if "value" in entry}
    roof = {"copy_gb_s", f"{record.axes['dtype']}_tflop_s"}
    assert ("roofline/fraction" in record.metrics) == (roof <= shown.keys())
    again = execute_run(cfg).ceilings
    assert (len(kept), again.pop("cached"), found.pop("cached")) == (1, True, False)
    assert again == found


def test_a_record_with_ceilings_round_trips(tmp_path):
    record = Record("k", 1, "s", {}, ceilings=MEASURED)
    record.write(tmp_path)
    assert read_record(tmp_path / "record.json").ceilings == MEASURED
    assert ceiling_metrics(record) == {f"ceiling/{name}": 1.5 for name in RATES}


def test_off_means_off(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_LINEAR, "quant=none", f"outputs={tmp_path}"))
    assert record.ceilings == {}
    assert "ceilings" not in record.phases_s
    assert not (tmp_path / "cache").exists()


def test_a_record_of_an_earlier_version_has_none(tmp_path):
    record = Record("k", 1, "s", {})
    content = json.loads(record.write(tmp_path).read_text())
    del content["ceilings"]
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert read_record(tmp_path / "record.json").ceilings == {}


def test_whose_holder_hangs_is_measured_all_the_same(cpu, tmp_path, measured, monkeypatch):
    monkeypatch.setattr(ceilings, "_LOCK_S", 0)
    with locked(lock_of(cpu, tmp_path), 0):
        assert not device_ceilings(cpu, tmp_path)["cached"]
    assert len(measured) == 2


def test_whose_lock_cannot_be_opened_is_measured_all_the_same(cpu, tmp_path, measured):
    lock = lock_of(cpu, tmp_path)
    lock.unlink()
    lock.mkdir()
    assert not device_ceilings(cpu, tmp_path)["cached"]
    assert len(measured) == 2


def test_where_no_file_can_be_locked_it_measures_all_the_same(cpu, tmp_path, measured, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not device_ceilings(cpu, tmp_path)["cached"]
    assert len(measured) == 1


def lock_of(device, folder):
    """The lock's file of a device, as an earlier measurement left it; what that measured is gone."""
    device_ceilings(device, folder)
    (kept,) = folder.glob("*.json")
    kept.unlink()
    return kept.with_suffix(".lock")
