"""What a fork server imports for the runs of a sweep, and what it finds out for all of them."""

import gc
import threading

import pytest
import torch
from torch._inductor.cpu_vec_isa import valid_vec_isa_list

from src.compilation import toolchain, toolchain_meanwhile
from src.local.server import COMPILER, preloaded
from src.processes import preload
from src.processes.children import PRELOAD_VARIABLE


def test_the_compiler_comes_first_and_only_where_something_is_compiled(compose) -> None:
    eager, compiled = compose("model=linear", "compile=none"), compose("model=linear", "compile=default")
    assert preloaded([eager], ["json"]) == ["json", "torch.nn.Linear"]
    assert preloaded([eager, compiled], ["json"]) == [*COMPILER, "json", "torch.nn.Linear"]


def test_no_fork_comes_before_the_compilers_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, before_fork = threading.Event(), []
    monkeypatch.setattr(toolchain_meanwhile, "ask", answered.set)
    monkeypatch.setattr("os.register_at_fork", lambda before: before_fork.append(before))
    toolchain_meanwhile.ask_meanwhile()
    (wait,) = before_fork
    wait()
    assert answered.is_set()


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are compiled for the GPU")
def test_answers_are_kept_for_the_next_who_asks() -> None:
    toolchain.ask()
    known = valid_vec_isa_list.cache_info()
    assert known.currsize == 1
    toolchain.ask()
    assert valid_vec_isa_list.cache_info().misses == known.misses


def test_what_was_imported_is_no_longer_looked_at_and_garbage_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRELOAD_VARIABLE, "json.tool,no.such.module")
    before = gc.get_freeze_count()
    try:
        preload.preload()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
