"""The report of a calibration: one HTML file that works offline, its page in page.html."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from src.analysis.runs.facts import VERSIONS
from src.calibration import figures
from src.calibration.experiments.plan import Experiment, Kind
from src.calibration.intervals import Mean, mean_text, percent, rate_text, spread_text
from src.calibration.record import EXPERIMENTS_NAME, Calibration, write_record
from src.calibration.summary import Group, Status, Summary
from src.calibration.terminal import SAYS, cautions
from src.report.graphics.markup import Cell, chip, definitions, number_cell, table, text_cell
from src.report.graphics.palette import VERDICTS, look
from src.report.report import page_parts
from src.report.runs.sections import plot, section

REPORT_NAME = "report.html"
_WIDE, _BROAD = 760, 480  # px, of a figure with hundreds of marks, and of others
_PAGE = Path(__file__).with_name("page.html")
_LOOKS = {Status.MET: ("helps", "✓"), Status.NOT_MET: ("hurts", "✗"), Status.UNDECIDED: ("inconclusive", "?")}


def write_files(done: Calibration, experiments: Sequence[Experiment], folder: Path) -> None:
    """Write the record first, then ``experiments.csv`` and ``report.html`` beside it."""
    write_record(done, folder)
    columns = [each.name for each in fields(Experiment)]
    rows = pd.DataFrame([asdict(each) for each in experiments], columns=columns)
    rows.to_csv(folder / "experiments.csv", index=False)
    text = page(done, experiments, folder / EXPERIMENTS_NAME)
    (folder / REPORT_NAME).write_text(text, encoding="utf-8")


def page(done: Calibration, experiments: Sequence[Experiment], raw: Path) -> str:
    """The report as HTML.

    Args:
        experiments: all of them, crowded ones too, which are left out of the figures.
        raw: ``experiments.jsonl``, with the raw rounds.
    """
    style, script = page_parts()
    summary = done.summary
    counts = f"{summary.experiments} experiments" + (
        f", of which {summary.crowded} crowded not counted" if summary.crowded else ""
    )
    stopped = "; stopped by the user before its end" if done.interrupted else ""
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        style=style, script=script,
        device=escape(str(done.device["name"])),
        source=escape(f"measure={done.config['measure']['name']} · {counts}{stopped}"),
        date=escape(_minute(done.started_at)),
        status=f"{_chip(summary.status)}<b>{escape(SAYS[summary.status])}</b>",
        warnings=_warnings(cautions(summary)),
        sections="\n".join(_sections(done, experiments, raw)),
    )  # fmt: skip


def _sections(done: Calibration, experiments: Sequence[Experiment], raw: Path) -> Iterator[str]:
    summary, margin = done.summary, float(done.config["measure"]["margin"])
    counted = [each for each in experiments if not each.crowded]
    pairs = [each for each in counted if each.speedup is not None]
    yield section("Requirements", "What the instrument must do on this device.", _requirements(summary))
    if pairs:
        note = (
            f"Blue: the truth. Marks: the estimate with its interval, each lane sorted. Grey: the margin of "
            f"±{percent(margin)}, within which nothing is claimed. The widest intervals are cut. Hover for details."
        )
        yield section(
            "Every comparison",
            note,
            _legend() + plot(figures.estimates(pairs, margin), "Every comparison", _WIDE) + _groups(summary),
        )
    rows = _effects(summary)
    if rows:
        note = (
            "Means over the processes with 95 % intervals; small marks are single processes, the grey band is "
            "±0.5 %. Only the first has a limit. The others tell what an interval, made within one process, "
            "leaves out."
        )
        yield section(
            "Differences that no treatment makes",
            note,
            plot(figures.effects(rows), "Differences that no treatment makes", _BROAD) + _told(rows),
        )
    if chosen := _example(pairs):
        yield _rounds(chosen, raw)
    yield section(
        f"What measure={done.config['measure']['name']} costs and resolves here", "", _preset(summary)
    )
    yield section("How it was measured", "", definitions(_provenance(done, experiments)))


def _requirements(summary: Summary) -> str:
    rows = [
        [text_cell(r.text), text_cell(r.limit), Cell(escape(r.measured), r.measured, number=True),
         Cell(_chip(r.status), str(r.status))]
        for r in summary.requirements
    ]  # fmt: skip
    return table(["Requirement", "Limit", "Measured (95 % interval)", ""], rows)


def _groups(summary: Summary) -> str:
    heads = ["Put in", "Verdicts", "Found", "Estimate against truth", "Spread", "Interval holds truth"]
    return table(heads, [_group_row(group) for group in summary.groups])


def _group_row(group: Group) -> list[Cell]:
    told = " ".join(f"{chip(name)} {count}" for name, count in group.verdicts.items() if count)
    name = f"delay of {percent(group.slowdown)}" if group.slowdown else "equal copies"
    return [
        Cell(f'<span class="nowrap">{name}</span>', group.slowdown),
        Cell(f'<span class="nowrap">{told}</span>', group.n),
        number_cell(rate_text(group.hurts) if group.slowdown else "–", group.hurts.value),
        number_cell(mean_text(group.bias), group.bias.value if group.bias else None),
        number_cell(spread_text(group.spread), group.spread),
        number_cell(rate_text(group.coverage), group.coverage.value),
    ]


def _effects(summary: Summary) -> list[tuple[str, Mean]]:
    rows = [
        ("rounds against a bare loop", summary.harness),
        ("… with a copy in the other arm", summary.beside),
        ("copy built second, faster by", summary.built_second),
        ("treated arm of equal copies, faster by", summary.second_arm),
    ]
    return [(name, found) for name, found in rows if found is not None]


def _told(rows: Sequence[tuple[str, Mean]]) -> str:
    return definitions([(name, f"{mean_text(mean)}, {len(mean.values)} processes") for name, mean in rows])


def _example(pairs: Sequence[Experiment]) -> Experiment | None:
    """The comparison whose rounds are shown: of the slowdown nearest to 3 %, one of median length."""
    slowed = [each for each in pairs if each.kind is Kind.SLOWDOWN] or list(pairs)
    if not slowed:
        return None
    nearest = min((each.slowdown for each in slowed), key=lambda share: abs(share - 0.03))
    members = [each for each in slowed if each.slowdown == nearest]
    length = statistics.median_low([each.pairs for each in members])
    return next(each for each in members if each.pairs == length)


def _rounds(chosen: Experiment, raw: Path) -> str:
    lines = (json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines())
    found: dict[str, Any] = next(line["rounds"] for line in lines if line["started_at"] == chosen.started_at)
    what = f"a delay of {percent(chosen.slowdown)}" if chosen.slowdown else "equal copies"
    note = (
        f"Process {chosen.process}, {what}, estimate {chosen.speedup:.4f}×, truth {chosen.truth:.4f}×: "
        f"{chosen.verdict}. Each mark is a round, the mean of its calls."
    )
    drawn = figures.rounds(found["baseline_ms"], found["treated_ms"], found.get("delays_ms", []))
    return section(
        "One comparison, round by round", note, plot(drawn, "One comparison, round by round", _BROAD)
    )


def _preset(summary: Summary) -> str:
    preset = summary.preset
    if preset is None:
        return '<p class="empty">No comparison counts.</p>'
    least = "not shown" if preset.smallest_found is None else percent(preset.smallest_found)
    return definitions(
        [
            ("Seconds per comparison", f"{preset.seconds_median:.1f} (median), {preset.seconds_max:.1f} (longest)"),
            ("Ended, the interval being narrow", rate_text(preset.narrow)),
            ("Ended, the budget being spent", rate_text(preset.budget)),
            ("Half width of the interval", f"{100 * preset.half_width_median:.2f} % (median), "
                                           f"{100 * preset.half_width_p90:.2f} % (90th percentile)"),
            ("Smallest slowdown found in 95 %", least),
        ]
    )  # fmt: skip


def _provenance(done: Calibration, experiments: Sequence[Experiment]) -> list[tuple[str, str]]:
    config, timer = done.config, done.summary.timer_ns
    workload = (
        f"{config['model']['name']}, target={config['target']}, compile={config['compile']['name']}, "
        f"batch={config['batch']}, {config['dtype']}, seed={config['seed']}"
    )
    pairs = [
        ("Workload", workload),
        ("Processes", str(len({each.process for each in experiments}) or config["processes"])),
    ]
    pairs += [("Measured", " to ".join(map(_minute, (done.started_at, done.finished_at))) + " UTC")]
    if timer:
        pairs.append(
            (
                "The timer itself",
                f"{timer['per_round_ns']:.0f} ns per round, {timer['per_call_ns']:.0f} ns per call within it, "
                f"{timer['around_round_ns']:.0f} ns around a round; clock steps of {timer['clock_step_ns']:.0f} ns",
            )
        )
    return pairs + [(name, str(done.environment[name])) for name in VERSIONS if name in done.environment]


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _warnings(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in lines)
    return f'<aside class="warnings"><h3>To mind</h3><ul>{items}</ul></aside>' if lines else ""


def _legend() -> str:
    return f'<p class="legend">{"".join(chip(name) for name in VERDICTS)}</p>'


def _chip(status: Status) -> str:
    name, glyph = _LOOKS[status]
    return (
        f'<span class="chip" style="background:{look(name).tint}">'
        f'<span class="glyph" aria-hidden="true">{glyph}</span>{escape(str(status))}</span>'
    )
