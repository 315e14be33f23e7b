"""From MLflow runs to a tidy frame: one row per run key."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from src.analysis.runs.attempts import one_per_key, pool_rows
from src.analysis.runs.chosen import once
from src.analysis.runs.devices import called
from src.analysis.runs.reasons import retell
from src.analysis.runs.tracked.source import NO_STEP, QUANTIZED, SHAPE, Runs, attempts
from src.analysis.runs.tracked.variants import models_of, of_both_arms, variants_of, with_caches
from src.analysis.runs.typed import ASKED, MANNER, METRICS, in_few_blocks, interval_verdicts, typed
from src.records.pooled import ESTIMATE
from src.statistics.speedup import Verdict

if TYPE_CHECKING:
    from mlflow.entities import Run

    Row: TypeAlias = pd.Series[Any]
else:
    Row = pd.Series  # one run, as frame.iterrows() gives it
Plain = Mapping[Hashable, Any]  # the same as `plain` gives it

WORKLOAD = ["model", "target", "batch", "resolution", "frames", "dtype"]
TREATMENT = ["quant", "compile", "variant"]
CELL = [*WORKLOAD, *SHAPE, *TREATMENT, "device", "task"]  # what makes two runs measurements of the same thing
WEIGHTS = ["weights", "weights_id", "weights_std"]  # an SQNR is compared within one setting of them
CELL_OF_ALL = [*CELL, "treatment", "step"]  # the same among runs of other treatments than quantizing
_NAMED = [*WORKLOAD, *SHAPE, "device", "task"]
MODEL, CACHED = "model_options", "step_cache"  # what of models of one name differs; of both arms
_ASKED = [*WORKLOAD, "asked_M", "asked_K", "asked_N", "device", "device_identity", "task"]  # of an attempt
MODES_OF = [*_NAMED, MODEL, CACHED]  # what compile modes are compared within
BASELINE = ["compile", "both_arms", "baseline_dtype", "cache"]  # what is in both arms of a run
PLACE = ["device", "dtype", "quant", "variant", "compile"]  # what a map over M and K x N is of
TRAINING = "training"  # the task that compares steps of a training
_WHOLE = "train"  # the task that trains from scratch
_COLUMNS = [
    *("run_key", "sweep", "sweeps", "outcome", "reason", "remedy", "attempt", *CELL, "gpu"),
    *("device_name", "device_identity", *MANNER, "cache", *WEIGHTS, "verdict", "withheld", "finding"),
    *("treatment", "step", "steps", "both_arms", MODEL, CACHED),
    *("interval", "started_at", "run_id", *METRICS),
]
_STEP_CACHE = r"(?:^|, )(cache=[^,]+)"  # in a recipe
_OTHER = "speedup_other_dtype"
_SAME = "speedup_same_dtype"  # a run's family of metrics where another dtype was measured unquantized too


def tidy(runs: "Iterable[Run]", margin: float) -> pd.DataFrame:
    """`tidied` runs of MLflow."""
    return tidied(attempts(Runs(runs)), margin)


def tidied(found: pd.DataFrame, margin: float) -> pd.DataFrame:
    """One row per run key: axes, shape, device, outcome, verdict at the margin, reason, and all metrics.

    Runs of tasks that compare no speed (``task.compares=false``: serialize) are left out, and those whose treatment
    is another one than quantizing (`src.analysis.ladder` has them).
    The newest attempt with a finding stands for a key, with the speedup pooled from all that measured one, and
    ``interval`` says what its interval contains. ``variant`` names the options by which runs with the
    same axes differ (``group_size=64``); ``compile`` has with it what the recipe does in both arms
    (``regional + fused_qkv``); ``stands`` is False for a run that a newer one of the same workload,
    treatment and device replaces (other versions, seed or measurement settings).

    Args:
        found: `attempts`.
        margin: a speedup within it is neutral.
    """
    chosen = (found["compares"] != "false") & (found["treatment"] == QUANTIZED)
    found = _with_models(found)
    return _tidied(found if chosen.all() else found[chosen], margin, CELL)  # a copy less of very many


def steps_of(
    found: pd.DataFrame, margin: float, only: Callable[[pd.DataFrame], pd.DataFrame] = lambda each: each
) -> pd.DataFrame:
    """The same of steps of ladders, and of runs with another treatment than quantizing: one row each that stands.

    No rows where there are none.

    A step is told against the one before, of its own dtype, also where another one is faster unquantized.

    Args:
        found: `attempts`.
        margin: a speedup within it is neutral.
        only: what of the rows is looked at (`told_alone`).
    """
    step = (found["step"] != "") & (found["step"] != NO_STEP)
    chosen = (found["compares"] != "false") & (step | (found["treatment"] != QUANTIZED))
    if not chosen.any():
        return found[chosen]
    rows = only(_tidied(_with_models(found)[chosen], margin, CELL_OF_ALL))
    rows["options"] = rows["run_id"].map(found.drop_duplicates("run_id").set_index("run_id")["options"])
    return _of_own_dtype(standing(rows), margin)


def _of_own_dtype(frame: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Speedups, verdicts and the baseline's time against the run's own dtype, where both were measured."""
    if not {f"{_SAME}/ratio", f"{_OTHER}/ratio"} <= {*frame}:
        return frame
    both = frame[f"{_SAME}/ratio"].notna() & (frame["verdict"] != "")
    # Both are one process' own; what was pooled of all is the one against the faster baseline.
    each = frame[[f"{_SAME}/ratio", f"{_OTHER}/ratio"]].astype(float)
    times = (each[f"{_SAME}/ratio"] / each.min(axis=1)).where(both, 1.0)
    for name in ESTIMATE:
        frame[name] = frame[name] * times
    own_ms = frame["latency/baseline_same_dtype_median_ms"].astype(float)
    frame["latency/baseline_median_ms"] = frame["latency/baseline_median_ms"].where(~both, own_ms)
    again = interval_verdicts(frame, np.full(len(frame), margin))
    frame["verdict"] = np.where(both & ~frame["withheld"], again, frame["verdict"])
    return frame


