"""What a person sees of a sweep: which run is on, in which phase, and how long is left."""

import math
import re
import sys
import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from src.config.console import Terminal
from src.config.durations import duration
from src.config.paths import command
from src.config.schema.model import RANDOM_WEIGHTS
from src.config.schema.root import RootConf
from src.records.key import axes_of
from src.records.record import EMULATED, Outcome, Record

_ALWAYS = ("model", "quant", "compile", "batch")  # in a run's line without their names, or first
_MOST_REASONS, _MOST_SCHEMES = 8, 4
_SHORT = re.compile(r"^(quant\.(?=where$|via$)|model\.dims\.)")
STYLES = {"helps": "green", "hurts": "red", "neutral": "default", "inconclusive": "yellow"}


def label(cfg: RootConf) -> str:
    """A run in one line: what is not as usual, and all in which it differs from the other runs of its sweep.

    A shape probe (a model without resolution) with its dimensions, M as its layer sees it: with all samples' rows.
    """
    axes, dims = axes_of(cfg), {} if cfg.resolution else dict(cfg.model.dims)
    if cfg.model.probe and isinstance(dims.get("M"), int):
        dims["M"] *= cfg.batch
    usual = axes | {
        "quant.where": "device",
        "quant.via": "direct",
        "layers": "all",
        "resolution": cfg.model.resolution,
        "frames": cfg.model.frames,
        "target": "denoiser" if cfg.resolution else cfg.target,
        "seed": 0,
        "recipe": "",
        "treatment": "quant",
    }
    if any(key.startswith("recipe.") for key in cfg.varied):  # told by those
        axes.pop("recipe", None)
    told = {
        "layers": cfg.quant.layers.name,
        "quant.where": cfg.quant.where,
        "quant.via": cfg.quant.via,
        **{name: value for name, value in axes.items() if name not in _ALWAYS},
    }
    told = {name: value for name, value in told.items() if name in cfg.varied or value != usual[name]}
    told |= {f"model.dims.{name}": size for name, size in dims.items()}
    parts = [cfg.model.name, cfg.quant.name, cfg.compile.name, f"batch={cfg.batch}"]
    return " ".join([*parts, *(f"{_SHORT.sub('', name)}={value}" for name, value in told.items())])


def result(record: Record) -> str:
    """What came out, in one line with rich's markup; free text is escaped."""
    warnings = [f"; [yellow]{escape(text)}[/]" for text in record.details.get("warnings", ())]
    if record.outcome is not Outcome.OK:
        style = "dim" if record.outcome.is_finding else "bold red"
        why = escape(" → ".join(filter(None, [record.reason, record.remedy])))
        return "".join([f"[{style}]{record.outcome}[/]: {why}", *warnings])
    m = record.metrics
    why = f"; {escape(record.reason)}" if record.reason else ""
    if record.verdict == EMULATED:
        random = f" of {RANDOM_WEIGHTS}" if record.details.get("weights") == RANDOM_WEIGHTS else ""
        equal = m.get("quality/max_abs_error") == 0
        db = m.get("quality/sqnr_db", math.inf if equal else math.nan)
        told = "" if math.isnan(db) else f", {db:.1f} dB SQNR{random}"  # a training of its own has no output
        return "".join([f"{EMULATED}{told}{why}", *warnings])
    if "speedup/ratio" not in m:
        return "".join([f"[green]{record.outcome}[/]{why}", *warnings])
    interval = f"{m['speedup/ci_low']:.3f}-{m['speedup/ci_high']:.3f}"
    interval += f" from {m['speedup/processes']:.0f} processes" if m.get("speedup/processes", 1) > 1 else ""
    style = STYLES.get(record.verdict, "default")
    return "".join([f"[{style}]{record.verdict}[/] {m['speedup/ratio']:.3f}x ({interval}){why}", *warnings])


def endings(records: Iterable[Record]) -> list[str]:
    """Of a sweep, runs that were not measured: a line for those that ended alike, with their number; failures first.

    Nothing where it is a single run, whose own line says it all.
    """
    alike: dict[tuple[Outcome, str], list[Record]] = {}
    for record in records:
        if record.outcome is not Outcome.OK:
            why = " → ".join(filter(None, [record.reason, record.remedy]))
            alike.setdefault((record.outcome, why), []).append(record)
    ranked = sorted(alike.items(), key=lambda item: (item[0][0].is_finding, -len(item[1])))
    if sum(len(runs) for _, runs in ranked) < 2:
        return []
    lines = [
        f"  {len(runs)} {outcome} ({_schemes(runs)}): {why}"
        for (outcome, why), runs in ranked[:_MOST_REASONS]
    ]
    rest = sum(len(runs) for _, runs in ranked[_MOST_REASONS:])
    return lines + (
        [f"  {rest} more, for other reasons: {command('analyze')} lists them all"] if rest else []
    )


