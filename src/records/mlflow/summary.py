"""A sweep in one look: the headline numbers and the verdict table of its parent run."""

import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

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
        return f"**No speedup was measured**: {told or 'no run was recorded'}."
    counts = Counter(record.verdict for record in ran)
    pay = [record for record in ran if record.verdict == "helps"]
    best = max(pay or ran, key=lambda record: record.metrics["speedup/ratio"])
    verdicts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    found = f"{content.label(best)}, {content.speedup(best.metrics)}"
    if "speedup/pairs" in best.metrics:
        found += f", {best.metrics['speedup/pairs']:.0f} pairs"
    on = f" on {best.device['name']}" if best.device.get("name") else ""
    if not counts["helps"]:
        return f"**Leave it unquantized{on}**: of {_runs(len(ran))} none helps ({verdicts}); the best is {found}."
    if len({_workload(record) for record in ran}) == 1:
        rivals = sum(r is not best and _reaches(r, best) for r in pay)
        more = f"; {rivals} more cannot be told apart from it" if rivals else ""
        return f"**Use {best.axes['quant']}{on}**: the fastest of {_runs(len(ran))} ({verdicts}) is {found}{more}."
    helped = f"Quantizing helps in {counts['helps']} of {len(ran)} runs{on}"
    return f"**{helped}** ({verdicts}); most: {found}."


def _reaches(record: Record, best: Record) -> bool:
    """Whether a run's interval overlaps that of the best."""
    return record.metrics.get("speedup/ci_high", 0.0) > best.metrics.get("speedup/ci_low", 0.0)


def _runs(number: int) -> str:
    return "1 quantized run" if number == 1 else f"{number} quantized runs"


def _workload(record: Record) -> str:
    """What was to be computed, whatever quantized or compiled it."""
    apart = ("quant", "compile", "gpu", "seed")
    return str([(n, v) for n, v in (record.axes | record.shape).items() if n.partition(".")[0] not in apart])


def sweep_note(manifest: SweepManifest, children: dict[str, Record], experiment_id: str) -> str:
    """The answer, then the verdict table in Markdown, the largest speedup first.

    Args:
        manifest: of the sweep.
        children: MLflow's run id -> record.
        experiment_id: of the links.
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
