"""The process that runs share, with an equal pair at both its ends."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.config.schema.root import RootConf
from src.context import Execute
from src.launching.endings import record_of
from src.launching.preparation import write_config
from src.local.sharing.grouping import SMALLEST
from src.local.sharing.process import LEFT, Run, Sharing
from src.processes.isolated import Child, EndedBy, Ending, Preloaded
from src.records.key import axes_of
from src.records.record import RECORD_NAME, Outcome, Record

EQUAL = 0.02  # margin of an equal pair's verdict, at least
PAIR_TASK = "src.tasks.equal_pair.measure_equal_pair"
FOLDER = "equal_pairs"  # in a sweep's folder


class Group:
    """Takes the place of `Preloaded` for the runs of a group.

    A run that ends badly, or leaves something behind, is the last one of its child; the next run gets a new one.
    """

    def __init__(self, server: Preloaded, execute: Execute, folder: Path, name: str, size: int) -> None:
        """Args: folder: for the equal pairs; name: the group's; size: its runs."""
        self.server, self.execute, self.folder, self.name, self.size = server, execute, folder, name, size
        self.place = self.children = 0
        self.taken: list[Path] = []  # folders of the runs that the present child took
        self._child: Child | None = None
        self._measured: RootConf | None = None  # the last run of the present child that ended well
        self._apart = False

    def run(
        self,
        job: Callable[..., Any],
        arguments: Run,
        *,
        log: Path,
        timeout_s: float,
        hear: Callable[[str], None],
    ) -> Ending:
        """One run, in the shared child or, where there is none, as `Preloaded.run` does it."""
        ending = self._ask([arguments], log, timeout_s, hear)
        if ending is None:
            self.place += 1
            return self.server.run(job, arguments, log=log, timeout_s=timeout_s, hear=hear)
        return ending if ending.answer is None else replace(ending, answer=ending.answer[0])

    def run_together(self, runs: Sequence[Run], hear: Callable[[str], None]) -> None:
        """Several runs in the same rounds; what has no record afterwards is to be run by itself."""
        timeout_s = sum(cfg.measure.timeout_s for cfg, _, _ in runs)
        if self._ask(runs, runs[0][2] / "run.log", timeout_s, hear) is None:
            return
        left = [record for _, record, folder in runs if not (folder / RECORD_NAME).exists()]
        self.place -= len(left)
        for record in left:
            del record.details["shared"]

    def _ask(
        self, runs: Sequence[Run], log: Path, timeout_s: float, hear: Callable[[str], None]
    ) -> Ending | None:
        """None: there is no shared child for them."""
        child = self._child or self._opened(runs[0][0], hear)
        if child is None:
            return None
        for _, record, folder in runs:
            self.place += 1
            record.details["shared"] = {
                "group": self.name,
                "place": self.place,
                "of": self.size,
                "process": self.children,
                "together": len(runs),
            }
            self.taken.append(folder)
        ending = child.ask((runs,), log=log, timeout_s=timeout_s, hear=hear)
        if ending.by is not EndedBy.ITSELF or any(LEFT in record.details for record in ending.answer):
            self.close()
        elif any(record.outcome is Outcome.OK for record in ending.answer):
            self._measured = runs[-1][0]
        return ending

    def last_place(self, hear: Callable[[str], None]) -> str:
        """Measure the last equal pair; why the runs of this child say nothing, or nothing."""
        if self._child is None or self._measured is None:
            return ""
        pair = self._pair(self._child, self._measured, "last", hear)
        if _came_out_equal(pair):
            return ""
        return f"the last place of its process did not come out equal: {_told(pair)}"

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
        self._child, self._measured, self.taken = None, None, []

    def _opened(self, cfg: RootConf, hear: Callable[[str], None]) -> Child | None:
        """A new child whose first place came out equal; None where it did not, or there are few runs to come."""
        if self._apart or self.size - self.place < SMALLEST:
            return None
        self.children += 1
        child = self.server.stay(Sharing(self.execute))
        try:
            pair = self._pair(child, cfg, "first", hear)
        except BaseException:
            child.end()
            raise
        if not _came_out_equal(pair):
            child.close()
            self._apart = True
            hear(f"each run in a process of its own: the first place did not come out equal: {_told(pair)}")
            return None
        self._child = child
        return child

    def _pair(self, child: Child, cfg: RootConf, where: str, hear: Callable[[str], None]) -> Record:
        folder = self.folder / f"{self.name}-{self.children}-{where}"
        folder.mkdir(parents=True)
        pair = as_equal_pair(cfg)
        write_config(pair, folder)
        record = Record(f"{self.name}-{where}", self.children, self.folder.parent.name, axes_of(pair))
        timeout_s = cfg.measure.timeout_s
        ending = child.ask(
            ([(pair, record, folder)],),
            log=folder / "run.log",
            timeout_s=timeout_s,
            hear=lambda phase: hear(f"equal pair, {where} place: {phase}"),
        )
        if ending.answer is not None:
            ending = replace(ending, answer=ending.answer[0])
        return record_of(ending, record, folder, timeout_s)


def as_equal_pair(cfg: RootConf) -> RootConf:
    """The configuration of an equal pair in the process of a run: its workload, and no longer than need be."""
    margin = max(cfg.measure.margin, EQUAL)
    width = max(cfg.measure.target_ci_width, margin)
    measure = replace(cfg.measure, margin=margin, target_ci_width=width, warm_compile=False, energy_s=0.0)
    task = replace(cfg.task, name="equal_pair", _target_=PAIR_TASK)
    return replace(cfg, task=task, measure=measure, quant=replace(cfg.quant, name="none"))


def _came_out_equal(pair: Record) -> bool:
    return pair.outcome is Outcome.OK and pair.details.get("equal") is True


def _told(pair: Record) -> str:
    found = pair.metrics
    interval = (
        f"{found['speedup/ci_low']:.3f}-{found['speedup/ci_high']:.3f}" if "speedup/ci_low" in found else ""
    )
    return "; ".join(filter(None, [pair.verdict or str(pair.outcome), interval, pair.reason]))
