"""The report's first screen: per model and device what to use, its evidence, its code, what would add to it."""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from src.analysis.answers.advice import Advice, Advised
from src.analysis.runs.frame import Plain
from src.analysis.verdicts import treatment_text
from src.report import answer_words as words
from src.report.graphics.markup import chip, heading

TITLE = "What to use"
_OPEN = 6  # answers; the others are folded
_SHORT = 9  # lines of code that are shown at once


def answer_section(found: Sequence[Advised], left: int = 0) -> str:
    """A card per workload under the device's name; empty where no model was compared.

    Args:
        found: the answers.
        left: how many more workloads there are.
    """
    parts = []
    for device, members in groupby(found, key=lambda each: str(each.answer.first["device"])):
        cards = [_card(each, opened=index == 0) for index, each in enumerate(members)]
        folded = "".join(cards[_OPEN:])
        more = (
            f"<details><summary>{len(cards) - _OPEN} more workloads</summary>{folded}</details>"
            if folded
            else ""
        )
        parts.append(f'<h3 class="device">{escape(device)}</h3>{"".join(cards[:_OPEN])}{more}')
    if left:
        parts.append(f'<p class="note">{left} more workloads in <a href="verdicts.csv">verdicts.csv</a>.</p>')
    return f'<section class="answers">{heading(TITLE)}{"".join(parts)}</section>' if parts else ""


def _card(each: Advised, *, opened: bool) -> str:
    picks = "".join(_pick(one) for one in each.advice)
    of = "; ".join(filter(None, [words.measured(each.answer), words.weights(each.answer)]))
    return (
        f'<article class="answer"><h4>{escape(words.place(each.answer))} <small>{escape(of)}</small></h4>'
        f'<div class="picks">{picks}</div><div class="below">{"".join(_below(each.advice, opened))}</div></article>'
    )


def _pick(advice: Advice) -> str:
    pick = advice.pick
    goal = f'<p class="goal">{escape(words.goals(pick))}</p>'
    if pick.row is None:
        told = f'<p class="use">{words.LEAVE}</p><p class="fact">{escape(pick.why)}.</p>'
        return f'<div class="pick">{goal}{told}</div>'
    others = words.rivals(pick)
    told = f'<p class="fact"><b>{words.rivals_lead(pick)}:</b> {escape(others)}</p>' if others else ""
    return f'<div class="pick">{goal}{_evidence(pick.row)}{told}</div>'


def _evidence(row: Plain) -> str:
    facts = [words.times(row), words.memory(row), words.quality(row), words.basis(row)]
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts if fact)
    return (
        f'<p class="use">{escape(treatment_text(row))}</p>'
        f'<p class="speedup">{escape(words.speedup(row))} {chip(str(row["verdict"]))}</p>'
        f'<ul class="facts">{items}</ul>'
    )


def _below(advice: Sequence[Advice], opened: bool) -> Iterator[str]:
    """At the card's full width: the code of each pick, the first open if asked for and short; then the commands."""
    for index, each in enumerate(each for each in advice if each.code):
        shown = opened and index == 0 and each.code.count("\n") < _SHORT
        yield _folded(f"Code: {words.goals(each.pick)}", each.code, opened=shown)
    for each in {each.surer: each for each in advice if each.surer}.values():
        where = f", on {each.where}" if each.where else ""
        yield _folded(f"What would make it surer: {words.goals(each.pick)}{where}", each.surer)


def _folded(title: str, code: str, *, opened: bool = False) -> str:
    state = " open" if opened else ""
    return (
        f"<details{state}><summary>{escape(title)}</summary><pre><code>{escape(code)}</code></pre></details>"
    )
