"""The analysis on the terminal, readable at 100 columns: the answer, the table, how sure it is, what comes next."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from src.analysis.answers.advice import Advised
from src.analysis.runs.frame import model_level, trained
from src.analysis.verdicts import (
    IMAGE_QUALITY,
    decibels,
    image_metrics,
    interval_text,
    milliseconds,
    not_run,
    percent,
    random_weights,
    speedup_text,
    status,
    treatment_text,
    verdict_table,
    workload_text,
)
from src.report import answer_words as words

_STYLES = {"helps": "bold green", "hurts": "red", "neutral": "bright_black", "inconclusive": "yellow"}
_MOST_ROWS, _FEWEST_ROWS = 60, 8  # of all tables of a kind together, and of each
_MOST_ANSWERS = 6
_CURVE = ("model", "target", "dtype")  # of a break-even, told where they differ


def show(
    console: Console,
    runs: pd.DataFrame,
    breakeven: pd.DataFrame,
    sentences: list[str],
    warnings: list[str],
    answers: Sequence[Advised] = (),
) -> None:
    """Print the answers, the verdicts per device, break-evens, what did not run, the verdict in words, how sure."""
    for each in answers[:_MOST_ANSWERS]:
        _answer(console, each)
    if len(answers) > _MOST_ANSWERS:
        console.print(f"{len(answers) - _MOST_ANSWERS} more answers are in the report", "")
    ran = verdict_table(pd.concat([model_level(runs), trained(runs)]))
    ran = ran[ran["verdict"] != ""]
    for table in (_verdicts, _breakeven):
        frame = ran if table is _verdicts else breakeven
        most = max(_FEWEST_ROWS, _MOST_ROWS // max(1, frame["device"].nunique()))
        for device, rows in frame.groupby("device"):
            console.print(table(str(device), rows, most), "")
    if not (ended := not_run(runs)).empty:
        console.print(_not_run(ended), "")
    for sentence in sentences:
        console.print(Text(sentence))
    console.print()
    if warnings:
        console.print(Text("How sure", style="bold"))
    for warning in warnings:
        console.print(Text(f"note: {warning}", style="yellow"))
    console.print()


def closing(console: Console, report: Path, view: str, answers: Sequence[Advised]) -> None:
    """Print what to do next and what to open: one link and the commands, each whole on a line of its own.

    Nothing else is on a command's line: interactive zsh takes a comment for arguments.

    Args:
        console: where to.
        report: its file.
        view: what shows the runs themselves: a command, or a server's address.
        answers: the first that cannot be told from another, else the first, gives the next command.
    """
    every = [advice for each in answers for advice in each.advice if advice.surer]
    following = min(every, key=lambda each: not each.pick.rivals, default=None)
    if following and following.where:
        console.print(f"on {following.where}:", soft_wrap=True, markup=False)
    surer = following.surer if following else ""
    lines = [("next, surer", surer), ("report", report.resolve().as_uri()), ("runs", view)]
    for name, text in lines:
        if text:
            console.print(f"{name + ':':13}{text}", soft_wrap=True, markup=False)


def _answer(console: Console, each: Advised) -> None:
    """What to use on one workload: a head, then each pick, its pieces below each other."""
    device = each.answer.first["device"]
    console.print(Text(f"{words.place(each.answer)}, on {device}", style="bold"))
    besides = words.measured(each.answer) if each.answer.besides else ""
    if note := "; ".join(filter(None, [besides, words.weights(each.answer)])):
        console.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    for advice in each.advice:
        console.print(Padding(Text(f"{words.goals(advice.pick)}:"), (0, 0, 0, 2)))
        lines = [*words.sentence(advice.pick)]
        if others := words.rivals(advice.pick):
            lines.append(f"{words.rivals_lead(advice.pick).lower()}: {others}")
        for index, line in enumerate(lines):
            console.print(Padding(Text(line, style="" if index else "bold"), (0, 0, 0, 6)))
    console.print()


def _table(title: str, **columns: str) -> Table:
    table = Table(
        title=escape(title), title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    for name, justify in columns.items():
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _verdicts(device: str, rows: pd.DataFrame, most: int) -> Table:
    images = image_metrics(rows)
    table = _table(
        device, workload="left", treatment="left", speedup="right", interval="left", pairs="right", base_ms="right",
        ms="right", saved="right", SQNR_dB="right",
        **{IMAGE_QUALITY[name][0].replace(",", ""): "right" for name in images}, verdict="left",
    )  # fmt: skip
    for _, row in rows.head(most).iterrows():
        table.add_row(
            *(escape(text) for text in (workload_text(row), treatment_text(row))),
            *(speedup_text(row), interval_text(row), words.pairs(row)),
            *(milliseconds(row["latency/baseline_median_ms"]), milliseconds(row["latency/median_ms"])),
            *(percent(row["memory/saved"]), decibels(row["quality/sqnr_db"])),
            *(IMAGE_QUALITY[name][1](row[name]) for name in images),
            Text(status(row), style=_STYLES.get(status(row), "dim")),
        )
    more = f"{len(rows) - most:,} more rows in verdicts.csv" if len(rows) > most else ""
    table.caption = "; ".join(filter(None, [random_weights(rows), more])) or None
    return table


def _breakeven(device: str, rows: pd.DataFrame, most: int) -> Table:
    table = _table(
        f"One Linear: break-even M on {device}", treatment="left", K="right", N="right", result="left", best="right",
    )  # fmt: skip
    for _, row in rows.head(most).iterrows():
        best = f"{row['best']:.2f}× {row['best_low']:.2f}–{row['best_high']:.2f} at {row['best_m']}"
        style = _STYLES.get(row["case"], "")
        told = " ".join(
            [treatment_text(row), *(str(row[name]) for name in _CURVE if rows[name].nunique() > 1)]
        )
        table.add_row(escape(told), str(row["K"]), str(row["N"]), Text(str(row["says"]), style), best)
    if len(rows) > most:
        table.caption = f"{len(rows) - most:,} more rows in breakeven.csv"
    return table


def _not_run(ended: pd.DataFrame) -> Table:
    table = _table("Without a verdict", quant="left", runs="right", outcome="left", why="left")
    for _, row in ended.head(_MOST_ROWS).iterrows():
        remedy = f" → {row['remedy']}" if row["remedy"] else ""
        where = f"{row['device']}: {row['where']}. "
        table.add_row(
            escape(row["quant"]), str(row["runs"]), row["outcome"], Text(f"{where}{row['reason']}{remedy}"),
            style="dim",
        )  # fmt: skip
    if len(ended) > _MOST_ROWS:
        table.caption = f"{len(ended) - _MOST_ROWS:,} more reasons in verdicts.csv"
    return table
