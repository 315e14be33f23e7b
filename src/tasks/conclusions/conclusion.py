"""What a run says: the verdict, or why there is none."""

from typing import Any

import numpy as np

from src.config.schema.arms import baseline_of, is_usual, recipe_keys, recipe_text
from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.measurement.rounds import Rounds
from src.records.record import EMULATED, Record
from src.records.settled import OTHERWISE
from src.statistics.pooling import in_words
from src.statistics.speedup import SpeedupEstimate, Verdict, margin_text, verdict
from src.tasks.arms.recipe import LEFT_OUT
from src.tasks.arms.timing import Timed
from src.tasks.conclusions.launches import host_bound, launch_details, launch_notes
from src.tasks.conclusions.notes import Note, as_details
from src.tasks.conclusions.power_cap import power_cap_note

_TIMED = (
    "speedup/",
    "speedup_same_dtype/",
    "speedup_other_dtype/",
    "latency/",
    "throughput/",
    "energy/",
    "compile/cold_s",
    "compile/warm_s",
    "package/",
    "training/step_ms",
)
_NOTED = ("baseline_not_measured", "plan_made_elsewhere", LEFT_OUT)  # details that belong into the reason


def conclude(estimate: SpeedupEstimate, timed: Timed, run: RunContext) -> None:
    """Fill in verdict, reason and remedy, and how the measuring went."""
    record, withheld = run.record, doubts(timed, run)
    found, (reason, record.remedy) = verdict(estimate, run.cfg.measure.margin), ("", "")
    if withheld:
        found = Verdict.INCONCLUSIVE
        reason, record.remedy = ("; ".join(told) for told in zip(*withheld, strict=True))
    elif found is Verdict.INCONCLUSIVE:
        reason, record.remedy = _crossing(estimate, timed, run.cfg.measure)
    ahead, behind = _notes_ahead(timed.rounds, run), _notes_behind(timed, run)
    told = [note for note in (*ahead, Note("", reason), *behind) if note.told_beside(found)]
    record.reason = "; ".join(note.reason for note in told)
    record.remedy = "; ".join(dict.fromkeys(filter(None, [record.remedy, *(note.remedy for note in told)])))
    record.verdict = found
    record.details["notes"] = as_details([*ahead, *behind])
    record.metrics["speedup/processes"], record.details["interval"] = 1.0, in_words(1, None)
    emulated = record.details.get("emulated")
    if emulated:
        record.verdict, record.reason, record.remedy = EMULATED, _emulated(emulated), emulated["remedy"]
    record.metrics |= _load(timed)
    record.details |= _how_measured(estimate, timed)
    record.details["withheld"] = bool(withheld) and not emulated  # measured again, it would be emulated again
    if run.device.kind == "cuda":
        record.details |= launch_details(timed)


def _notes_ahead(rounds: Rounds, run: RunContext) -> list[Note]:
    """What the verdict is against, and under which circumstances."""
    details = run.record.details
    circumstances = [Note(name, details.get(name, "")) for name in _NOTED]
    otherwise = details.get(OTHERWISE, "")
    return [Note("baseline", _baseline(rounds, run)), *circumstances, Note(otherwise, otherwise)]


def _notes_behind(timed: Timed, run: RunContext) -> list[Note]:
    """What explains the numbers."""
    slow = run.cfg.quant.slow_compiled if run.cfg.compile.scope != "none" else {}
    return [
        Note("slow_compiled", slow.get(run.device.kind, ""), verdict=Verdict.HURTS),
        Note("power_cap", power_cap_note(run.record)),
        *launch_notes(timed, run.cfg),
    ]


def _crossing(estimate: SpeedupEstimate, timed: Timed, conf: MeasureConf) -> tuple[str, str]:
    """Reason and remedy of an interval that crosses the margin."""
    reason = (
        f"the interval {estimate.ci_low:.3f}-{estimate.ci_high:.3f} crosses the margin of "
        f"{margin_text(conf.margin)}; measuring ended by {timed.rounds.stop_reason} after {estimate.pairs} pairs"
        f"{' of blocks' * bool(timed.blocks)}"
    )
    if timed.rounds.order:
        return reason, "a larger measure.budget_s, or measure=standard"
    drift = f"measured in turn, it holds a drift of {margin_text(conf.in_turn_drift)} that no round shows"
    return f"{reason}; {drift}", "a device that holds both arms (measure.pairing=interleaved)"


