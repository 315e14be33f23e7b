"""Waiting in tests: every wait ends."""

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], patience_s: float = 200) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:g} s"
        time.sleep(0.05)