def all_compared(found: pd.DataFrame, margin: float) -> pd.DataFrame:
    """The rows of both, whatever their treatment, each told as its run told itself: `treatment` and `step` tell them
    apart too. A quantized step is what the same run on no ladder is, and so it has none.
    """
    chosen = _with_models(found[found["compares"] != "false"])
    none = (chosen["treatment"] == QUANTIZED) | (chosen["step"] == NO_STEP)
    return _tidied(chosen.assign(step=chosen["step"].where(~none, "")), margin, CELL_OF_ALL)


def trainings_of(found: pd.DataFrame, margin: float) -> pd.DataFrame:
    """The same of trainings from scratch, one row per run key: what tells them apart is in the runs' folders.

    No rows where there are none.
    """
    chosen = found["task"] == _WHOLE
    return _tidied(_with_models(found)[chosen], margin, CELL) if chosen.any() else found[chosen]


def _with_models(found: pd.DataFrame) -> pd.DataFrame:
    """With what differs of models of one name among all attempts: some are told apart from others (`steps_of`)."""
    whole = found.copy()  # in few blocks: pandas warns of frames that were put together column by column
    return whole.assign(**{MODEL: models_of(found, _ASKED)})


def _tidied(found: pd.DataFrame, margin: float, cell: list[str]) -> pd.DataFrame:
    frame = one_per_key(typed(found))
    frame["device"] = called(frame[["device_name", "device_identity"]])
    pool_rows(frame)
    frame["variant"] = variants_of(frame, [name for name in CELL if name != "variant"])
    frame["variant"] = with_caches(frame)
    frame["both_arms"] = of_both_arms(frame)
    frame[CACHED] = frame["recipe"].str.extract(_STEP_CACHE, expand=False).fillna("")
    said = interval_verdicts(frame, np.full(len(frame), margin))
    frame["verdict"] = np.where((said != "") & frame["withheld"], frame["recorded"], said)
    frame["withheld"] &= frame["verdict"] != ""
    retell(frame, margin)
    others = sorted(name for name in map(str, frame) if "/" in name and name not in METRICS)
    frame = frame.reindex(columns=[*_COLUMNS, *others, "confidence"])
    frame[METRICS] = frame[METRICS].astype(float)
    frame["memory/saved"] = 1 - frame["memory/model_gib"] / frame["memory/baseline_model_gib"]
    frame = in_few_blocks(_stood(frame, cell))
    return frame.sort_values([*CELL, "started_at", "run_id"], na_position="first").reset_index(drop=True)


