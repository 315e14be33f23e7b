"""An analysis in the tracker: its headline numbers, its answer, its files."""

from pathlib import Path

import pandas as pd

from src.analysis.runs.frame import VERDICTS
from src.analysis.runs.tracked.logbook import Entry
from src.config.schema.root import AnalyzeConf
from src.report.answer_words import paragraph
from src.report.report import Report

_CONTROL = "none"


def entry(conf: AnalyzeConf, report: Report, paths: list[Path]) -> Entry:
    """What is logged of an analysis, also with the sweep it is of."""
    sweep = conf.sweep or ""
    return Entry(
        name=f"analysis of {sweep or 'all runs'}",
        tags={"sweep": sweep} if sweep else {},
        metrics=headline(report.runs, report.breakeven),
        files=paths,
        sweep=sweep,
        answer=paragraph([each.answer for each in report.answers]),
    )


def headline(runs: pd.DataFrame, breakeven: pd.DataFrame) -> dict[str, float]:
    """Metrics of an analysis: runs by outcome and verdict, best and worst speedup of a treatment, crossings found."""
    metrics = {"runs/total": float(len(runs))}
    metrics |= {f"runs/{outcome}": float(count) for outcome, count in runs["outcome"].value_counts().items()}
    metrics |= {f"verdict/{name}": float((runs["verdict"] == name).sum()) for name in VERDICTS}
    told = (runs["verdict"] != "") & ~runs["withheld"] & (runs["quant"] != _CONTROL)
    speedups = runs.loc[told, "speedup/ratio"]
    if len(speedups):
        metrics |= {"speedup/best": float(speedups.max()), "speedup/worst": float(speedups.min())}
    return metrics | {"breakeven/crossings": float(breakeven["m"].notna().sum())}
