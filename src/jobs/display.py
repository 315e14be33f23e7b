"""What a person sees while a sweep is followed: what waits and why, runs where, came out how, and the time left."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from src.config.durations import duration
from src.jobs.states import STUCK
from src.launching.progress import endings, result
from src.records.mlflow import content
from src.records.record import Record

if TYPE_CHECKING:
    from src.jobs.followed import FollowedRun

WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
_HELD = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT"})  # nobody but a person lets these go on
_SHOWN = 4  # reasons, nodes: the most frequent


class FollowDisplay:
    """A live table on a terminal; elsewhere a line per run that is done, and one on the rest when it changed."""

    def __init__(
        self,
        sweep: str,
        console: Console,
        line_every_s: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: line_every_s: at most so often a line on the rest, where there is no table."""
        self.sweep, self.console, self.line_every_s, self.now = sweep, console, line_every_s, now
        self.runs: Sequence[FollowedRun] = ()
        self._started = now()
        self._line, self._line_at = "", -line_every_s
        self._told: set[str] = set()
        self._seconds: list[float] = []
        self._parallel = 1
        self._live = Live(self, console=console, refresh_per_second=1, transient=True)

    def __enter__(self) -> "FollowDisplay":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.stop()

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        done = sum(run.done for run in self.runs)
        table.add_row(f"{done}/{len(self.runs)} runs", f"{self._elapsed()} elapsed", self.left_text())
        for name, runs, text in groups_of(self.runs):
            table.add_row(name, str(len(runs)), escape(text))
        return table

    def done(self, run: "FollowedRun", *, before: bool = False) -> None:
        """A run is done; it is shown unless it was so before following began."""
        if run.record is not None and run.record.outcome.is_finding and not run.entry["skipped"]:
            self._seconds.append(_seconds(run.record))
        if before:
            return
        text = f"[bold red]unreadable[/]: {escape(run.unreadable)}"
        if run.record is not None:
            text = f"{escape(content.label(run.record))}: {result(run.record)}"
        self.console.print(text, soft_wrap=True)

    def update(self, runs: Sequence["FollowedRun"]) -> None:
        """What is known of all runs now."""
        self.runs = runs
        found = {name: group for name, group, _ in groups_of(runs)}
        self._parallel = max(self._parallel, len(found["running"]))
        self._warn(found["pending"])
        line = in_words(runs)
        due = self.now() - self._line_at >= self.line_every_s
        if not self.console.is_terminal and due and line != self._line:
            self._line, self._line_at = line, self.now()
            self.say("; ".join(filter(None, (f"{self._elapsed()}: {line}", self.left_text()))))

    def close(self, runs: Sequence["FollowedRun"]) -> None:
        """The last line: what came out; the table is gone."""
        self._live.stop()
        counts = Counter(str(run.record.verdict or run.record.outcome) for run in runs if run.record)
        counts.update("unreadable" for run in runs if run.unreadable)
        counts.update("without a record" for run in runs if not run.done)
        text = ", ".join(f"{number} {name}" for name, number in counts.most_common())
        self.say(f"sweep {self.sweep}: {text or 'no runs'}; {self._elapsed()}")
        for ending in endings(run.record for run in runs if run.record):
            self.say(ending)

    def say(self, text: str) -> None:
        """Plain text above the table, never broken into lines."""
        self.console.print(text, markup=False, soft_wrap=True)

    def left_text(self) -> str:
        """The time left: what finished runs took, over as many at a time as were seen; requeues not foreseen.

        Nothing where no run waits or runs.
        """
        groups = {name: len(found) for name, found, _ in groups_of(self.runs)}
        if not groups["pending"] + groups["running"]:
            return ""
        if not self._seconds:
            return "time left: not known yet"
        mean = sum(self._seconds) / len(self._seconds)
        left_s = mean * (groups["pending"] + groups["running"] / 2) / self._parallel
        return f"about {duration(left_s)} left"

    def _warn(self, waiting: Iterable["FollowedRun"]) -> None:
        """Say once of each reason that does not end by itself."""
        found = Counter(_stuck(run) for run in waiting)
        for reason in found.keys() - self._told - {""}:
            self._told.add(reason)
            self.say(
                f"warning: {found[reason]} jobs wait because of {reason}: nothing starts them until somebody acts"
            )

    def _elapsed(self) -> str:
        return duration(self.now() - self._started)


def groups_of(runs: Iterable["FollowedRun"]) -> list[tuple[str, list["FollowedRun"], str]]:
    """The runs by where they stand, each group with its name and a few words on it; a group may be empty."""
    found: dict[str, list[FollowedRun]] = {name: [] for name in _WORDS}
    for run in runs:
        name = (
            "ending" if run.over_since is not None else "pending" if run.state.state in WAITING else "running"
        )
        found["done" if run.done else name].append(run)
    return [(name, group, _counted(map(_WORDS[name], group))) for name, group in found.items()]


def in_words(runs: Iterable["FollowedRun"]) -> str:
    """Where the runs stand, in one line."""
    groups = groups_of(runs)
    return ", ".join(
        f"{len(group)} {name}{f' ({text})' if text else ''}" for name, group, text in groups if group
    )


# What is said of a run in each group.
_WORDS: dict[str, Callable[["FollowedRun"], str]] = {
    "pending": lambda run: run.state.reason or run.state.state,
    "running": lambda run: run.state.node,
    "ending": lambda run: f"{run.state.state}, no record yet",
    "done": lambda run: str(run.record.outcome) if run.record else "unreadable",
}


def _stuck(run: "FollowedRun") -> str:
    if run.state.state in _HELD:
        return run.state.reason or run.state.state
    word = re.match(r"\(?(\w*)", run.state.reason)
    return run.state.reason if word and word[1] in STUCK else ""


def _counted(words: Iterable[str]) -> str:
    found = Counter(filter(None, words))
    if len(found) == 1:
        return next(iter(found))
    shown = [f"{number} {word}" for word, number in found.most_common(_SHOWN)]
    return ", ".join(shown + (["..."] if len(found) > _SHOWN else []))


def _seconds(record: Record) -> float:
    started, finished = (datetime.fromisoformat(at) for at in (record.started_at, record.finished_at))
    return (finished - started).total_seconds()
