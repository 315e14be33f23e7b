"""What schemes' kernels multiply in: facts of their source code, not numbers of speed."""

from functools import cache
from pathlib import Path

import yaml

_KNOWN = Path(__file__).with_name("multiplies.yaml")


def multiplies_in(quant: str, dtype: str) -> str:
    """What a scheme's kernel multiplies in: `int8`, `float8_e4m3`, or the run's dtype."""
    return _known().get(quant.partition(" ")[0], dtype)


@cache
def _known() -> dict[str, str]:
    known: dict[str, str] = yaml.safe_load(_KNOWN.read_text(encoding="utf-8"))
    return known
