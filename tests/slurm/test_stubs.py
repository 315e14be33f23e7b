"""The made-up devices and tasks run as real ones do, without SLURM and without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "tests" / "slurm" / "conf"
SCRIPT = """
import sys
from pathlib import Path
from src.app.application import main
from src.checks.validation import validate
from src.records.key import axes_of
from src.records.record import Record
from src.run import execute

def run(config):
    cfg = validate(config)
    execute(cfg, Record("0" * 16, 1, "sweep", axes_of(cfg)), Path(sys.argv[1]), print)
    return 3 if "torch" in sys.modules else 0

sys.exit(main("config", run, sys.argv[2:], prog="run"))
"""


def executed(folder: Path, node: str, *overrides: str) -> tuple[int, dict[str, Any]]:
    """Run one configuration as a job on a node would; exit status and record."""
    env = os.environ | {"SLURMD_NODENAME": node, "CUDA_VISIBLE_DEVICES": "1", "SLURM_RESTART_COUNT": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder), "--config-dir", str(CONF), *overrides]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    record = folder / "record.json"
    assert record.exists() or done.returncode, done.stderr
    return done.returncode, json.loads(record.read_text()) if record.exists() else {}


@pytest.mark.parametrize(
    ("node", "overrides", "outcome"),
    [
        ("h100-2", ("gpu=h100", "task=seen"), "ok"),
        ("a100-1", ("gpu=h100", "task=seen"), "unsupported"),
    ],
)
def test_a_made_up_run_leaves_a_record(
    tmp_path: Path, node: str, overrides: tuple[str, ...], outcome: str
) -> None:
    status, record = executed(
        tmp_path, node, "quant=none", "dtype=bfloat16", "compile=none", "tracking=none", *overrides
    )
    assert (status, record["outcome"]) == (0, outcome)
    if outcome == "ok":
        assert record["device"]["name"] == "made-up h100"
        assert record["details"]["seen"]["SLURMD_NODENAME"] == node
        assert record["details"]["seen"]["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_made_up_run_that_is_killed_leaves_none(tmp_path: Path) -> None:
    status, record = executed(tmp_path, "h100-1", "gpu=h100", "quant=none", "task=by_seed", "seed=2")
    assert (status, record) == (-9, {})
