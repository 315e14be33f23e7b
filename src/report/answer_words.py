"""An answer in words, for the page and for the terminal."""

import math
import re
from collections.abc import Iterator, Sequence

import pandas as pd

from src.analysis.answers.picks import GOOD_SQNR, Answer, Goal, Pick
from src.analysis.runs.frame import CACHED, MODEL, Plain, Row
from src.analysis.verdicts import decibels, interval_text, milliseconds, speedup_text, treatment_text
from src.config.schema.model import PIPELINE

_OF = {PIPELINE: "a whole image", "denoiser": "one call of the denoiser"}
_MOST_RIVALS = 4
_RANDOM = "random"
_RANDOM_SAYS = "random weights: SQNR says nothing of how images look"
LEAVE = "leave it unquantized"


def place(answer: Answer) -> str:
    """``flux-dev, 1024 px, batch 4, one call of the denoiser``; a dtype other than bfloat16 named."""
    row = answer.first
    parts = [str(row["model"])]
    parts += [f"{row['resolution']} px"] if pd.notna(row["resolution"]) and row["resolution"] else []
    parts += [f"{row['frames']} frames"] if row["frames"] else []
    parts += [f"batch {row['batch']}"] if pd.notna(row["batch"]) else []
    parts.append(_OF.get(str(row["target"]), f"its {row['target']}"))
    parts += [str(row["dtype"])] if row["dtype"] not in ("bfloat16", "") else []
    return ", ".join(filter(None, [*parts, row[MODEL], row[CACHED]]))


def goals(pick: Pick) -> str:
    """``fastest and smallest``; ``fastest, also with SQNR ≥ 30 dB``."""
    also = Goal.FASTEST in pick.goals
    named = [goal for goal in pick.goals if goal is not Goal.GOOD or not also]
    suffix = f", also with {GOOD_SQNR}" if also and Goal.GOOD in pick.goals else ""
    return " and ".join(named) + suffix


def speedup(row: Row | Plain) -> str:
    """``1.38× (1.27–1.52)``: never without its interval."""
    return f"{speedup_text(row)} ({interval_text(row)})"


def pairs(row: Row | Plain) -> str:
    """``36``, of several processes ``36 in 3``; empty where nothing was compared."""
    if not row["verdict"] or pd.isna(row["speedup/pairs"]):
        return ""
    several = row["speedup/processes"] > 1
    return f"{row['speedup/pairs']:.0f}" + (f" in {row['speedup/processes']:.0f}" if several else "")


def basis(row: Row | Plain) -> str:
    """``4 pairs of rounds in 1 process``: what a speedup rests on; at the power cap ``4 pairs of blocks``."""
    of: str = "blocks" if pd.notna(row.get("speedup/alternating_ratio", math.nan)) else "rounds"
    return f"{_counted(row, 'pair')} of {of} in {_counted(row, 'process')}"


def _counted(row: Row | Plain, name: str) -> str:
    plural = f"{name}{'es' if name[-1] == 's' else 's'}"
    value = row[f"speedup/{plural}"]
    count: int = 1 if pd.isna(value) else int(value)
    return f"{count} {name if count == 1 else plural}"


def times(row: Row | Plain) -> str:
    """``135 → 97.8 ms``: both arms of the run."""
    base, treated = (milliseconds(row[f"latency/{arm}median_ms"]) for arm in ("baseline_", ""))
    return f"{base} → {treated} ms" if base and treated else ""


def memory(row: Row | Plain) -> str:
    """``22.2 → 12.4 GiB of weights``; small models in MiB."""
    gib = (float(row["memory/baseline_model_gib"]), float(row["memory/model_gib"]))
    if not all(map(math.isfinite, gib)):
        return ""
    scale, unit = (1, "GiB") if gib[0] >= 1 else (1024, "MiB")
    base, treated = (f"{value * scale:.3g}" for value in gib)
    return f"{base} → {treated} {unit} of weights"


