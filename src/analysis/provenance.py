"""How the runs were measured: read from their records, which say more than MLflow's metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from src.analysis.runs import calibrated
from src.analysis.runs.devices import Device
from src.analysis.runs.facts import VERSIONS, facts
from src.analysis.runs.frame import compared
from src.analysis.runs.reasons import disturbances
from src.analysis.runs.tracked.tracker import Tracker
from src.config.lines import runs_in_words
from src.config.schema.model import PIPELINE
from src.statistics.pooling import in_words
from src.statistics.speedup import Verdict

_PROTOCOL_OF = ("device_name", "device_identity", "protocol")
_LOW_SQNR_DB = 20.0


@dataclass
class Provenance:
    """What the report says of how it was measured; `records` of `runs` could be read."""

    runs: int
    records: int = 0
    more: bool = False  # the next analysis may read further records
    versions: dict[str, list[str]] = field(
        default_factory=dict
    )  # name -> the values met, most frequent first
    pairing: Counter[str] = field(default_factory=Counter)
    stopped_by: Counter[str] = field(default_factory=Counter)
    fell_back: list[str] = field(default_factory=list)  # whose plans were not applied, and why
    mixed: list[str] = field(default_factory=list)  # versions that differ between the runs
    calibrations: list[str] = field(default_factory=list)  # the newest of each device that was compared on
    uncalibrated: list[str] = field(
        default_factory=list
    )  # what is to be said of calibrations, a sentence each


def provenance(runs: pd.DataFrame, outputs: Path, tracker: Tracker) -> Provenance:
    """Read the records of the runs: those on this disk, and some of the others from the tracker."""
    told, more = facts(runs, outputs, tracker)
    found = Provenance(runs=len(runs), records=len(told), more=more)
    values = {name: _counted(told[name]) for name in VERSIONS}
    found.versions = {name: [*counts] for name, counts in values.items() if counts}
    found.mixed = [
        n for n, values in found.versions.items() if len(values) > 1 and n not in ("host", "dirty")
    ]
    found.pairing = _counted(told.loc[told["verdict"] != "", "pairing"])
    found.stopped_by = _counted(told["stop_reason"])
    fell = told[told["fell_back"] != ""]
    found.fell_back = sorted(_counted(fell["quant"] + ": " + fell["fell_back"]))
    ran, newest = compared(runs), calibrated.newest(tracker.calibrations())
    named = ran[["device_name", "device_identity", "device"]].drop_duplicates()
    devices = {(name, identity): label for name, identity, label in named.itertuples(index=False)}
    found.calibrations = [newest[key].text for key in devices if key in newest]
    protocols: dict[Device, set[str]] = {}
    for name, identity, protocol in told[[*_PROTOCOL_OF]].drop_duplicates().itertuples(index=False):
        protocols.setdefault((name, identity), set()).add(protocol)
    found.uncalibrated = list(calibrated.warnings(devices, newest, protocols))
    return found


def _counted(texts: "pd.Series[str]") -> "Counter[str]":
    """How often each text comes, the most frequent first; records that say nothing left out."""
    return Counter({str(text): int(count) for text, count in texts[texts != ""].value_counts().items()})


def warnings(runs: pd.DataFrame, found: Provenance, replaced: int) -> list[str]:
    """What a reader should know before trusting the numbers, one sentence each."""
    ran = compared(runs)
    undecided = int(((ran["verdict"] == Verdict.INCONCLUSIVE) & ~ran["withheld"]).sum())
    one_forward = ran[ran["target"] != PIPELINE]
    noisy = one_forward[
        (one_forward["verdict"] == Verdict.HELPS) & (one_forward["quality/sqnr_db"] < _LOW_SQNR_DB)
    ]
    recompiled = _recompiled(ran)
    alone = int((ran["interval"] == in_words(1, None)).sum())
    unfinished = runs[~runs["finding"]]
    of_these = f"of {runs_in_words(len(ran))} with a speedup"
    checks = {
        f"{found.pairing['in_turn']} of {found.records} records were measured with their arms in turn, not "
        "interleaved: their wide intervals hold the drift that may lie between the arms.": found.pairing[
            "in_turn"
        ],
        **_withheld(ran),
        f"{undecided} {of_these} are inconclusive: their intervals cross the margin; "
        "a larger measure.budget_s or measure=standard narrows them.": undecided,
        f"{alone} {of_these} {'was' if alone == 1 else 'were'} measured in one process, and no other runs of the "
        "device tell well enough how far processes lie apart: their intervals lack that; "
        "measure.processes=3 has it.": alone,
        f"Among the runs that help, {runs_in_words(len(noisy))} with an SQNR below {_LOW_SQNR_DB:.0f} dB "
        f"({', '.join(sorted(set(noisy['quant'])))}): look at the outputs first.": len(noisy),
        f"{runs_in_words(len(unfinished))} ended without a finding ({_counts(unfinished['outcome'])}): "
        "the same command measures only what has none.": len(unfinished),
        f"{runs_in_words(recompiled)} recompiled after the first call: some rounds may be slow.": recompiled,
        f"The runs were measured {_apart(found.mixed)}: compare across them with care.": len(found.mixed),
        f"{runs_in_words(replaced)} of the same workload, treatment and device as a newer one (other versions, seeds "
        "or measurement settings) left out; verdicts.parquet has them with stands=False.": replaced,
        f"Pairing and versions were read from {found.records} of {found.runs} records: the others "
        "are not on this disk.": found.runs - found.records,
    }
    told = [text for text, count in checks.items() if count]
    return [*told, *found.uncalibrated, *(f"{why}." for why in found.fell_back)]


def _withheld(ran: pd.DataFrame) -> dict[str, int]:
    """A sentence per cause that verdicts are withheld for, and how many."""
    told = disturbances(ran.loc[ran["withheld"], "reason"])
    return {
        f"{count} of {runs_in_words(len(ran))} {'withholds its' if count == 1 else 'withhold their'} verdict, "
        f"{_for(why)}: no break-even has {'it' if count == 1 else 'them'}; {remedy}.": count
        for (why, remedy), count in told.most_common()
    }


def _for(why: str) -> str:
    return why if why.startswith("as ") else f"for {why}"


def _apart(mixed: Sequence[str]) -> str:
    """``at different commits and with different versions of torch, driver``."""
    versions = ", ".join(name for name in mixed if name != "commit")
    told = ["at different commits"] if "commit" in mixed else []
    return " and ".join([*told, f"with different versions of {versions}"] if versions else told)


def _recompiled(ran: pd.DataFrame) -> int:
    return int((ran["compile/recompiles"] > 0).sum()) if "compile/recompiles" in ran else 0


def _counts(values: "pd.Series[str]") -> str:
    return ", ".join(f"{count} {name}" for name, count in values.value_counts().items())
