"""A sweep in one look: the headline numbers and the verdict table of its parent run."""

import math
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from src.config.lines import runs_in_words
from src.records.mlflow import content
from src.records.record import EMULATED, Outcome, Record
from src.records.store import SweepManifest

VERDICTS = ("helps", "hurts", "neutral", "inconclusive")
NOTE = "mlflow.note.content"  # a run's description: its first paragraph is the answer
MAX_NOTE = 7800  # characters; MLflow takes 8000 in a tag


def headline(manifest: SweepManifest, records: Iterable[Record]) -> dict[str, float]:
    """Counts by verdict and outcome, and the span of the speedups that no busy machine put in doubt."""
    records = list(records)
    found = {"sweep/runs": float(len(manifest.runs)), "sweep/recorded": float(len(records))}
    verdicts = Counter(record.verdict for record in records)
    found |= {f"sweep/{name}": float(verdicts[name]) for name in VERDICTS}
    outcomes = Counter(record.outcome for record in records if record.outcome is not Outcome.OK)
    found |= {f"sweep/{outcome}": float(number) for outcome, number in outcomes.items()}
    measured = (r for r in records if not r.details.get("withheld"))
    speedups = [r.metrics["speedup/ratio"] for r in measured if "speedup/ratio" in r.metrics]
    if speedups:
        found |= {
            "sweep/best_speedup": max(speedups),
            "sweep/median_speedup": statistics.median(speedups),
            "sweep/worst_speedup": min(speedups),
        }
    return found


def sweep_status(manifest: SweepManifest, records: Iterable[Record]) -> str:
    """FINISHED when every run ended in a finding."""
    findings = sum(record.outcome.is_finding for record in records)
    return "FINISHED" if findings == len({(r["run_key"], r["attempt"]) for r in manifest.runs}) else "FAILED"


def answer(records: Sequence[Record]) -> str:
    """What came out, in a sentence: of one workload what to use, of several how often it helps and where most."""
    ran = [r for r in records if r.verdict not in ("", EMULATED) and not r.details.get("withheld")]
    ran = [r for r in ran if r.axes.get("quant") != "none" and "speedup/ratio" in r.metrics]
    if not ran:
        outcomes = Counter(str(record.outcome) for record in records)
        told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
        withheld = sum(bool(record.details.get("withheld")) for record in records)
        if withheld:
            were = "was" if withheld == 1 else "were"
            return f"**No verdict, as {runs_in_words(withheld)} of {len(records)} {were} disturbed**: {told}."
        return f"**No speedup was measured**: {told or 'no run was recorded'}."
    counts = Counter(record.verdict for record in ran)
    verdicts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    devices = {str(record.device.get("name", "")) for record in ran} - {""}
    on = f" on {next(iter(devices))}" if len(devices) == 1 else ""
    if counts["helps"] and len({_workload(record) for record in ran}) == 1:
        return _of_one_workload(ran, verdicts, on)
    best = max((r for r in ran if r.verdict == "helps" or not counts["helps"]), key=_ratio)
    if not counts["helps"]:
        told = f"of {_runs(len(ran))} none helps ({verdicts}); the best is {_told(best)}"
        return f"**Leave it unquantized{on}**: {told}."
    helped = f"Quantizing helps in {counts['helps']} of {len(ran)} runs{on}"
    return f"**{helped}** ({verdicts}); most: {_told(best)}."


def _of_one_workload(ran: Sequence[Record], verdicts: str, on: str) -> str:
    """The fastest of those that help, if it is faster than the model is unquantized in any compile mode.

    On one scale for all modes, as in `src.analysis.answers.picks`: the unquantized time of the mode over the speedup.
    """
    unquantized_ms = _unquantized_ms(ran)
    mode, least_ms = min(unquantized_ms.items(), key=lambda item: item[1])
    times = [(unquantized_ms[_mode(r)] / _ratio(r), r) for r in ran if r.verdict == "helps"]
    best_ms, best = min(times, key=lambda timed: timed[0])
    several = len(unquantized_ms) > 1
    told = _told(best) + (f", {best_ms:.4g} ms" if several else "")
    if several and best_ms >= least_ms:
        why = f"with compile={mode} it then takes {least_ms:.4g} ms, less than with anything that helps"
        return f"**Leave it unquantized{on}**: {why} ({verdicts}); the best is {told}."
    most_ms = unquantized_ms[_mode(best)] / best.metrics.get("speedup/ci_low", math.inf)
    others = [r for _, r in times if r is not best]
    rivals = sum(unquantized_ms[_mode(r)] / r.metrics.get("speedup/ci_high", 0.001) < most_ms for r in others)
    more = f"; {rivals} more cannot be told apart from it" if rivals else ""
    return f"**Use {best.axes['quant']}{on}**: the fastest of {_runs(len(ran))} ({verdicts}) is {told}{more}."


def _unquantized_ms(ran: Sequence[Record]) -> dict[str, float]:
    """By compile mode the median unquantized time; 1 in each where some do not tell it."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in ran:
        found[_mode(record)].append(record.metrics.get("latency/baseline_median_ms", math.nan))
    medians = {mode: statistics.median(times) for mode, times in found.items()}
    return medians if all(map(math.isfinite, medians.values())) else dict.fromkeys(medians, 1.0)


def _mode(record: Record) -> str:
    return str(record.axes.get("compile", ""))


def _ratio(record: Record) -> float:
    return record.metrics["speedup/ratio"]


def _told(record: Record) -> str:
    pairs = f", {record.metrics['speedup/pairs']:.0f} pairs" if "speedup/pairs" in record.metrics else ""
    return f"{content.label(record)}, {content.speedup(record.metrics)}{pairs}"


def _runs(number: int) -> str:
    return "1 quantized run" if number == 1 else f"{number} quantized runs"


def _workload(record: Record) -> str:
    """What was to be computed and on which device, whatever quantized or compiled it."""
    apart, known = ("quant", "compile", "gpu", "seed"), record.axes | record.shape
    told = [(name, value) for name, value in known.items() if name.partition(".")[0] not in apart]
    return str([*told, record.device.get("name")])


def sweep_note(manifest: SweepManifest, children: dict[str, Record], experiment_id: str) -> str:
    """The answer, then the verdict table in Markdown, the largest speedup first.

    Args:
        children: MLflow's run id -> record.
    """
    rows = sorted(children.items(), key=lambda item: -item[1].metrics.get("speedup/ratio", float("-inf")))
    note = f"{answer(list(children.values()))}\n\n"
    note += f"`{shlex.join(manifest.command)[:500]}`\n\n" if manifest.command else ""
    note += "| run | verdict | speedup (interval) | latency (p10-p90) | baseline | why |\n|---|---|---|---|---|---|\n"
    for done, (run_id, record) in enumerate(rows):
        m = record.metrics
        cells = (
            f"[{content.label(record)}](#/experiments/{experiment_id}/runs/{run_id})",
            record.verdict or str(record.outcome),
            content.speedup(m) if "speedup/ratio" in m else "",
            content.latency(m) if "latency/median_ms" in m else "",
            content.latency(m, "baseline_") if "latency/baseline_median_ms" in m else "",
            record.reason[:120].replace("|", "/"),
        )
        row = f"| {' | '.join(cells)} |\n"
        if len(note) + len(row) > MAX_NOTE:
            return f"{note}\n{len(rows) - done} more runs"
        note += row
    return note
