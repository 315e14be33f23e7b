"""Runs that share a process on a real CUDA device: one after the other, and in the same rounds."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ALONE = "PYTEST_XDIST_WORKER" not in os.environ  # else other tests are on the device
PROBES = (
    "model=linear",
    "compile=default",
    "model.dims={M:512,K:2048,N:2048},{M:1024,K:2048,N:2048}",
    "measure.budget_s=1",
)
FLUX = ("model=flux-tiny", "compile=regional", "measure.budget_s=2")


@pytest.mark.parametrize("workload", [PROBES, FLUX], ids=["probes", "flux"])
def test_runs_share_a_process_and_leave_nothing_behind(tmp_path, workload):
    options = ("-m", *workload, "quant=int8dq,float8wo,none", "launch.share=auto", "tracking=none",
               "measure.ceilings=false", f"outputs={tmp_path}")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "src.run", *options], env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/record.json")]
    assert {record["outcome"] for record in records} == {"ok"}, [record["reason"] for record in records]
    assert all(record["device"]["kind"] == "cuda" for record in records)
    pairs = [json.loads(path.read_text()) for path in tmp_path.glob("sweeps/*/equal_pairs/*/record.json")]
    assert {pair["outcome"] for pair in pairs} == {"ok"}, [pair["reason"] for pair in pairs]
    shared = [record for record in records if "shared" in record["details"]]
    assert not [record["details"]["left_behind"] for record in shared if "left_behind" in record["details"]]
    if pairs[0]["details"].get("equal"):
        assert len({record["environment"]["pid"] for record in shared}) == 1


@pytest.mark.skipif(not ALONE, reason="other tests are on the device")
def test_processes_that_compile_ahead_withhold_no_verdict(tmp_path):
    if torch.cuda.is_initialized():
        pytest.skip("this process is on the device")
    options = ("-m", "model=linear", "model.dims.M=512", "compile=default", "quant=int8dq,float8wo,int8wo,none",
               "launch.compile_ahead=always", "launch.share=never", "tracking=none", "measure.budget_s=2",
               "measure.ceilings=false", f"outputs={tmp_path}")  # fmt: skip
    cold = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = subprocess.run(
        [sys.executable, "-m", "src.run", *options], env=os.environ | cold, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("sweeps/*/compilers.json"))
    records = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/record.json")]
    assert len(records) == 4
    assert not [record["reason"] for record in records if "other processes were on" in record["reason"]]
