"""Where and with what a run was made."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROTOCOL_VERSION = 2  # of the measurement protocol: raised when a change can move a number
_PACKAGES = ("torch", "torchao", "diffusers", "transformers", "triton", "numpy")
_ROOT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Versions of what can change a number, without importing any of it."""
    found = {"protocol": str(PROTOCOL_VERSION), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def environment() -> dict[str, str]:
    """Versions, the project's commit, the host, and the SLURM job when there is one."""
    found = (
        versions() | commit() | {"host": platform.node(), "os": platform.platform(), "pid": str(os.getpid())}
    )
    found |= {name.lower(): value for name, value in os.environ.items() if name.startswith("SLURM_JOB_ID")}
    if "torch" in sys.modules:
        import torch

        found |= {"cuda": torch.version.cuda or "none"}
    return found


def commit() -> dict[str, str]:
    """The git commit of this source tree and whether it was changed; nothing outside a checkout."""
    try:
        head = _git("rev-parse", "HEAD")
        return {
            "commit": head,
            "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
