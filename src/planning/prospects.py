"""What a plan says of each run of a sweep, as a sweep's own process can hear it: it does without torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from src.config.schema.root import RootConf
from src.planning.teaching import SURE, Lesson, Shape

if TYPE_CHECKING:
    from src.planning.matrix import PlannedRun
    from src.planning.planning import Predict

UNKNOWN = "unknown"
_DIMS = ("M", "K", "N")


@dataclass(frozen=True)
class Prospect:
    """One run: how long it would take, and what is predicted of it."""

    seconds: float
    skipped: bool  # measured before, or there twice
    verdict: str  # or `unknown`, or `unsupported`
    speedup: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sure: float = 0.0  # probability of the verdict
    reason: str = ""  # of what is unknown or unsupported; else what to mind
    shape: Shape | None = None  # of one Linear
    scheme: str = ""
    place: str = ""  # device, compile mode, dtype
    axes: dict[str, str] = field(default_factory=dict)
    copy_of: int | None = None  # the place of the run that this one is once more

    @property
    def is_sure(self) -> bool:
        """Whether the verdict is known well enough."""
        return self.sure >= SURE

    def lesson(self, group: str) -> Lesson:
        """The same for who chooses.

        Args:
            group: that it shares a process with; empty: with none.
        """
        return Lesson(self.seconds, self.sure, self.shape, self.scheme, self.place, group)


def prospects(configs: Sequence[RootConf], predict: "Predict", tell: Callable[[str], None]) -> list[Prospect]:
    """Those of a sweep's runs, by all that is known by now; `tell` hears nothing."""
    from src.config.noise import quiet_libraries
    from src.planning.planning import plan_runs

    with quiet_libraries():
        runs = plan_runs(configs, predict=predict).runs
    found: list[Prospect] = []
    for cfg, run in zip(configs, runs, strict=True):
        each = _prospect(cfg, run)
        if run.repeats is not None:  # what is predicted of the first holds for it too
            each = replace(found[run.repeats], skipped=True, copy_of=run.repeats, axes=each.axes)
        found.append(each)
    return found


def _prospect(cfg: RootConf, run: "PlannedRun") -> Prospect:
    from src.planning.matrix import Fate, Promise

    told = run.promise or Promise(UNKNOWN, reasons=("nothing predicts such a run",))
    if run.fate is Fate.UNSUPPORTED:  # as good as measured
        why = " → ".join(filter(None, [run.reason, run.remedy]))
        told = Promise(str(run.fate), sure=1.0, reasons=(why,))
    dims = cfg.model.dims
    single = cfg.model.probe and {*_DIMS} <= dims.keys() and bool(cfg.quant.config)
    return Prospect(
        seconds=run.estimate.seconds,
        skipped=run.fate.is_skipped,
        verdict=told.verdict,
        speedup=told.speedup,
        low=told.low,
        high=told.high,
        sure=0.0 if told.verdict == UNKNOWN else told.sure,
        reason=told.reason,
        shape=(dims["M"] * cfg.batch, dims["K"], dims["N"]) if single else None,
        scheme=cfg.quant.name,
        place=f"{cfg.gpu.name} {cfg.compile.name} {run.axes['dtype']}",
        axes=run.axes | cfg.varied,
    )
