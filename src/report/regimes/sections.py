"""Regimes in the report and on the terminal: published numbers, rules, forecasts, and how both were tested."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from html import escape
from itertools import groupby
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from src.forecasts.forecast import UNKNOWN
from src.regimes.regimes import Regimes
from src.regimes.rules import NO_VERDICT, Rule
from src.regimes.trials import FITTED, Trial
from src.report.regimes.attribution import attribution_section, attributions_in_words
from src.report.regimes.models import models_in_words, models_section
from src.report.regimes.tables import (
    predictions_table,
    published_tables,
    rules_table,
    shape_text,
    speedup_text,
    trials_table,
)
from src.report.runs.sections import section

_LINE = re.compile(r"(.*), line (\d+): (.*)", re.DOTALL)
_FIRST = 20  # predictions on the terminal
_MOST_REFUSED = 20
_MOST_RULES, _MOST_PLACES = 12, 6  # of a device and compile mode, and of these, on the terminal


def show(console: Console, found: Regimes) -> None:
    """Print what was refused, what is published, the rules, how they were tested, the first predictions."""
    for sentence in refused_in_words(found.refused):
        console.print(Text(f"note: {sentence}", style="yellow"), soft_wrap=True)
    for line in [*models_in_words(found.models), *attributions_in_words(found.attributions)]:
        console.print(Text(line), soft_wrap=True)
    for sentence in [
        *published(found),
        *sampled(found),
        *rules_in_words(found.rules),
        *tested_in_words(found.trials),
    ]:
        console.print(Text(sentence))
    for line in _predictions(found.predictions):
        console.print(Text(line), soft_wrap=True)
    if found.rules or found.imported.sources:
        console.print()


def published(found: Regimes) -> Iterator[str]:
    """A sentence on what came from elsewhere."""
    layers, models = found.imported.cells, found.imported.models
    if found.imported.sources:
        told = f"{len(layers)} published cells of single layers and {len(models)} of models"
        yield (
            f"{told} ({', '.join(found.imported.sources)}) stand beside the own runs, in none of their verdicts: "
            "single samples. In rules and forecasts a published cell counts half."
        )


def sampled(found: Regimes) -> Iterator[str]:
    """A sentence where there are more cells than are fitted."""
    if found.untested:
        yield (
            f"The forecasts' tests are of before the newest {found.untested:,} of {len(found.cells):,} cells: with "
            "more of them they are made again."
        )
    if found.left_out:
        every = len(found.cells) + found.left_out
        yield (
            f"Rules and forecasts rest on {len(found.cells):,} of {every:,} cells, as many of each device, compile "
            "mode, dtype and scheme."
        )


def rules_in_words(rules: list[Rule]) -> Iterator[str]:
    """Of each device and compile mode the rules with most cells, those that help first; none that failed its test."""
    ordered = sorted(rules, key=lambda rule: (*_place(rule), -rule.cells))
    places = [(place, [*members]) for place, members in groupby(ordered, key=_place)]
    for place, of_place in places[:_MOST_PLACES]:
        device, mode, dtype = place
        shown = [rule for rule in of_place if not rule.is_refuted][:_MOST_RULES]
        left = f"; {len(of_place) - len(shown)} more in the report" if len(of_place) > len(shown) else ""
        yield f"Rules for one Linear on {device}, compile={mode}, {dtype}{left}:"
        yield from (f"- {rule.text}." for rule in sorted(shown, key=_order))
    if len(places) > _MOST_PLACES:
        yield f"Rules for {len(places) - _MOST_PLACES} more devices, compile modes and dtypes: in the report"


def _order(rule: Rule) -> tuple[bool, float]:
    """Those that help first, those without a verdict last."""
    return rule.is_mixed, -rule.speedup


def _place(rule: Rule) -> tuple[str, str, str]:
    return rule.device, rule.compile, rule.dtype


def tested_in_words(trials: list[Trial]) -> Iterator[str]:
    """How the forecasts did on what was left out, and what does better."""
    for own in (each for each in trials if each.way == FITTED):
        others = [each for each in trials if each.left_out == own.left_out and each.way != FITTED]
        beside = ", ".join(f"{each.way} {each.right:.0%}" for each in others)
        better = [each.way for each in others if each.right > own.right]
        verdict = f"; that does not generalize: {', '.join(better)} did better" if better else ""
        yield (
            f"With {own.left_out}{_parts(own)} left out, the forecast's verdict was right for {own.right:.0%} of "
            f"{own.far} cells more than 10% from 1 and wrong for {own.wrong:.0%} ({beside}); median error "
            f"{own.error:.1%}, {own.within:.0%} within 25%, {own.unknown:.0%} of {own.cells} unknown{verdict}."
        )


def _parts(trial: Trial) -> str:
    """Where things were not left out one by one, how."""
    return f" of {trial.things}, several at once," if trial.things > trial.folds else ""


def regimes_sections(found: Regimes) -> Iterator[str]:
    """Rules, forecasts, tests and published numbers, as sections; those with nothing to show left out."""
    if found.models:
        yield models_section(found.models)
    if found.attributions:
        yield attribution_section(found.attributions)
    if found.rules:
        note = (
            "A shallow tree over each scheme's cells. A verdict is that of at least three quarters of them. Bounds "
            "are the nearest values that were measured; the effect is the median of the cells with the 5th and 95th "
            "percentile. "
        ) + " ".join(sampled(found))
        yield section("Rules", note, rules_table(found.rules))
    if len(found.predictions):
        note = (
            f"Intervals hold 90 % of what they predict; {UNKNOWN} says why. All of it is in predictions.csv."
        )
        yield section("Predicted", note, predictions_table(found.predictions))
    if found.trials:
        note = "Each thing was left out of every fit, predicted, and compared with what was measured."
        words = "".join(f"<li>{escape(sentence)}</li>" for sentence in tested_in_words(found.trials))
        body = f"<ul>{words}</ul>{trials_table(found.trials)}"
        yield section("How far rules and forecasts can be trusted", note, body)
    if found.imported.sources:
        body = "".join(f"<p>{escape(sentence)}</p>" for sentence in published(found)) + published_tables(
            found
        )
        yield section("Published elsewhere", "", body)


def refused_in_words(sentences: list[str]) -> Iterator[str]:
    """The refused rows, those of one file and reason in one line."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sentence in sentences:
        file, line, reason = match.groups() if (match := _LINE.fullmatch(sentence)) else (sentence, "", "")
        alike[file, reason].append(line)
    for (file, reason), lines in [*alike.items()][:_MOST_REFUSED]:
        where = f", line{'s' if len(lines) > 1 else ''} {', '.join(lines)}: " if reason else ""
        yield f"{file}{where}{reason}"
    if len(alike) > _MOST_REFUSED:
        yield f"rows were refused for {len(alike) - _MOST_REFUSED} more reasons"


def _tested(row: dict[Hashable, Any]) -> str:
    """Of the rule beside a prediction."""
    if NO_VERDICT in row["rule"] and pd.isna(row["rule_right"]):
        return f"{row['rule_cells']} cells"
    if pd.isna(row["rule_right"]):
        return f"{row['rule_cells']} cells, not tested: one K × N"
    return f"right for {row['rule_right']} of {row['rule_cells']} cells"


def _predictions(rows: pd.DataFrame) -> Iterator[str]:
    for row in rows.head(_FIRST).to_dict("records"):
        rule = f"{row['rule']} ({_tested(row)})" if row["rule"] else ""
        known = "; ".join(filter(None, [f"{row['verdict']} {speedup_text(row)}", rule, row["reason"]]))
        told = f"{UNKNOWN}: {row['reason']}" if row["verdict"] == UNKNOWN else known
        yield f"{shape_text(row)} {row['quant']}: {told}"
    if len(rows) > _FIRST:
        yield f"{len(rows) - _FIRST} more rows in predictions.csv"
