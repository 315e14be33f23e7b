"""Whether both arms give numbers at all; where they do not, which module was the first to leave its dtype's range."""

from typing import Any

from src.config.schema.model import DENOISER
from src.context import RunContext
from src.outcomes import RunEndedError
from src.quality.finite import NotFinite, first_not_finite, is_finite
from src.records.record import Outcome
from src.tasks.arms.arm import Arm
from src.workloads.workload import Workload

_NARROW = "float16"  # the dtype whose overflow a later clamp may hide
_REMEDIES = {_NARROW: "dtype=bfloat16, whose range is float32's; or other weights (model.weights)"}
_ELSE = "other weights or inputs: no wider dtype will help"


def check_baseline_numbers(workload: Workload, output: Any, run: RunContext) -> None:
    """The unquantized arm, after its first call. In float16 every module is looked at, in one more call.

    Raises:
        RunEndedError: `bad_numerics`, when its output or, in float16, any module's holds NaN or infinity.
    """
    finite = is_finite(output)
    if finite and run.cfg.dtype != _NARROW:
        return
    with run.phase("check numbers"):
        found = first_not_finite(workload.module, workload.call)
    if not finite:
        said = "the unquantized baseline itself returns NaN or infinity"
    elif found is not None:
        said = "the unquantized baseline overflows inside, which a later step hides from its output"
    else:
        return
    raise RunEndedError(
        Outcome.BAD_NUMERICS, f"{said}{_first(found, workload)}", _REMEDIES.get(run.cfg.dtype, _ELSE)
    )


def check_rival_numbers(rival: Arm, run: RunContext) -> bool:
    """The unquantized arm in another dtype: whether it gives numbers; one that does not is said to be no baseline."""
    if is_finite(rival.output):
        return True
    run.record.details["baseline_not_measured"] = (
        f"unquantized {rival.name}: its output holds NaN or infinity"
    )
    return False


def check_treated_numbers(workload: Workload, output: Any, run: RunContext) -> None:
    """The treated arm, after its first call.

    Raises:
        RunEndedError: `bad_numerics`, when its output holds NaN or infinity.
    """
    if is_finite(output):
        return
    with run.phase("check numbers"):
        found = first_not_finite(workload.module, workload.call)
    remedy = f"quant.layers.exclude, or another scheme{'; or dtype=bfloat16' * (run.cfg.dtype == _NARROW)}"
    raise RunEndedError(
        Outcome.BAD_NUMERICS, f"the treated output holds NaN or infinity{_first(found, workload)}", remedy
    )


def _first(found: NotFinite | None, workload: Workload) -> str:
    if found is None:
        return ""
    component, name = workload.place(found.fqn)
    place = name if component == DENOISER and name else f"{component} {name}".strip()
    return f"; first {place} ({found.kind}), whose {found.dtype} output holds {found.holds}"