def _stood(frame: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """With which rows stand, and what they are against the fastest compile mode, among these rows."""
    by = ["finding", "started_at"]
    newest_first = frame[[*cell, *by]].sort_values(by, ascending=False, kind="stable")
    frame = frame.assign(stands=~newest_first.duplicated(cell))
    return frame.join(_against_fastest_mode(frame))


def told_alone(frame: pd.DataFrame, chosen: "pd.Series[bool]", cell: list[str] = CELL) -> pd.DataFrame:
    """Some of the rows as if there were no others: what replaces what is decided among them alone."""
    rows = frame[chosen].drop(columns=["stands", "fastest_mode", "speedup/fastest_mode"])
    return _stood(rows.reset_index(drop=True), cell)


def standing(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that tables and figures show: the newest of each workload, treatment and device."""
    return frame[frame["stands"]].reset_index(drop=True)


def newest_of_shapes(layers: pd.DataFrame) -> pd.DataFrame:
    """Of runs of one Linear a row per M x K x N and PLACE, of whatever batch: the newest finding, else the newest."""
    same, by = [*PLACE, "model", "target", *SHAPE], ["finding", "started_at"]
    ordered = layers[[*same, *by]].sort_values(by, kind="stable")
    return layers.loc[ordered.drop_duplicates(same, keep="last").index]


@once
def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a speedup with an interval."""
    return frame[frame["verdict"] != ""].reset_index(drop=True)


def alike(rows: pd.DataFrame, row: Row | Plain, names: Iterable[str]) -> pd.DataFrame:
    """The rows with the same in all these columns as one row; where it has nothing, with nothing."""
    for name in names:
        rows = rows[rows[name].isna() if pd.isna(row[name]) else rows[name].eq(row[name])]
    return rows


def plain(frame: pd.DataFrame) -> Sequence[Plain]:
    """The rows as dictionaries: each is made in a quarter of the time, its values are found in a tenth.

    As `frame.to_dict("records")`, which takes six times as long where there are many columns and few rows.
    """
    names = [*frame]
    return [dict(zip(names, row, strict=True)) for row in frame.astype(object).to_numpy().tolist()]


def devices(frame: pd.DataFrame) -> list[str]:
    """The devices that runs opened, in order; a run that opened none stands under what it asked for."""
    return [name for name in dict.fromkeys(frame["device"]) if not name.startswith(ASKED)]


@once
def model_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of blocks and whole models: those that are not one Linear. Of inference alone."""
    return frame[frame["M"].isna() & (frame["task"] != TRAINING)].reset_index(drop=True)


@once
def layer_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of one Linear, of M x K x N. Of inference alone."""
    return frame[frame["M"].notna() & (frame["task"] != TRAINING)].reset_index(drop=True)


def trained(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs that compare steps of a training, of whatever size."""
    return frame[frame["task"] == TRAINING].reset_index(drop=True)


def _against_fastest_mode(frame: pd.DataFrame) -> pd.DataFrame:
    """Where a workload stands in several compile modes: its fastest one unquantized, and the speedup against that.

    The baseline of another run, so of another process: there is no interval. One of a busy machine is none.
    """
    ran = frame[frame["stands"] & (frame["verdict"] != "")]
    workload = ran.groupby(MODES_OF, dropna=False, sort=False).ngroup()
    quiet = ran["latency/baseline_median_ms"].where(~ran["withheld"])
    baseline_ms = quiet.groupby([workload, *(ran[name] for name in BASELINE)])
    named = ["workload", "mode", *BASELINE[1:]]
    modes = baseline_ms.median().dropna().rename_axis(named).reset_index(name="ms")
    several = modes[modes.groupby("workload")["mode"].transform("nunique") > 1]
    fastest = several.sort_values(["ms", "mode"]).drop_duplicates("workload").set_index("workload")
    mode, least_ms = workload.map(fastest["mode"]), workload.map(fastest["ms"])
    columns = {"fastest_mode": mode, "speedup/fastest_mode": least_ms / ran["latency/median_ms"]}
    return pd.DataFrame(columns).reindex(frame.index)


VERDICTS = tuple(str(v) for v in Verdict)
