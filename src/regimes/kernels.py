"""Kernels: what of a scheme behaves alike. Where a scheme's kernel switches at some M, it is two."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_KNOWN = Path(__file__).with_name("kernels.yaml")


def kernel(quant: str, m: int, kind: str) -> str:
    """The kernel of a scheme for M rows: the scheme's name, or of one that switches `int4wo, M <= 16`.

    Args:
        quant: the scheme, with its options (`int4wo (group_size=64)`).
        m: rows.
        kind: of device, `cpu` or `accelerator`.
    """
    last = last_row(quant, kind)
    return quant if last is None else f"{quant}, M {'≤' if m <= last else '>'} {last}"


def last_row(quant: str, kind: str) -> int | None:
    """The last M of a scheme's first kernel; None: it has one."""
    found: dict[str, int] = _known()["switches"][kind]
    return found.get(quant.partition(" ")[0])


def like(mode: str) -> str:
    """The compile mode under whose name the kernels of a single Linear are known."""
    return str(_known()["alike"].get(mode, mode))


def roofline(quant: str) -> tuple[float, float]:
    """Bits per weight, and how many times the unquantized rate a scheme multiplies at."""
    bits, rate = _known()["roofline"].get(quant.partition(" ")[0], (8, 1))
    return float(bits), float(rate)


@cache
def _known() -> dict[str, Any]:
    known: dict[str, Any] = yaml.safe_load(_KNOWN.read_text(encoding="utf-8"))
    return known
