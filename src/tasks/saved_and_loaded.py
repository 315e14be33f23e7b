"""Whether a loaded model is still the one that was saved, and how that is said."""

import math
from dataclasses import dataclass
from typing import Any

from src.context import RunContext
from src.measurement.rounds import estimate_speedup, rounds_in_turn
from src.outcomes import RunEndedError
from src.quality.sqnr import sqnr_db
from src.records.record import Outcome
from src.serialization.fresh import Tensors, TimedCalls, digest
from src.statistics.speedup import Verdict, verdict

_NOISE_DB = 3.0  # how much further apart than two calls of one model a loaded one may be
# by whether serialize.load is given
_EXPECTED = {False: "before it was saved", True: "this configuration makes"}
# of a package in a fresh process
_SPEED = {
    Verdict.HELPS: "{ratio:.2f}x as quick as where it was built",
    Verdict.HURTS: "{ratio:.2f}x as quick as where it was built",
    Verdict.NEUTRAL: "as quick as where it was built",
    Verdict.INCONCLUSIVE: "not told apart in speed from where it was built",
}
_REMEDIES = {
    False: "serialize.format=torch, if it was safetensors; details.serialize in record.json says what was saved",
    True: "the seed, the weights and the options that it was saved with; config.json beside it has the options",
}


@dataclass
class Reference:
    """What the quantized model gave before it was saved."""

    outputs: Tensors
    repeat_db: float  # SQNR of a second call against the first; infinite: equal bit for bit
    timed: TimedCalls | None = None  # of packages


def judged(where: str, reference: Reference, outputs: Tensors, run: RunContext) -> dict[str, Any]:
    """How the outputs of a loaded model compare with those before it was saved.

    Raises:
        RunEndedError: `bad_numerics` when they differ by more than two calls of the model do.
    """
    found: dict[str, Any] = {
        "equal": digest(outputs) == digest(reference.outputs),
        "output_sha256": digest(outputs),
    }
    if found["equal"]:
        return found
    loaded_db = sqnr_db(reference.outputs, outputs)
    if math.isfinite(loaded_db):
        found["sqnr_db"] = loaded_db
        known = run.record.metrics.get("serialize/sqnr_db", math.inf)
        run.record.metrics["serialize/sqnr_db"] = min(loaded_db, known)
    given = run.cfg.serialize.load is not None
    if loaded_db < reference.repeat_db - _NOISE_DB:
        raise RunEndedError(
            Outcome.BAD_NUMERICS,
            f"loaded {where}, the model gives another output than {_EXPECTED[given]}: SQNR {loaded_db:.1f} dB",
            run.record.details["serialize"].get("layers_apart") or _REMEDIES[given],
        )
    return found


def note_speed(here: TimedCalls, there: TimedCalls, run: RunContext) -> None:
    """How quick packages are in a fresh process, against the process that built them; measured in turn."""
    told = run.record.details["serialize"]
    for load in (here.load, there.load):
        if run.device.threads and load.crowds(run.device.threads):
            told["speed"] = f"not timed, as others used {load.in_words()}"
            return
    found = estimate_speedup(rounds_in_turn(here.rounds, there.rounds), run.cfg.measure)
    values = {"ratio": found.ratio, "ci_low": found.ci_low, "ci_high": found.ci_high}
    run.record.metrics |= {f"package/fresh_speed_{name}": value for name, value in values.items()}
    said = _SPEED[verdict(found, run.cfg.measure.margin)].format(ratio=found.ratio)
    told["speed"] = f"{said} ({found.ci_low:.3f}-{found.ci_high:.3f})"


def in_words(found: dict[str, Any], run: RunContext) -> str:
    """What became of the checkpoint, for the record."""
    size, baseline = (run.record.metrics[f"serialize/{name}size_gib"] for name in ("", "baseline_"))
    same = (
        "equal bit for bit here and in a fresh process"
        if found["equal"]
        else "as near to the saved model as two calls of that are to each other"
    )
    carried = f", an unsafe pickle that carries {', '.join(found['unsafe'])}" if found["unsafe"] else ""
    speed = f"; its package there {found['speed']}" if "speed" in found else ""
    kept = f"; kept in {found['checkpoint']}" if found["checkpoint"] else ""
    return f"{found['format']}{carried}: {size:.3g} of {baseline:.3g} GiB, loaded {same}{speed}{kept}"
