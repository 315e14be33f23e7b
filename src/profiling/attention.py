"""Which of torch's kernels for attention a call really runs: a compiler may have put another one in place."""

import re
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

_FUSED = re.compile(r"aten::_scaled_dot_product_(flash|efficient|cudnn)_attention")
_MATH = "math"  # of plain matmuls, which a compiler does not leave recognizable


def attention_kinds(call: Callable[[], Any]) -> list[str]:
    """The kinds of fused kernels that a call runs; ``math`` where it runs none."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    found = {match[1] for event in profiled.events() or () if (match := _FUSED.match(event.name))}
    return sorted(found) or [_MATH]
