"""Style and types are part of the suite, so that `make test` is the whole of CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MYPY = (
    ("mypy",) if (ROOT / ".mypy_cache").is_dir() else ("mypy", "--cache-dir", os.devnull)
)  # who runs it keeps one


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), MYPY],
    ids=["ruff check", "ruff format", "mypy --strict"],
)
def test_the_sources_are_clean(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
