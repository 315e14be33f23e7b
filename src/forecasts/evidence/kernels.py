"""Kernels: what of a scheme behaves alike. Where a scheme's kernel switches at some M, it is two."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_KNOWN = Path(__file__).with_name("kernels.yaml")


@dataclass(frozen=True)
class Switch:
    """Where a scheme's kernel switches: one up to `last` rows, another from `first` on, between them either."""

    last: int
    first: int

    def names(self, quant: str, m: int) -> list[str]:
        """The kernels that M rows may be computed by."""
        below, above = f"{quant}, M ≤ {self.last}", f"{quant}, M ≥ {self.first}"
        return [below] * (m < self.first) + [above] * (m > self.last)

    @property
    def known(self) -> bool:
        """Whether it is known to the row."""
        return self.first == self.last + 1


def known_switch(quant: str, kind: str) -> Switch | None:
    """The switch of a scheme that its source code tells, if any.

    Args:
        quant: the scheme, with its options (`int4wo (group_size=64)`).
        kind: of device, `cpu` or `accelerator`.
    """
    last: int | None = _known()["switches"][kind].get(quant.partition(" ")[0])
    return None if last is None else Switch(last, last + 1)


def made_anew(kernel: str, kind: str, dtype: str) -> bool:
    """Whether a scheme's kernel makes its weights anew at each call.

    Args:
        kernel: the scheme, with its options and rows (`float8wo, M ≤ 4`).
        kind: of device, `cpu` or `accelerator`.
        dtype: of the run.
    """
    return dtype in _known()["made_anew"][kind].get(kernel.partition(" ")[0].rstrip(","), ())


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
