"""The verdict is against the fastest unquantized way: runs in this process, and one of a CPU without bfloat16."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest

from src.measurement.rounds import Other
from src.records.mlflow.content import note
from src.records.record import Outcome
from src.tasks.arms.baseline import choose_rival
from src.workloads.dtype import DtypeRates
from tests.conftest import ROOT, SMALL_LINEAR, synthetic_rounds

SLOW_BFLOAT16 = {"bfloat16": 0.015, "float32": 0.139, "float16": 0.012}


@pytest.fixture
def rates(monkeypatch):
    """rates(**tflop_s): what the quick measurement says of this device."""

    def known(refused=None, **tflop_s):
        found = DtypeRates(tflop_s, refused or {})
        monkeypatch.setattr("src.measurement.dtypes.quick_rates", lambda _: found)

    return known


@pytest.fixture
def measured(monkeypatch):
    """measured(speedup, times): the rounds come out so; the other arm is `times` as fast as the baseline."""
    asked = []

    def patch(speedup, times):
        def rounds(*_, others=None, rounds, **__):
            asked.append(dict(others or {}))
            found = replace(synthetic_rounds(speedup), settled=rounds.settled)
            beside = [ms / times for ms in found.baseline_ms]
            return replace(found, others={name: Other(beside, 3) for name in others or {}})

        monkeypatch.setattr("src.tasks.arms.loops.measure_interleaved", rounds)
        return asked

    return patch


def test_auto_is_resolved_before_anything_is_recorded(compose, execute_run, rates):
    rates(**SLOW_BFLOAT16)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "dtype=auto"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.axes["dtype"] == record.details["baseline"]["dtype"] == "float32"
    assert record.details["baseline"]["text"] == "unquantized float32, compile=none"
    assert not any(name.startswith("speedup_") for name in record.metrics)


def test_a_straw_man_is_no_baseline(compose, execute_run, rates, measured, tmp_path):
    """Three times as fast as bfloat16, and slower than float32: it hurts, and both are said."""
    rates(**SLOW_BFLOAT16)
    asked = measured(3.0, times=3.4)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "dtype=bfloat16"))
    assert [list(others) for others in asked] == [["float32"]]
    assert record.axes["dtype"] == "bfloat16"
    assert record.verdict == "hurts"
    assert record.reason == "unquantized float32 is 3.4x faster than the bfloat16 baseline on this device"
    assert record.details["baseline"]["text"] == "unquantized float32, compile=none"
    m = record.metrics
    assert m["speedup/ratio"] == m["speedup_other_dtype/ratio"] == pytest.approx(3.0 / 3.4, rel=0.01)
    assert m["speedup_same_dtype/ratio"] == pytest.approx(3.0, rel=0.01)
    assert m["speedup_same_dtype/ci_low"] <= m["speedup_same_dtype/ratio"] <= m["speedup_same_dtype/ci_high"]
    assert m["latency/baseline_median_ms"] == m["latency/baseline_other_dtype_median_ms"]
    assert m["latency/baseline_same_dtype_median_ms"] == pytest.approx(1.0, rel=0.01)
    assert "speedup 0.882x" in note(record)
    assert "against unquantized float32, compile=none; " in note(record)
    rounds = json.loads((tmp_path / "run" / "rounds.json").read_text())
    assert list(rounds["others"]) == ["bfloat16"]
    ratios = [b / t for b, t in zip(rounds["baseline_ms"], rounds["treated_ms"], strict=True)]
    assert sorted(ratios)[len(ratios) // 2] == pytest.approx(m["speedup/ratio"], rel=0.01)


def test_a_rival_that_is_slower_after_all_changes_no_verdict(compose, execute_run, rates, measured):
    rates(**SLOW_BFLOAT16)
    measured(1.5, times=0.8)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert (record.verdict, record.reason) == ("helps", "")
    assert record.details["baseline"]["dtype"] == "bfloat16"
    assert record.metrics["speedup_other_dtype/ratio"] == pytest.approx(1.5 / 0.8, rel=0.01)
    assert record.metrics["speedup_same_dtype/ratio"] == record.metrics["speedup/ratio"]


@pytest.mark.parametrize(("against", "rival"), [("float32", "float32"), ("bfloat16", None)])
def test_a_further_process_of_a_run_has_the_first_one_s_baseline(compose, run_context, rates, against, rival):
    rates(**(SLOW_BFLOAT16 if rival is None else {"bfloat16": 1.0}))
    run = run_context(compose(*SMALL_LINEAR, "quant=int8wo", "dtype=bfloat16"))
    run.record.details["process"] = {"against": against}
    assert choose_rival(run) == rival


def test_in_a_near_tie_a_further_process_keeps_to_the_first_one_s_baseline(
    compose, execute_run, rates, measured
):
    rates(**SLOW_BFLOAT16)
    measured(1.5, times=0.99)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "dtype=bfloat16"), against="float32")
    assert record.details["baseline"]["dtype"] == "float32"
    assert record.metrics["speedup/ratio"] == pytest.approx(1.5 / 0.99, rel=0.01)
    assert (
        record.reason
        == "against unquantized float32, which was the faster baseline in the run's first process"
    )


def test_a_rival_in_turn(compose, execute_run, rates):
    rates(**SLOW_BFLOAT16)
    record = execute_run(
        compose(*SMALL_LINEAR, "quant=int8wo", "measure.pairing=in_turn", "measure.budget_s=0.1")
    )
    assert (record.outcome, record.details["pairing"]) == (Outcome.OK, "in_turn"), record.reason
    assert record.metrics["speedup_same_dtype/ratio"] > 0
    assert record.details["baseline"]["dtype"] in ("bfloat16", "float32")


def test_a_rival_that_fails_is_said(compose, execute_run, rates, monkeypatch):
    rates(**SLOW_BFLOAT16)

    def out_of_memory(*_):
        raise MemoryError("no more")

    monkeypatch.setattr("src.tasks.arms.baseline.build_workload", out_of_memory)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo"))
    assert record.outcome is Outcome.OK
    assert "unquantized float32: oom" in record.reason
    assert record.details["baseline"]["dtype"] == "bfloat16"


def test_a_dtype_that_the_device_cannot_compute(compose, execute_run, rates):
    rates(refused={"float16": "\"addmm_impl_cpu_\" not implemented for 'Half'"}, bfloat16=1.0, float32=1.0)
    record = execute_run(compose(*SMALL_LINEAR, "quant=int8wo", "dtype=float16"))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "does not compute in float16: \"addmm_impl_cpu_\" not implemented for 'Half'" in record.reason
    assert record.remedy == "dtype=auto"


SCRIPT = """
import sys
from pathlib import Path
from tests.composing import composer
from tests.conftest import identity
from src.run import execute
compose = composer()
for dtype in ("auto", "bfloat16"):
    shape = ("model=linear", "model.dims.M=64", "model.dims.K=512", "model.dims.N=512")
    cfg = compose(*shape, "quant=int8wo", f"dtype={dtype}")
    folder = Path(sys.argv[1]) / dtype
    folder.mkdir()
    execute(cfg, identity(cfg), folder, lambda _: None)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables are for x86")
def test_a_cpu_without_bfloat16_for_real(tmp_path):
    """The verdict that began this: 'int8wo helps everywhere, 3.29x', against a baseline that nobody would run."""
    told = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], env=os.environ | told, cwd=ROOT, check=True)
    auto, named = (json.loads((tmp_path / d / "record.json").read_text()) for d in ("auto", "bfloat16"))
    assert [each["outcome"] for each in (auto, named)] == ["ok", "ok"], (auto["reason"], named["reason"])
    assert (auto["axes"]["dtype"], named["axes"]["dtype"]) == ("float32", "bfloat16")
    assert "AVX2" in auto["device"]["name"]
    assert named["details"]["baseline"]["dtype"] == "float32"
    assert "unquantized float32 is" in named["reason"]
    assert "helps" not in (auto["verdict"], named["verdict"])
