"""What a run is compared with: the dtype it computes in, and the faster one that its verdict must stand against."""

import sys
from dataclasses import replace
from pathlib import Path

from src.config.schema.root import AUTO, RootConf
from src.context import RunContext
from src.devices.device import Device
from src.measurement import dtypes
from src.measurement.dtypes import dtype_rates, rates_of
from src.outcomes import ended, log_text, unsupported
from src.records.settled import settled
from src.tasks.arms.arm import Arm, prepare
from src.tasks.arms.numbers import check_rival_numbers
from src.workloads.dtype import DtypeRates, auto_dtype, faster_dtype, knows_bfloat16, scheme_takes
from src.workloads.workload import Workload, build_workload


def settle_dtype(run: RunContext) -> None:
    """Put the dtype that dtype=auto stands for on this device into the run's configuration and axes."""
    run.cfg = with_dtype(run.cfg, run.device)
    run.record.axes["dtype"] = run.cfg.dtype


def with_dtype(cfg: RootConf, device: Device) -> RootConf:
    """The configuration with the dtype that dtype=auto stands for on the device; any other is left alone."""
    if cfg.dtype != AUTO:
        return cfg

    def rates() -> DtypeRates:
        return dtype_rates(device, Path(cfg.outputs), ceilings=cfg.measure.ceilings)

    return replace(cfg, dtype=auto_dtype(device.compute_capability, scheme_takes(cfg, device.kind), rates))


def choose_rival(run: RunContext) -> str | None:
    """The dtype that the unquantized model is measured in too, for it is faster here than the run's own.

    Raises:
        RunEndedError: `unsupported`, when this device has no kernel for the run's dtype.
    """
    dtype, device = run.cfg.dtype, run.device
    against = settled(run.record, "against")
    if against is not None:
        return against if against != dtype else None
    rates = rates_of(run.record.ceilings)
    if rates is None and knows_bfloat16(device.compute_capability) and dtype != "float32":
        return None
    rates = rates or dtypes.quick_rates(device)
    if dtype in rates.refused:
        raise unsupported(f"{device.name} does not compute in {dtype}: {rates.refused[dtype]}", "dtype=auto")
    return faster_dtype(dtype, rates)


def prepare_rival(dtype: str | None, run: RunContext) -> Arm | None:
    """The unquantized workload in another dtype, ready to be timed; one that fails, or gives no numbers, is left out.

    The record says why.
    """
    if dtype is None:
        return None
    try:
        with run.phase("build"):
            workload: Workload = build_workload(replace(run.cfg, dtype=dtype), run.device)
        rival = prepare(dtype, workload, run)
    except Exception as error:
        end = ended(error)
        run.record.details["baseline_not_measured"] = f"unquantized {dtype}: {end.outcome}: {end.reason}"
        print(log_text(error), file=sys.stderr)
        return None
    return rival if check_rival_numbers(rival, run) else None
