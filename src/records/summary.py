"""A sweep in one look: the headline numbers and the verdict table of its parent run."""

import shlex
import statistics
from collections import Counter
from collections.abc import Iterable

from src.records import content
from src.records.record import Outcome, Record
from src.records.store import SweepManifest

_MAX_NOTE = 7800  # characters; MLflow takes 8000 in a tag


def headline(manifest: SweepManifest, records: Iterable[Record]) -> dict[str, float]:
    """Counts by verdict and outcome, and the span of the speedups that no busy machine put in doubt."""
    records = list(records)
    found = {"sweep/runs": float(len(manifest.runs)), "sweep/recorded": float(len(records))}
    verdicts = Counter(record.verdict for record in records)
    found |= {
        f"sweep/{name}": float(verdicts[name]) for name in ("helps", "hurts", "neutral", "inconclusive")
    }
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


def sweep_note(manifest: SweepManifest, children: dict[str, Record], experiment_id: str) -> str:
    """The verdict table in Markdown, the largest speedup first.

    Args:
        manifest: of the sweep.
        children: MLflow's run id -> record.
        experiment_id: of the links.
    """
    rows = sorted(children.items(), key=lambda item: -item[1].metrics.get("speedup/ratio", float("-inf")))
    note = f"`{shlex.join(manifest.command)[:500]}`\n\n" if manifest.command else ""
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
        if len(note) + len(row) > _MAX_NOTE:
            return f"{note}\n{len(rows) - done} more runs"
        note += row
    return note
