"""What a person sees of a calibration: a bar with the time left on a terminal, elsewhere a line now and then."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from src.calibration.experiments.plan import Experiment, Kind
from src.config.console import Terminal
from src.config.durations import duration
from src.statistics.speedup import Verdict

_LINE_EVERY_S = 60.0  # where there is no terminal


class CalibrationProgress:
    """Counts experiments; the time left follows from the processes that are over and the share of the present one."""

    def __init__(self, experiments: int, processes: int, console: Console | None = None) -> None:
        """Args: experiments: how many are to be made; processes: that they are dealt out to."""
        self.console = console or Terminal(stderr=True, highlight=False)
        self.experiments, self.processes = experiments, processes
        self.done = self.ended = self.crowded = self.false = self.aa = self._made = 0
        self._started = self._said = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._live = self.console.is_terminal and sys.stderr.isatty()
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not self._live)
        self._task = self._bar.add_task("starting", total=experiments)

    def __enter__(self) -> "CalibrationProgress":
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def left_s(self) -> float | None:
        """Seconds left; None before anything was measured."""
        of_this = min(1.0, self._made * self.processes / self.experiments)
        share = min(1.0, (self.ended + of_this) / self.processes)
        return self.elapsed_s() * (1 - share) / share if share else None

    def add(self, found: Experiment) -> None:
        """An experiment is done; a crowded one comes again and does not count."""
        self._made += 1
        self.crowded += found.crowded
        self.done = min(self.experiments, self.done + (not found.crowded))
        if found.kind is Kind.AA and not found.crowded:
            self.aa += 1
            self.false += found.verdict in (Verdict.HELPS, Verdict.HURTS)
        self._bar.update(self._task, completed=self.done, description=self._state())
        if not self._live and time.monotonic() - self._said >= _LINE_EVERY_S:
            self.say(self._counted())

    def end_process(self, number: int, trouble: str = "") -> None:
        """A process is over."""
        self.ended, self._made = self.ended + 1, 0
        how = f"ended early: {trouble}; " if trouble else ""
        self.say(f"[{number}/{self.processes}] {how}{self._counted()}")

    def say(self, text: str) -> None:
        """Plain text above the bar, never broken into lines."""
        self._said = time.monotonic()
        self.console.print(text, markup=False, soft_wrap=True)

    def _counted(self) -> str:
        return f"{self.done} of {self.experiments} experiments; {self._state()}"

    def _state(self) -> str:
        left = self.left_s()
        told = [f"equal copies: {self.false} of {self.aa} told apart"]
        told += [f"{self.crowded} crowded, not counted"] if self.crowded else []
        told += [f"about {duration(left)} left"] if left else []
        return ", ".join(told)
