"""What a run says: the verdict, or why there is none."""

from typing import Any

from src.measurement.rounds import Rounds
from src.measurement.statistics import SpeedupEstimate, Verdict, verdict
from src.records.record import EMULATED, Record
from src.tasks.context import RunContext
from src.tasks.timing import Timed, Watch

_TIMED = ("speedup/", "latency/", "throughput/", "energy/", "compile/cold_s", "compile/warm_s")


def conclude(estimate: SpeedupEstimate, timed: Timed, run: RunContext) -> None:
    """Fill in verdict, reason and remedy, and how the measuring went."""
    conf, record, rounds = run.cfg.measure, run.record, timed.rounds
    found, record.reason, record.remedy = verdict(estimate, conf.margin), "", ""
    withheld = doubts(timed, run)
    if withheld:
        found = Verdict.INCONCLUSIVE
        record.reason = "; ".join(reason for reason, _ in withheld)
        record.remedy = "; ".join(remedy for _, remedy in withheld)
    elif found is Verdict.INCONCLUSIVE:
        record.reason = (
            f"the interval {estimate.ci_low:.3f}-{estimate.ci_high:.3f} crosses the margin of {conf.margin:.0%}; "
            f"measuring ended by {rounds.stop_reason} after {estimate.pairs} pairs"
        )
        record.remedy = "a larger measure.budget_s, or measure=standard"
    elif found is Verdict.HURTS and run.cfg.compile.scope != "none":
        record.reason = run.cfg.quant.slow_compiled.get(run.device.kind, "")
    record.verdict = found
    if emulated := record.details.get("emulated"):
        record.verdict, record.reason, record.remedy = EMULATED, _emulated(emulated), emulated["remedy"]
    loads = [watch.load for watch in timed.watches]
    record.metrics["load/foreign_cpus"] = round(max(load.foreign_cpus for load in loads), 3)
    calls = sum(rounds.calls_per_round) * len(rounds.baseline_ms)
    record.metrics["load/page_faults_per_call"] = round(rounds.page_faults / max(calls, 1), 2)
    record.details |= {
        "stop_reason": rounds.stop_reason,
        "block_length": estimate.block_length,
        "warmup_pairs": rounds.warmup_pairs,
        "calls_per_round": list(rounds.calls_per_round),
        "measured_s": rounds.seconds,
        "cache": rounds.cache,
        "pinned_cpus": timed.watches[-1].pinned_cpus,
        "not_watched": timed.watches[-1].monitor.blind,
        "retaken_pairs": len(rounds.retaken),
        "throttled_pairs": len(rounds.throttled),
        "withheld": bool(withheld) and not emulated,  # measured again, it would be emulated again
    }


def doubts(timed: Timed, run: RunContext) -> list[tuple[str, str]]:
    """What disturbed the measuring, so that no verdict can be given: reason and remedy of each."""
    return [*_neighbours(timed.watches, run), *_throttling(timed.rounds)]


def set_aside_emulated(record: Record) -> None:
    """Call the timing of an emulated arm ``emulated/...``, so that nothing takes it for the scheme's own."""
    if "emulated" in record.details:
        record.metrics = {
            f"emulated/{name}" if name.startswith(_TIMED) and "/baseline_" not in name else name: value
            for name, value in record.metrics.items()
        }


def _emulated(how: dict[str, Any]) -> str:
    return f"emulated by {how['how']}, so only the quality counts; {how['reason']}"


def _neighbours(watches: list[Watch], run: RunContext) -> list[tuple[str, str]]:
    """Other processes that took what was being measured: reason and remedy."""
    found = []
    threads = run.device.threads
    crowd = [watch.load for watch in watches if threads is not None and watch.load.crowds(threads)]
    if crowd:
        load = max(crowd, key=lambda load: load.foreign_cpus)
        found.append((
            f"other processes used {load.foreign_cpus:.1f} of {load.cpus} CPUs while {threads} threads were measured",
            "a quiet machine, then the same command; or fewer threads (gpu=cpu gpu.threads=1)",
        ))  # fmt: skip
    others = sorted(set().union(*(watch.others for watch in watches)))
    if others:
        found.append((
            f"other processes were on {run.device.name}: {', '.join(others)}",
            "end them or take another device, then the same command",
        ))  # fmt: skip
    return found


def _throttling(rounds: Rounds) -> list[tuple[str, str]]:
    if not rounds.throttled:
        return []
    why = sorted({name for names in rounds.throttled.values() for name in names})
    return [(
        f"the device slowed itself down ({', '.join(why)}) in {len(rounds.retaken)} pairs that were retaken and, the "
        f"budget spent, in {len(rounds.throttled)} of {len(rounds.baseline_ms)} that count",
        "better cooling or a lower power limit, then the same command; or a larger measure.budget_s",
    )]  # fmt: skip
