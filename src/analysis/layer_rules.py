"""Presets of layer rules as hypotheses: does it pay to leave those layers in bf16, against quantizing all?"""

import math
from collections.abc import Iterator

import pandas as pd

from src.analysis.across import ends
from src.analysis.runs.frame import WEIGHTS, WORKLOAD, Row, compared, model_level
from src.analysis.verdicts import percent, workload_text
from src.statistics.speedup import SpeedupEstimate, Verdict, verdict

PRESET = r"(?:^|, )layers=([^,]+)"  # in a run's variant
_ALL = "all"
_MOST = 2
_FOUND = {
    Verdict.HELPS: "is faster",
    Verdict.NEUTRAL: "is as fast",
    Verdict.HURTS: "is slower",
    Verdict.INCONCLUSIVE: "is undecided",
}


def layer_rules(runs: pd.DataFrame, margin: float) -> Iterator[str]:
    """A sentence per workload that was measured with several presets: what became of each, by scheme."""
    ran = compared(model_level(runs))
    ran = ran[ran["variant"].str.contains("layers=", regex=False) & ~ran["withheld"]]  # few of very many
    preset = ran["variant"].str.extract(PRESET)[0]
    rest = ran["variant"].str.replace(PRESET, "", regex=True)
    ran = ran.assign(_preset=preset, _rest=rest)[preset.notna()]
    groups = sorted(ran.groupby(["device", *WORKLOAD], dropna=False), key=lambda item: -len(item[1]))
    found = []
    for (device, *_), group in groups:
        told = [
            _told(row, whole.iloc[0], margin)
            for _, rows in group.groupby(["quant", "compile", "_rest"])
            if len(whole := rows[rows["_preset"] == _ALL])
            for _, row in rows[rows["_preset"] != _ALL].iterrows()
        ]
        if told:
            where = f"On {device}, {workload_text(group.iloc[0])}"
            found.append(f"{where}, against layers=all: {'; '.join(told)}.")
    yield from found[:_MOST]
    if left := len(found[_MOST:]):
        yield f"{left} more workload{'s' * (left > 1)} with several presets of layers in the table."


def against(row: Row, whole: Row) -> SpeedupEstimate:
    """How many times as fast one run's treated arm is as another's, each against its own baseline.

    The interval is MOVER's for a ratio of independent estimates (Zou and Donner 2008), in logarithms, and holds what
    processes differ by: the runs were in different ones.
    """
    one, other = (
        [math.log(value) for value in (run["speedup/ratio"], *map(float, ends(run)))] for run in (row, whole)
    )
    ratio = one[0] - other[0]
    low = ratio - math.hypot(one[0] - one[1], other[2] - other[0])
    high = ratio + math.hypot(one[2] - one[0], other[0] - other[1])
    pairs = int(min(row["speedup/pairs"], whole["speedup/pairs"]))
    return SpeedupEstimate(math.exp(ratio), math.exp(low), math.exp(high), pairs, block_length=1)


def _told(row: Row, whole: Row, margin: float) -> str:
    """``int8wo with field_default is faster (1.05×, 1.03–1.07; SQNR +0.3 dB; memory saved 44% instead of 50%)``."""
    found = against(row, whole)
    facts = [f"{found.ratio:.2f}×, {found.ci_low:.2f}–{found.ci_high:.2f}"]
    gained_db = row["quality/sqnr_db"] - whole["quality/sqnr_db"]
    if not math.isnan(gained_db) and row[WEIGHTS].equals(whole[WEIGHTS]):
        facts.append(f"SQNR {gained_db:+.1f} dB")
    saved = [percent(each["memory/saved"]) for each in (row, whole)]
    if all(saved):
        facts.append(f"memory saved {saved[0]} instead of {saved[1]}")
    mode = f", compile={row['compile']}," if row["compile"] != "regional" else ""
    return f"{row['quant']} with {row['_preset']}{mode} {_FOUND[verdict(found, margin)]} ({'; '.join(facts)})"
