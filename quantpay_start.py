"""The installed commands: this project's `src` is what they run, also where PYTHONPATH leads to another one first."""

import sys
from importlib import import_module
from pathlib import Path

_OURS = Path(__file__).resolve().parent


def run() -> int:
    """`quantpay`."""
    return _main("run")


def analyze() -> int:
    """`quantpay-analyze`."""
    return _main("analyze")


def compare() -> int:
    """`quantpay-compare`."""
    return _main("compare")


def collect() -> int:
    """`quantpay-collect`."""
    return _main("collect")


def calibrate() -> int:
    """`quantpay-calibrate`."""
    return _main("calibrate")


def _main(name: str) -> int:
    others = [folder for folder in sys.path if _has_another(Path(folder))]
    sys.path[:] = [folder for folder in sys.path if folder not in others] + others
    status: int = import_module(f"src.{name}").main()
    return status


def _has_another(folder: Path) -> bool:
    """Whether a folder that modules are found in has a `src` that is not ours."""
    there = (folder / "src").is_dir() or (folder / "src.py").is_file()
    return there and folder.resolve() != _OURS
