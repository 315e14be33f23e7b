"""The verdict in words: sentences computed from the runs, claiming nothing that was not measured."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from src.analysis.baselines import faster_dtypes, fastest_modes
from src.analysis.crossing_words import between, number
from src.analysis.layer_rules import layer_rules
from src.analysis.runs.frame import TRAINING, WEIGHTS, compared, devices, model_level
from src.analysis.shapes import Case
from src.analysis.verdicts import interval_text, not_run, speedup_text, times
from src.config.lines import clipped, runs_in_words
from src.config.schema.model import PIPELINE
from src.records.record import EMULATED, Outcome
from src.report.runs.starts import starts_in_words
from src.report.training.shapes import training_in_words
from src.statistics.pooling import in_words
from src.statistics.speedup import Verdict, margin_text

_CONTROL = "none"
_MOST_MODELS = 4
_MOST_SCHEMES = 8
_MOST_CURVES = 2
_MOST_ENDS, _MOST_REASONS = 3, 3
_CURVE = ["K", "N", "variant", "dtype", "model", "target"]
_CURVE_NAMES = {"variant": "options"}
_AXES = {
    "batch": "batch {}", "resolution": "{} px", "frames": "{} frames", "dtype": "{}", "compile": "compile={}",
    "variant": "{}",
}  # fmt: skip
_NUMBERS = ["speedup/ratio", "speedup/ci_low", "speedup/ci_high"]
_ORDER = (Verdict.HELPS, Verdict.NEUTRAL, Verdict.INCONCLUSIVE, Verdict.HURTS)
_ENDS = {Outcome.UNSUPPORTED: "did not run", EMULATED: "was emulated, for its quality alone"}
_SAYS = {
    Verdict.HELPS: "helps",
    Verdict.NEUTRAL: "makes no difference",
    Verdict.INCONCLUSIVE: "is inconclusive",
    Verdict.HURTS: "hurts",
}


def sentences(runs: pd.DataFrame, breakeven: pd.DataFrame, margin: float) -> list[str]:
    """Sentences: counts, faster baselines, each model, modes, rules, one Linear, packages, what did not run, quality.

    The last one says what the intervals contain.
    """
    if runs.empty:
        return []
    return [
        _counted(runs, margin),
        *faster_dtypes(runs),
        *_models(runs),
        *fastest_modes(runs, margin),
        *layer_rules(runs, margin),
        *_linears(breakeven),
        *starts_in_words(runs),
        *training_in_words(runs),
        *_did_not_run(runs),
        *_quality(runs),
        *_intervals(runs),
    ]


def _counted(runs: pd.DataFrame, margin: float) -> str:
    every = compared(runs)[["quant", "verdict"]]
    ran, controls = every[every["quant"] != _CONTROL], every[every["quant"] == _CONTROL]
    verdicts = Counter(ran["verdict"])
    told = ", ".join(f"{v} {verdicts[v]}" for v in _ORDER if verdicts[v])
    opened = len(devices(runs))
    where = f" on {opened} device{'s' if opened > 1 else ''}" if opened else ""
    steps = int((runs["task"] == TRAINING).sum())
    which = f", {steps if steps > 1 else 'one'} of them training," if 0 < steps < len(runs) else ""
    text = f"{runs_in_words(len(runs))}{which}{where}; {len(ran)} compared a treatment"
    text += (
        f" with its baseline at a margin of {margin_text(margin)} ({told})"
        if len(ran)
        else " with its baseline"
    )
    if len(controls):
        neutral = int((controls["verdict"] == Verdict.NEUTRAL).sum())
        text += f"; of the controls (quant=none) {neutral} of {len(controls)} came out neutral"
    return f"{text}."


def _models(runs: pd.DataFrame) -> Iterator[str]:
    ran = compared(model_level(runs))[["device", "model", "target", "quant", "verdict", *_AXES, *_NUMBERS]]
    ran = ran[ran["quant"] != _CONTROL]
    groups = sorted(ran.groupby(["device", "model", "target"]), key=lambda item: -len(item[1]))
    for (device, model, target), group in groups[:_MOST_MODELS]:
        where = model if target == "denoiser" else f"{model}/{target}"
        schemes = sorted(group.groupby("quant"), key=lambda item: -float(item[1]["speedup/ratio"].max()))
        told = "; ".join(_scheme(str(quant), rows) for quant, rows in schemes[:_MOST_SCHEMES])
        more = (
            f"; {len(schemes) - _MOST_SCHEMES} more schemes in the table" if schemes[_MOST_SCHEMES:] else ""
        )
        yield f"On {device}, {where}: {told}{more}."
    if len(groups) > _MOST_MODELS:
        rest = len(groups) - _MOST_MODELS
        yield f"{rest} more {'model or target is' if rest == 1 else 'models and targets are'} in the table."


def _scheme(quant: str, rows: pd.DataFrame) -> str:
    """One scheme's verdicts, each with where it holds and the speedups there."""
    told = []
    for found in (v for v in _ORDER if v in set(rows["verdict"])):
        part = rows[rows["verdict"] == found]
        told.append(f"{_SAYS[found]} {_where(part, rows)} ({_range(part)})".replace("  ", " "))
    return f"{quant} {', '.join(told)}"


