import os
import time
from types import SimpleNamespace

import pytest

from src.devices.load import _TICK_S, Load, _busy_s, cpu_load


def test_this_process_is_not_foreign():
    with cpu_load() as load:
        used = time.process_time()
        while time.process_time() - used < 0.1:
            pass
    assert load.own_cpus * load.seconds == pytest.approx(0.1, abs=0.05)
    assert load.cpus >= 1
    assert load.foreign_cpus >= 0


@pytest.mark.parametrize(
    ("busy_s", "own_s", "foreign_cpus"),
    [(2.0, 2.0, 0.0), (3.0, 2.0, 0.5), (8.0, 2.0, 3.0), (1.9, 2.0, 0.0)],
)
def test_what_is_not_ours_is_foreign(monkeypatch, busy_s, own_s, foreign_cpus):
    """Over two seconds of a clock that the test moves."""
    now = SimpleNamespace(wall=0.0, own=0.0, busy=100.0)
    clocks = SimpleNamespace(perf_counter=lambda: now.wall, process_time=lambda: now.own)
    monkeypatch.setattr("src.devices.load.time", clocks)
    monkeypatch.setattr("src.devices.load._busy_s", lambda _: now.busy)
    with cpu_load() as load:
        now.wall, now.own, now.busy = 2.0, own_s, 100.0 + busy_s
    assert (load.own_cpus, load.seconds) == (own_s / 2, 2.0)
    assert load.foreign_cpus == pytest.approx(foreign_cpus)


@pytest.mark.parametrize(
    ("foreign_cpus", "cpus", "threads", "seconds", "crowded"),
    [
        (0.2, 2, 2, 10, False),
        (0.3, 2, 2, 10, True),
        (1.2, 2, 1, 10, False),
        (1.3, 2, 1, 10, True),
        (0.2, 2, 4, 10, False),
        (0.3, 2, 4, 10, True),
        (6.0, 2, 2, 0.003, False),  # two ticks of 10 ms
    ],
)
def test_crowded_when_others_need_what_the_threads_need(foreign_cpus, cpus, threads, seconds, crowded):
    assert Load(foreign_cpus=foreign_cpus, cpus=cpus, seconds=seconds).crowds(threads) == crowded


@pytest.mark.parametrize(
    ("siblings", "per_core", "crowded"),
    [({}, 1, [False, False, True]), ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, 2, [False, True, True])],
)
def test_a_neighbour_on_a_core_s_other_hardware_thread_takes_from_the_core(
    tmp_path, monkeypatch, siblings, per_core, crowded
):
    """Four CPUs, of four cores or of two; others use two of them while 1, 2 or 3 threads are measured."""
    for cpu, core in siblings.items():
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{core}\n")
    monkeypatch.setattr("src.devices.load.os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    with cpu_load(tmp_path) as load:
        pass
    load.foreign_cpus, load.seconds = 2.0, 10.0
    assert (load.cpus, load.per_core) == (4, per_core)
    assert [load.crowds(threads) for threads in (1, 2, 3)] == crowded
    assert load.in_words() == "2.0 of 4 CPUs" + (" (2 to a core)" if siblings else "")


def test_only_one_cpu_of_each_core_may_be_used(tmp_path, monkeypatch):
    """What others do on the cores' other hardware threads is not seen, and nothing of it is taken off."""
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    monkeypatch.setattr("src.devices.load.os.sched_getaffinity", lambda _: {0, 1})
    with cpu_load(tmp_path) as load:
        pass
    assert (load.cpus, load.per_core) == (2, 1)


def test_only_the_cpus_that_this_process_may_use_count(tmp_path):
    """A slot of a machine with several GPUs has its share of the cores; what others do elsewhere is no matter."""
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 50 60 4 5 6 0 0\ncpu1 9 9 9 9 9 9 9 9 0 0\nintr 5\n"
    )
    assert _busy_s({0}, stat) == pytest.approx(21 * _TICK_S)
    assert _busy_s({0, 1}, stat) == pytest.approx((21 + 54) * _TICK_S)
    assert _busy_s({0}, tmp_path / "nowhere") == 0.0


def test_a_bound_process_sees_its_own_cpus():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        with cpu_load() as load:
            pass
    finally:
        os.sched_setaffinity(0, allowed)
    assert load.cpus == 1