def _schemes(runs: Sequence[Record]) -> str:
    names = list(dict.fromkeys(str(run.axes.get("quant", "?")) for run in runs))
    return ", ".join(names[:_MOST_SCHEMES]) + ", ..." * (len(names) > _MOST_SCHEMES)


class SweepProgress:
    """A live bar on a terminal, a line per phase elsewhere (a log file, CI)."""

    def __init__(self, guesses_s: Sequence[float], console: Console | None = None) -> None:
        """Args: guesses_s: seconds of each run, before any was seen; what counts later is how they compare."""
        self.console = console or Terminal(stderr=True, highlight=False)
        self.guesses_s, self.runs, self.done = list(guesses_s), len(guesses_s), 0
        self._measured: list[tuple[float, float]] = []  # seconds guessed, and taken
        self._begun = 1  # runs that began as one
        self._started = self._run_started = time.monotonic()
        self._ends = math.inf  # when it is over in any case
        self._label = self._phase = ""
        self._bar = Progress(BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} runs"))
        self._task = self._bar.add_task("", total=self.runs)
        self._live = Live(self, console=self.console, refresh_per_second=2, transient=True)
        moves = self.console.is_terminal and not self.console.is_dumb_terminal
        self._is_live = moves and sys.stderr.isatty()

    def __enter__(self) -> "SweepProgress":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._is_live:
            self._live.stop()

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        self._bar.update(self._task, completed=self.done)
        table.add_row(self._bar, f"{duration(time.monotonic() - self._started)} elapsed", self._left_text())
        table.add_row(
            self._label, self._phase, f"{duration(time.monotonic() - self._run_started)} in this run"
        )
        return table

    def elapsed_s(self) -> float:
        """Seconds since the sweep began."""
        return time.monotonic() - self._started

    def left_s(self) -> float:
        """Seconds left: what was guessed of the runs to go, scaled by what those measured here took of theirs."""
        guessed, taken = (
            (sum(each) for each in zip(*self._measured, strict=True)) if self._measured else (1, 1)
        )
        to_go = [guess * taken / guessed for guess in self.guesses_s[self.done :]]
        spent = min(time.monotonic() - self._run_started, sum(to_go[: self._begun]))
        return max(0.0, min(sum(to_go) - spent, self._ends - time.monotonic()))

    def start_run(self, text: str, runs: int = 1) -> None:
        """A run begins, or several as one."""
        self._label, self._phase, self._run_started = text, "starting", time.monotonic()
        self._begun = runs
        self._log(f"[{self.done + 1}/{self.runs}] {text} ({self._left_text()})")

    def phase(self, text: str) -> None:
        """The current run's phase."""
        self._phase = text
        self._log(f"    {text}")

    def end_run(self, text: str, *, measured: bool, label: str = "", share: int = 1) -> None:
        """The run is over; only measured runs count towards the time left.

        Args:
            measured: whether anything was.
            label: of the run, where several were begun as one.
            share: how many these were.
        """
        if measured:
            self._measured.append((self.guesses_s[self.done], (time.monotonic() - self._run_started) / share))
        self.done += 1
        self.console.print(f"[{self.done}/{self.runs}] {label or self._label}: {text}", soft_wrap=True)

    def expect(self, guesses_s: Sequence[float], most_s: float = math.inf) -> None:
        """What comes next, and in how many seconds a sweep that chooses as it goes ends.

        Args:
            guesses_s: of the next runs, in their order.
            most_s: in which all that is left is over.
        """
        self.guesses_s[self.done :] = [*guesses_s, *self.guesses_s[self.done + len(guesses_s) :]]
        self._ends = time.monotonic() + most_s

    def again(self, guess_s: float) -> None:
        """A run that is over is to be measured once more."""
        self.guesses_s.insert(self.done, guess_s)
        self.runs += 1
        self._bar.update(self._task, total=self.runs)

    def say(self, text: str) -> None:
        """Plain text above the bar, never broken into lines: paths and links stay whole."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _left_text(self) -> str:
        return f"about {duration(self.left_s())} left"

    def _log(self, text: str) -> None:
        if not self._is_live:
            self.say(text)