def _where(part: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Where in a scheme's runs a part of them lies: ``at batch 4``, if axes tell it, else how many they are."""
    if len(part) == len(rows):
        return "" if len(rows) == 1 else "everywhere it was measured"
    values = {name: list(dict.fromkeys(part[name])) for name in _AXES}
    chosen = rows[rows[list(_AXES)].isin(values).all(axis=1)]
    if len(chosen) > len(part):
        return f"in {len(part)} of {len(rows)} cases"
    telling = [name for name in _AXES if set(values[name]) != set(rows[name])]
    return "at " + ", ".join(_AXES[name].format(_listed(values[name])) for name in telling)


def _listed(values: list[object]) -> str:
    return " and ".join(str(value) for value in values) if len(values) < 3 else ", ".join(map(str, values))


def _range(rows: pd.DataFrame) -> str:
    """One run: its speedup and interval. Several: what all their intervals span, and how many they are."""
    if len(rows) == 1:
        row = rows.iloc[0]
        return f"{speedup_text(row)}, {interval_text(row)}"
    low, high = rows["speedup/ci_low"].min(), rows["speedup/ci_high"].max()
    return f"{times(low)}–{times(high)}× in {runs_in_words(len(rows))}"


def _linears(breakeven: pd.DataFrame) -> Iterator[str]:
    curves = breakeven.assign(curve=breakeven.groupby(_CURVE, dropna=False).ngroup())
    groups = sorted(curves.groupby(["device", "compile"]), key=lambda item: -len(item[1]))
    told = []
    for (device, mode), group in groups[:_MOST_CURVES]:
        schemes = [_curves(str(quant), rows) for quant, rows in group.groupby("quant")]
        first, last = group["m_min"].min(), group["m_max"].max()
        measured = f"M = {first}–{last}" if first < last else f"M = {first}"
        told.append(f"One Linear on {device}, compile={mode}, {measured}: {'; '.join(schemes)}.")
    if len(groups) > len(told):
        told[-1] += (
            f" The break-even table has {len(groups) - len(told)} more pairs of device and compile mode."
        )
    yield from told


def _curves(quant: str, rows: pd.DataFrame) -> str:
    """A scheme's break-even over its (K, N) shapes."""
    curves = rows.drop_duplicates("curve")
    cases = Counter(curves["case"])
    told = []
    for direction, says in (("up", "starts to pay"), ("down", "stops paying")):
        crossing = rows[(rows["direction"] == direction) & rows["decided"].eq(True)]
        if len(crossing):
            count = len(crossing.drop_duplicates("curve"))
            told.append(f"{says} {_span(crossing, curves)} ({_of(count, curves)})")
    unclear = len(rows[rows["decided"].eq(False)].drop_duplicates("curve"))
    if unclear:
        told.append(f"crosses 1, but not beyond the margin on both sides ({_of(unclear, curves)})")
    alike = {
        Case.HELPS: "helps at every measured M",
        Case.HURTS: "hurts at every measured M",
        Case.NEUTRAL: "makes no difference at any measured M",
        Case.FASTER: "is faster at every measured M, not always beyond the margin",
        Case.SLOWER: "is slower at every measured M, not always beyond the margin",
        Case.UNCLEAR: "is not beyond the margin at any measured M",
    }
    told += [f"{text} ({_of(cases[case], curves)})" for case, text in alike.items() if cases[case]]
    return f"{quant} {', '.join(told)}"


def _span(crossing: pd.DataFrame, curves: pd.DataFrame) -> str:
    """The measured M that one curve's break-even lies between; of several all that these span."""
    ends = crossing["m_low"].min(), crossing["m_high"].max()
    told = between(*ends, bool(crossing["low_open"].any()), bool(crossing["high_open"].any()))
    if len(crossing) == 1:
        return f"{told}: {number(float(crossing['m'].iloc[0]))} if straight in between"
    return f"{told}, depending on {_each(curves)}"


def _of(count: int, curves: pd.DataFrame) -> str:
    return f"{count} of {len(curves)} {_each(curves)}" if len(curves) > 1 else "1 K×N"


def _each(curves: pd.DataFrame) -> str:
    """What curves are of; a curve of one K×N may stand there once more, of another variant or dtype."""
    differ = [_CURVE_NAMES.get(name, name) for name in _CURVE[2:] if curves[name].nunique() > 1]
    return " and ".join(["K×N", *differ])


def _did_not_run(runs: pd.DataFrame) -> Iterator[str]:
    """The commonest ends without a verdict, each with its commonest reasons."""
    ended = not_run(runs).groupby(["quant", "outcome"], sort=False)
    groups = sorted(ended, key=lambda item: -int(item[1]["runs"].sum()))
    told = []
    for (quant, outcome), rows in groups[:_MOST_ENDS]:
        end = _ENDS.get(str(outcome), f"ended in {outcome}")
        told.append(f"{quant} {end} ({runs_in_words(int(rows['runs'].sum()))}){_reasons(rows)}")
    if told:
        more = (
            f"; {len(groups) - len(told)} further kinds of end are in the table"
            if len(groups) > len(told)
            else ""
        )
        yield f"{'; '.join(told)}{more}."


def _reasons(rows: pd.DataFrame) -> str:
    """Why runs ended as they did; where that differs, how many for which reason."""
    counts = Counter[str]()
    for reason, count in zip(rows["reason"], rows["runs"], strict=True):
        counts[clipped(str(reason or "no reason given"), 140)] += int(count)
    if not any(rows["reason"]):
        return ""
    if len(counts) == 1:
        return f": {next(iter(counts))}"
    told = [f"{count} of them: {reason}" for reason, count in counts.most_common(_MOST_REASONS)]
    rest = counts.total() - sum(count for _, count in counts.most_common(_MOST_REASONS))
    return ": " + ", ".join([*told, *([f"{rest} for other reasons"] if rest else [])])


def _quality(runs: pd.DataFrame) -> Iterator[str]:
    one_forward = runs["quality/sqnr_db"].notna() & (runs["target"] != PIPELINE)
    helps = runs[(runs["verdict"] == Verdict.HELPS) & one_forward]
    if len(helps):
        alike = [
            rows for _, rows in helps.groupby(WEIGHTS, sort=False)
        ]  # others' SQNR is not to be ranked with
        worst = [rows.iloc[int(rows["quality/sqnr_db"].argmin())] for rows in alike]
        told = [f"{each['quality/sqnr_db']:.1f} dB ({each['quant']}, {each['model']})" for each in worst]
        many = f"Of the {runs_in_words(len(helps))} that help and have an SQNR of one call"
        each = ", by setting of model.weights, are" if told[1:] else " is"
        yield f"{many} the lowest{each} {' and '.join(told)}."


def _intervals(runs: pd.DataFrame) -> Iterator[str]:
    """What the intervals contain, of devices where it is more than one process."""
    told = []
    for device, texts in compared(runs).groupby("device", sort=False)["interval"]:
        contents = Counter(texts)
        if set(contents) - {in_words(1, None)}:
            counts = (
                f"{runs_in_words(n)} of {text.replace('; ', ', with a ')}"
                for text, n in contents.most_common()
            )
            told.append(f"Intervals on {device}: {'; '.join(counts)}.")
    yield from told[:_MOST_MODELS]