def _load(timed: Timed) -> dict[str, float]:
    """What else the machine had to do: CPUs that others used, pages that were touched for the first time."""
    rounds = timed.rounds
    return {
        "load/foreign_cpus": round(max(watch.load.foreign_cpus for watch in timed.watches), 3),
        "load/page_faults_per_call": round(rounds.page_faults / max(rounds.calls, 1), 2),
    }


def _how_measured(estimate: SpeedupEstimate, timed: Timed) -> dict[str, Any]:
    rounds = timed.rounds
    return {
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
    }


def _baseline(rounds: Rounds, run: RunContext) -> str:
    """Note what the verdict is against; a sentence, where that is faster than the run's own dtype."""
    own, compiled = run.cfg.dtype, run.cfg.compile.name
    against = rounds.baseline or own
    run.record.details["baseline"] = {
        "dtype": against,
        "compile": compiled,
        "text": f"unquantized {against}, compile={compiled}",
    }
    if not is_usual(run.cfg) or recipe_keys(run.cfg.recipe):
        base = baseline_of(run.cfg)
        quant = "unquantized" if base.quant.name == "none" else f"{base.quant.name} of"
        parts = [f"{quant} {against}", f"compile={base.compile.name}", recipe_text(base.recipe)]
        run.record.details["baseline"] |= {
            "compile": base.compile.name,
            "text": ", ".join(filter(None, parts)),
        }
    if against == own:
        return ""
    times = float(np.median(rounds.others[own].ms) / np.median(rounds.baseline_ms))
    if times < 1:
        return f"against unquantized {against}, which was the faster baseline in the run's first process"
    text = f"{times:.{1 if times >= 2 else 2}f}"
    return f"unquantized {against} is {text}x faster than the {own} baseline on this device"


def doubts(timed: Timed, run: RunContext) -> list[tuple[str, str]]:
    """What disturbed the measuring, so that no verdict can be given: reason and remedy of each."""
    return [*_neighbours(timed, run), *_throttling(timed), *_recompiling(timed.rounds)]


def set_aside_emulated(record: Record) -> None:
    """Call the timing of an emulated arm ``emulated/...``, so that nothing takes it for the scheme's own."""
    if "emulated" in record.details:
        record.metrics = {
            f"emulated/{name}" if name.startswith(_TIMED) and "/baseline_" not in name else name: value
            for name, value in record.metrics.items()
        }


def _emulated(how: dict[str, Any]) -> str:
    return f"emulated by {how['how']}, so only the quality counts; {how['reason']}"


def _neighbours(timed: Timed, run: RunContext) -> list[tuple[str, str]]:
    """Other processes that took what was being measured: reason and remedy.

    On CUDA the host's CPUs matter to arms that wait for the host: one thread of it launches.
    """
    found, watches = [], timed.watches
    threads = 1 if host_bound(timed) else run.device.threads
    crowd = [watch.load for watch in watches if threads is not None and watch.load.crowds(threads)]
    if crowd:
        load = max(crowd, key=lambda load: load.foreign_cpus)
        measured = (
            f"{threads} threads were measured" if run.device.threads else "the device waited for the host"
        )
        fewer = "; or fewer threads (gpu=cpu gpu.threads=1)" if run.device.threads else ""
        found.append((
            f"other processes used {load.in_words()} while {measured}",
            f"a quiet machine, then the same command{fewer}",
        ))  # fmt: skip
    others = sorted(set().union(*(watch.others for watch in watches)))
    if others:
        found.append((
            f"other processes were on {run.device.name}: {', '.join(others)}",
            "end them or take another device, then the same command",
        ))  # fmt: skip
    return found


def _throttling(timed: Timed) -> list[tuple[str, str]]:
    rounds, remedy = timed.rounds, "better cooling or a lower power limit, then the same command"
    if timed.blocks and (slowed := timed.blocks.slowdowns()):
        return [(f"the device slowed itself down ({', '.join(slowed)}) in blocks of one arm", remedy)]
    if not rounds.throttled:
        return []
    why = sorted({name for names in rounds.throttled.values() for name in names})
    return [(
        f"the device slowed itself down ({', '.join(why)}) in {len(rounds.retaken)} pairs that were retaken and, the "
        f"budget spent, in {len(rounds.throttled)} of {rounds.counted} that count",
        f"{remedy}; or a larger measure.budget_s",
    )]  # fmt: skip


def _recompiling(rounds: Rounds) -> list[tuple[str, str]]:
    if not rounds.recompiles:
        return []
    return [(
        f"{rounds.recompiles} graphs were compiled again while rounds were timed",
        "TORCH_LOGS=recompiles says which guard failed; compile.dynamic=true, or compile=none",
    )]  # fmt: skip
