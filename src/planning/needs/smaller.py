"""Which smaller sizes of a workload fit into a device's memory: an estimate from the footprint of the asked ones."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from src.config.errors import ConfigError
from src.config.schema.root import RootConf, sizes_of_call
from src.devices.device import Device
from src.outcomes import log_text
from src.planning.needs.arms import Arms, arms_of
from src.planning.needs.footprint import Footprint, Footprints
from src.planning.needs.memory import forecast
from src.workloads.dims import in_order

SMALLER = "a smaller batch or resolution, or a larger device"
_AXES = {"frames": 1, "resolution": 2, "batch": 1}  # and with what power of it activations grow
_ROOM = 0.9  # of the device: as `Forecast.is_tight` has it


def sizes_that_fit(cfg: RootConf, arms: Arms, kind: str, card_gib: float) -> str:
    """``frames=41, resolution=336 or batch=1 would fit, by estimate``: each with all else as asked.

    Where no smaller size helps, as the weights alone are too large, that is said. A run that ended for want of memory
    needs more than is predicted of it, if that would have fitted; what is proposed needs clearly less.

    Args:
        cfg: a run that does not fit.
        arms: what they are made of, at the asked sizes.
        kind: torch device type.
    """
    if cfg.task.trains:
        return "a smaller model.training.batch, or a larger device"
    asked = forecast(cfg, arms, kind, card_gib)
    if asked.trouble or not cfg.resolution:
        return SMALLER
    adapted = bool(cfg.training.lora.rank)

    def fits(ratio: float, most_gib: float) -> bool:
        smaller = Arms(
            *(replace(arm, footprint=_scaled(arm.footprint, ratio, adapted=adapted)) for arm in arms)
        )
        return forecast(cfg, smaller, kind, card_gib).peak_gib <= most_gib

    ways = {"would fit, by estimate": _ROOM * min(card_gib, asked.peak_gib)}
    if asked.exceeds(card_gib):
        ways["may just fit, by estimate"] = card_gib
    for said, most_gib in ways.items():
        if fit := [size for axis in _AXES if (size := _largest(axis, cfg, partial(fits, most_gib=most_gib)))]:
            *first, last = fit
            either = f"{', '.join(first)} or " if first else ""
            return f"{either}{last} {said}; or a larger device"
    return "a larger device: at no smaller size do the weights and what both arms need fit"


def after_oom(cfg: RootConf, device: Device) -> str:
    """What would fit, of a run that ended for want of memory; empty where that cannot be estimated."""
    try:
        arms = arms_of(cfg, Footprints().of, device.kind)
        return sizes_that_fit(cfg, arms, device.kind, device.memory_gib)
    except Exception as error:  # the run has ended: nothing that is said of it must hide that
        print(log_text(error), file=sys.stderr)
        return ""


def _largest(axis: str, cfg: RootConf, fits: Callable[[float], bool]) -> str:
    """The largest smaller size of an axis that fits, as ``frames=41``; empty: there is none."""
    asked = getattr(cfg, axis)
    found = next((size for size in _smaller(axis, cfg) if fits((size / asked) ** _AXES[axis])), None)
    return "" if found is None else f"{axis}={found}"


def _smaller(axis: str, cfg: RootConf) -> Iterator[int]:
    """Smaller sizes of an axis that the model can have, the largest first."""
    for size in range(getattr(cfg, axis) - 1, 0, -1):
        other: dict[str, Any] = {axis: size}
        try:
            in_order(cfg.model.dims, sizes_of_call(replace(cfg, **other)), "model.dims")
        except ConfigError:
            continue
        yield size


def _scaled(footprint: Footprint, ratio: float, *, adapted: bool) -> Footprint:
    """With inputs and activations of so many times the size; the gradients' bytes of a step stay."""
    inputs, activations = round(footprint.inputs * ratio), round(footprint.activations * ratio)
    saved = footprint.inputs + footprint.activations - inputs - activations
    gradients = footprint.adapters if adapted else footprint.weights
    step = gradients + round((footprint.step - gradients) * ratio) if footprint.step else 0
    return replace(
        footprint,
        inputs=inputs,
        activations=activations,
        step=step,
        targets=round(footprint.targets * ratio),
        made=max(footprint.weights, footprint.made - saved) if footprint.made else 0,
        building=max(footprint.weights, footprint.building - saved),
    )
