"""What a pipeline's call spends its time on: text encoders, each step, the denoiser in it, the VAE."""

import time
from statistics import median
from typing import Any

from src.config.schema.model import DENOISER, PIPELINE
from src.context import RunContext
from src.tasks.arms.arm import Arm
from src.timers.components import Spans, timed_components
from src.timers.steps import mark_step

_MOST_CALLS = 3  # of each arm
_ENOUGH_S = 5.0  # from then on no further call


def time_components(run: RunContext, arms: dict[str, Arm]) -> None:
    """Time the components of a pipeline in further calls of its arms, in turn; of other targets there are none.

    Args:
        run: its record gets the medians as metrics, and the times of each step as details.
        arms: by metric prefix, ``baseline_`` or nothing.
    """
    if run.cfg.target != PIPELINE or not run.cfg.measure.components:
        return
    found: dict[str, list[Spans]] = {prefix: [] for prefix in arms}
    with run.phase("time components"):
        started = time.perf_counter()
        for _ in range(_MOST_CALLS):
            for prefix, arm in arms.items():
                mark_step(run.device)
                calls = timed_components(arm.call, arm.workload.components(), run.device.kind)
                found[prefix].append(calls)
            if time.perf_counter() - started > _ENOUGH_S:
                break
    for prefix, calls_of_arm in found.items():
        run.record.metrics |= component_metrics(calls_of_arm, prefix, run.cfg.model.pipeline.steps)
        told = run.record.details.setdefault("component_times", {})
        told[arms[prefix].name] = [_told(each, run.cfg.model.pipeline.steps) for each in calls_of_arm]


def component_metrics(calls: list[Spans], prefix: str, steps: int) -> dict[str, float]:
    """Medians over the calls, ms: of each component all its calls together, of a step, and what is left.

    Args:
        steps: denoising steps of a call.
    """
    sums = [{name: sum(span.ms for span in spans) for name, spans in each.calls.items()} for each in calls]
    metrics = {f"component/{prefix}{name}_ms": median(each[name] for each in sums) for name in sums[0]}
    rests = [each.total_ms - sum(own.values()) for each, own in zip(calls, sums, strict=True)]
    metrics[f"component/{prefix}rest_ms"] = median(rests)
    if steps_ms := [ms for each in calls for ms in step_times_ms(each, steps)]:
        metrics[f"component/{prefix}step_ms"] = median(steps_ms)
    return metrics


def step_times_ms(call: Spans, steps: int) -> list[float]:
    """How long each step took: from its first call of the denoiser to the next step's, the last to that one's end.

    Empty where the denoiser was not called equally often in each step.
    """
    spans = call.calls.get(DENOISER, [])
    each, left = divmod(len(spans), steps)
    if left or not each:
        return []
    starts = [span.start_ms for span in spans[::each]]
    return [after - before for before, after in zip(starts, [*starts[1:], spans[-1].end_ms], strict=True)]


def _told(call: Spans, steps: int) -> dict[str, Any]:
    """One call for the record, in ms."""
    return {
        "total_ms": round(call.total_ms, 4),
        "steps_ms": [round(ms, 4) for ms in step_times_ms(call, steps)],
        "calls_ms": {name: [round(span.ms, 4) for span in spans] for name, spans in call.calls.items()},
    }
