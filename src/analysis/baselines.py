"""What verdicts are against: the unquantized model in a faster dtype, and in the fastest compile mode of a sweep."""

from collections.abc import Iterator

import pandas as pd

from src.analysis.runs.frame import MODES_OF, compared
from src.statistics.speedup import Verdict

_CONTROL = "none"
_SAME = "latency/baseline_same_dtype_median_ms"
_MOST = 2


def faster_dtypes(runs: pd.DataFrame) -> Iterator[str]:
    """A sentence per device and pair of dtypes of which the run's own was the slower one unquantized."""
    ran = compared(runs)
    if _SAME not in ran:
        return
    other = (ran["baseline_dtype"] != "") & (ran["baseline_dtype"] != ran["dtype"])
    beaten = ran[other & ~ran["withheld"]]
    beaten = beaten.assign(times=beaten[_SAME] / beaten["latency/baseline_median_ms"])
    groups = list(beaten.groupby(["device", "dtype", "baseline_dtype"]))
    for (device, own, faster), rows in groups[:_MOST]:
        yield (
            f"On {device}, unquantized {faster} is {_span(rows['times'], 1)} faster than the {own} baseline: "
            f"{_counted(len(rows), 'verdict is', 'verdicts are')} against it; against {own} the speedup would "
            f"be {_span(rows['speedup_same_dtype/ratio'], 2)}."
        )
    if left := len(groups[_MOST:]):
        yield f"{_counted(left, 'more pair', 'more pairs')} of device and dtype with a faster one in the table."


def fastest_modes(runs: pd.DataFrame, margin: float) -> Iterator[str]:
    """A sentence per device on which a workload was measured in several compile modes."""
    names = [*MODES_OF, "quant", "compile", "verdict", "fastest_mode", "speedup/fastest_mode"]
    ran = compared(runs)
    ran = ran[names][ran["speedup/fastest_mode"].notna() & (ran["quant"] != _CONTROL) & ~ran["withheld"]]
    groups = list(ran.groupby("device"))
    for device, rows in groups[:_MOST]:
        helps = rows[rows["verdict"] == Verdict.HELPS]
        still = helps[helps["speedup/fastest_mode"] > 1 + margin]
        best = rows.iloc[int(rows["speedup/fastest_mode"].argmax())]
        workloads = rows.groupby(MODES_OF, dropna=False).ngroups
        yield (
            f"On {device}, {_counted(workloads, 'workload was', 'workloads were')} measured in several compile "
            f"modes. Of the {_counted(len(helps), 'run', 'runs')} that help in their own mode, {len(still)} also "
            f"beat the fastest unquantized mode; the best of all is {best['quant']} with compile={best['compile']}, "
            f"{best['speedup/fastest_mode']:.2f}× against compile={best['fastest_mode']} (across runs, no interval)."
        )
    if left := len(groups[_MOST:]):
        yield f"{_counted(left, 'more device', 'more devices')} with several compile modes in the table."


def _span(values: "pd.Series[float]", digits: int) -> str:
    low, high = (f"{value:.{digits}f}×" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