def quality(row: Row | Plain) -> str:
    """``SQNR 17.9 dB: the error is 13 % of the output``; of pictures ``PSNR 31.0 dB against the unquantized``."""
    sqnr, psnr = float(row["quality/sqnr_db"]), float(row.get("quality/psnr_db", math.nan))
    if row["target"] == PIPELINE and math.isfinite(psnr):
        return f"PSNR {decibels(psnr)} dB against the unquantized"
    if not math.isfinite(sqnr):
        equal = row.get("quality/max_abs_error", math.nan) == 0
        return "its output is equal to the last bit" if equal else "quality not measured"
    share = 100 * 10 ** (-sqnr / 20)
    error = f"is {share:.2g} % of" if share < 99 else "is as large as" if share < 101 else "is larger than"
    return f"SQNR {decibels(sqnr)} dB: the error {error} the output"


def weights(answer: Answer) -> str:
    """What the weights' source leaves unsaid of quality; empty for real ones, and where no run tells."""
    return _RANDOM_SAYS if answer.first["weights"] == _RANDOM else ""


def measured(answer: Answer) -> str:
    """``of the one treatment measured; 1 more adds fused_qkv: 1.42× (1.41–1.43) int8dq …``."""
    of = f"of {answer.runs} treatments measured" if answer.runs > 1 else "of the one treatment measured"
    if not answer.besides:
        return of
    best = answer.besides[0]
    keys = re.findall(r"[\w.]+", str(best["treatment"]))
    added = " + ".join(key.rpartition(".")[2] for key in keys if key != "quant")
    many = (
        f"{len(answer.besides)} more add other things, the fastest" if answer.besides[1:] else "1 more adds"
    )
    variant = f" ({best['variant']})" if best["variant"] else ""
    return f"{of}; {many} {added}: {speedup(best)} {best['quant']}{variant}, see Step by step"


def rivals(pick: Pick) -> str:
    """What the pick cannot be told apart from; empty where it stands alone."""
    named = [f"{treatment_text(row)} {speedup(row)}" for row in pick.rivals[:_MOST_RIVALS]]
    more = len(pick.rivals) - len(named)
    return "; ".join([*named, *([f"{more} more"] if more else [])])


def rivals_lead(pick: Pick) -> str:
    """How the rivals are introduced: by speed their intervals overlap, by size they are as small."""
    if pick.goals == (Goal.SMALLEST,):
        slower = pick.row is not None and all(
            each["scale/low_ms"] > pick.row["scale/high_ms"] for each in pick.rivals
        )
        return "As small, and slower" if slower else "As small"
    return "Not told apart from it"


def sentence(pick: Pick) -> Iterator[str]:
    """A pick in a few pieces: what to use, how fast, on what it rests, what it costs."""
    if pick.row is None:
        yield f"{LEAVE}: {pick.why}"
        return
    row = pick.row
    yield treatment_text(row)
    yield f"{speedup(row)} {row['verdict']}, {basis(row)}"
    yield ", ".join(filter(None, [times(row), memory(row)]))
    yield quality(row)


def paragraph(answers: Sequence[Answer]) -> str:
    """The first answer in a line of Markdown: the workload, each pick, and what cannot be told from it."""
    if not answers:
        return "**No answer yet**: nothing was compared."
    first = answers[0]
    told = []
    for pick in first.picks:
        others = f"; {rivals_lead(pick).lower()}: {rivals(pick)}" if rivals(pick) else ""
        use, *facts = (LEAVE, pick.why) if pick.row is None else filter(None, sentence(pick))
        told.append(f"{', '.join([f'{goals(pick)}: **{use}**', *facts])}{others}.")
    more = f" {len(answers) - 1} more answers are in the report." if len(answers) > 1 else ""
    besides = [measured(first)] if first.besides else []
    where = "; ".join(filter(None, [f"{place(first)}, on {first.first['device']}", *besides, weights(first)]))
    return f"{where}. {' '.join(told)}{more}"
