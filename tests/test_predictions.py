"""`benchmarks/predictions.py` reads the published records."""

import tarfile
from pathlib import Path

import pytest

from benchmarks.predictions import report
from src.config.paths import ROOT

DEVICE = "amd-epyc-zen-4-avx2-held-down-from-avx-512-2-threads"


def test_the_plans_of_a_published_device_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(ROOT / "outputs" / "published" / DEVICE / "records.tar.gz") as records:
        records.extractall(tmp_path, filter="data")
    report(tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    assert (
        last == "3 plans: measured is 0.992 times what was predicted; 1.4% apart (rms)"
    )  # as docs/autoquant.md says
