import os
from dataclasses import replace

import pytest
import torch

from src.timers import threads
from src.timers.threads import computing_threads, pinned_threads, placement


def work():
    return torch.ones(512, 512) @ torch.ones(512, 512)


def test_threads_are_bound_and_set_free_again(cpu):
    before = os.sched_getaffinity(0)
    with pinned_threads(cpu, work) as cpus:
        assert cpus == placement()[:1]
        assert os.sched_getaffinity(0) == {cpus[0]}
    assert os.sched_getaffinity(0) == before


def test_they_are_set_free_when_the_work_fails(cpu):
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match="inside"), pinned_threads(cpu, work):
        raise RuntimeError("inside")
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_each_thread_has_a_cpu_of_its_own(cpu):
    torch.set_num_threads(2)
    try:
        for _ in range(
            100
        ):  # where others use the CPUs, one thread may do all the work while both are watched
            found = computing_threads(work)
            with pinned_threads(replace(cpu, threads=2), work) as cpus:
                bound = [os.sched_getaffinity(thread) for thread in found[:2]]
            if len(bound) == len(cpus) == 2:
                break
    finally:
        torch.set_num_threads(1)
    assert found[0] == os.getpid()
    assert bound == [{bound_to} for bound_to in cpus]
    assert len(set(cpus)) == 2


@pytest.mark.parametrize("count", [None, 10_000])
def test_no_binding_on_a_gpu_or_with_more_threads_than_cpus(cpu, count):
    before = os.sched_getaffinity(0)
    with pinned_threads(replace(cpu, threads=count), work) as cpus:
        assert cpus == []
        assert os.sched_getaffinity(0) == before


def test_where_the_system_forbids_it_nothing_is_bound(cpu, monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(threads.os, "sched_setaffinity", forbidden)
    with pinned_threads(cpu, work) as cpus:
        assert cpus == []


def test_one_cpu_of_each_core_comes_first(tmp_path, monkeypatch):
    for cpu, siblings in {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}.items():
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert placement(tmp_path) == [0, 1, 2, 3]
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 2, 3})
    assert placement(tmp_path) == [0, 3, 2]
