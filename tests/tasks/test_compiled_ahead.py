"""Arms compiled without a model are what the run compiles: it finds all of it, and computes the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch._inductor import config as inductor_config

from src.compilation.ahead import without_content
from src.compilation.scopes import forget_all_compiled
from src.config.schema.root import RootConf
from src.devices.device import Device
from src.records.record import Outcome, Record
from src.tasks.arms.ahead import compile_arms
from tests.composing import Compose
from tests.conftest import SMALL_LINEAR, identity


def test_a_run_finds_what_was_compiled_without_its_model(
    compose: Compose,
    cpu: Device,
    cold_cache: Path,
    execute_run: Callable[[RootConf], Record],
    tmp_path: Path,
) -> None:
    cfg = compose(*SMALL_LINEAR, "quant=int8wo", "compile=default", f"outputs={tmp_path}")
    forget_all_compiled()
    compile_arms(cfg, identity(cfg), cpu)
    forget_all_compiled()
    record = execute_run(cfg)
    took_s = record.details["compiled_ahead_s"]
    found = record.metrics
    assert record.outcome is Outcome.OK
    assert (found["compile/cache_hits"], found["compile/cache_misses"]) == (2, 0)
    assert (found["compile/baseline_cold_s"], found["compile/cold_s"]) == (
        took_s["baseline"],
        took_s["treated"],
    )
    assert {"compile/baseline_warm_s", "compile/warm_s"} <= found.keys()

    forget_all_compiled()
    with inductor_config.patch(force_disable_caches=True):
        apart = execute_run(replace(cfg, measure=replace(cfg.measure, warm_compile=False)))
    assert apart.metrics["compile/cache_hits"] == 0
    assert "compiled_ahead_s" not in apart.details, "it was not found"
    same = ("quality/sqnr_db", "quality/cosine", "quality/max_abs_error")
    assert [apart.metrics[name] for name in same] == [found[name] for name in same]


def test_what_goes_by_timing_is_left_to_the_run(compose: Compose, cpu: Device, tmp_path: Path) -> None:
    options = ("quant=int8wo", "compile=default", f"outputs={tmp_path}", "compile.mode=max-autotune")
    cfg = compose(*SMALL_LINEAR, *options)
    compile_arms(cfg, identity(cfg), cpu)
    assert not list(tmp_path.rglob("*.json"))


def test_of_what_goes_by_values_the_baseline_is_compiled(
    compose: Compose, cpu: Device, cold_cache: Path, tmp_path: Path
) -> None:
    cfg = compose(*SMALL_LINEAR, "quant=int8_static", "compile=default", f"outputs={tmp_path}")
    forget_all_compiled()
    compile_arms(cfg, identity(cfg), cpu)
    (found,) = tmp_path.rglob("*.json")
    assert list(json.loads(found.read_text(encoding="utf-8"))) == ["baseline"]


def test_nothing_is_timed_on_a_device_that_others_measure_on() -> None:
    from torch._inductor.runtime.benchmarking import benchmarker

    with without_content(), pytest.raises(RuntimeError, match="is left to"):
        benchmarker.benchmark_gpu(lambda: None)
