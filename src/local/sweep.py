"""A sweep on this machine: its opening, the order of its runs, each isolated from the others, and its end."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.durations import duration
from src.config.lines import runs_in_words
from src.config.paths import this_command
from src.config.schema.root import RootConf, training_steps
from src.context import Execute
from src.launching.preparation import new_sweep
from src.launching.progress import SweepProgress, endings, label
from src.launching.publication import SweepPublisher
from src.launching.repetition import processes_of
from src.local.budget import Budget, budget_of, groups_within, noted
from src.local.compilers import Compilers, to_compile
from src.local.devices import Devices
from src.local.runs import Runs
from src.local.server import preloaded, prepared
from src.local.sharing.group import FOLDER, Group
from src.local.sharing.grouping import Keys, brought_together, in_the_same_rounds, keys_of, together
from src.planning.hours import guess_s
from src.processes.isolated import Preloaded
from src.records.record import RECORD_NAME
from src.records.store import SweepManifest

if TYPE_CHECKING:
    from src.planning.planning import Predict

_SHAPES = 12  # distinct ones of a transformer's layers, to guess by before it is built: the models here have 7 to 16


def run_sweep(
    configs: Sequence[RootConf],
    execute: Execute,
    predict: "Predict | None" = None,
    folders: list[Path] | None = None,
) -> list[int]:
    """Run every configuration; each one's record is on disk before the next starts. With `plan`: print, run nothing.

    With `launch.budget` those that teach most come first, and what there is no time for is left to the forecast.

    Args:
        configs: validated, all of one sweep.
        execute: what a run's process does: `src.run.execute`.
        predict: makes what a plan, or a budget, predicts speedups by.
        folders: filled with where each one's record lies, also of one that was measured before; the sweep's folder
            for one that was left to the forecast.

    Returns:
        An exit status per run: 0 for a finding or a forecast, 1 otherwise.

    Raises:
        ConfigError: the outputs folder cannot be written.
        KeyboardInterrupt: Ctrl-C; finished runs are kept, the current one is marked, its processes are gone.
    """
    if any(cfg.plan for cfg in configs):
        from src.planning.matrix import Launch
        from src.planning.planning import show_plan

        show_plan(configs, Launch(together=together), predict)
        return [0] * len(configs)
    outputs = prepared(Path(configs[0].outputs))
    server = Preloaded(preloaded(configs))
    sweep = LocalSweep(new_sweep(), outputs, server, configs, execute, predict)
    statuses = sweep.run()
    if folders is not None:
        folders += [sweep.place(index) for index in range(len(configs))]
    return statuses


class LocalSweep:
    """The state of one sweep: its manifest, its publisher and its runs."""

    def __init__(
        self,
        sweep: str,
        outputs: Path,
        server: Preloaded,
        configs: Sequence[RootConf],
        execute: Execute,
        predict: "Predict | None" = None,
    ) -> None:
        self.sweep, self.outputs, self.server = sweep, outputs, server
        self.configs, self.execute, self.predict = configs, execute, predict
        self.folder = outputs / "sweeps" / sweep
        self.folder.mkdir(parents=True)
        self.manifest = SweepManifest.start(sweep, this_command())
        self.publisher = SweepPublisher(configs[0].tracking, self.manifest, self.folder)
        self.devices = Devices(server, self.folder)
        self.compilers = Compilers(server, self.folder / "compilers.log")
        self.runs = Runs(
            configs, execute, outputs, self.manifest, self.publisher, self.devices, self.compilers
        )
        self._last_words: list[str] = []

    def run(self) -> list[int]:
        """All runs in turn, whatever becomes of each."""
        with SweepProgress(list(map(_guess_s, self.configs))) as progress:
            progress.say(f"sweep {self.sweep}: {runs_in_words(len(self.configs))}, records in {self.outputs}")
            try:
                self.publisher.open()
                if self.publisher.trouble:  # said again at the end; now it can still be mended
                    progress.say(f"warning: {self.publisher.trouble}")
                shares, rounds = keys_of(self.configs, self.devices.settled, self.outputs)
                budget = budget_of(self.configs, self.predict, self.server, self.folder)
                if budget is None:
                    self._run_all(brought_together(shares), rounds, progress)
                else:
                    self._run_within(budget, shares, rounds, progress)
            except KeyboardInterrupt:
                self._last_words = self._stopped()
                raise
            finally:
                self._close(progress)
        records = self.runs.records
        return [
            0 if index not in records or records[index].outcome.is_finding else 1
            for index in range(len(self.configs))
        ]

    def place(self, index: int) -> Path:
        """Where a run's record lies; the sweep's folder for one that was left to the forecast."""
        return self.runs.folder(index) if index in self.runs.records else self.folder

    def _run_all(self, groups: Sequence[list[int]], rounds: Keys, progress: SweepProgress) -> None:
        """Every run, those of a group in one process; the arms of the next ones are compiled meanwhile."""
        processes = [in_the_same_rounds(indexes, rounds) for indexes in groups]
        batches = [batch for process in processes for batch in process]
        in_order = [self.configs[index] for batch in batches for index in batch]
        self.compilers.give(to_compile(in_order, self.devices, self.outputs, self.sweep))
        progress.expect(guesses_s(self.configs, batches))
        for number, process in enumerate(processes, start=1):
            self._run_group(number, process, progress)

    def _run_within(self, budget: Budget, shares: Keys, rounds: Keys, progress: SweepProgress) -> None:
        """What teaches most, while there is time; what is left to the forecast is written down."""
        records = self.runs.records
        for number, indexes in enumerate(groups_within(budget, records, shares, progress), start=1):
            self._run_group(number, in_the_same_rounds(indexes, rounds), progress)
        self._last_words = noted(
            budget, self.configs, records, lambda index: self.runs.key(index)[0], self.folder
        )

    def _run_group(self, number: int, batches: Sequence[Sequence[int]], progress: SweepProgress) -> None:
        """Runs that share a process; those whose verdicts are withheld at its end are measured again without it.

        Args:
            number: of the group in the sweep.
            batches: the runs, those together that share rounds; a single one shares nothing.
        """
        everyone = [index for batch in batches for index in batch]
        if len(everyone) == 1:
            self.runs.run_or_skip(everyone[0], progress, self.server)
            return
        name = f"{self.sweep}-{number}"
        group = Group(self.server, self.execute, self.folder / FOLDER, name, len(everyone))
        try:
            for batch in batches:
                if len(batch) == 1:
                    self.runs.run_or_skip(batch[0], progress, group)
                else:
                    self._run_together(batch, progress, group)
            doubt = group.last_place(progress.phase)
            doubted = [index for index in everyone if doubt and self.runs.folder(index) in group.taken]
        finally:
            group.close()
        for index in doubted:
            if self.runs.withheld(index, doubt, "launch.share=never; each is measured again so"):
                progress.again(_guess_s(self.configs[index]))
                self.runs.run_or_skip(index, progress, self.server)

    def _run_together(self, batch: Sequence[int], progress: SweepProgress, group: Group) -> None:
        """Runs in the same rounds; one that has no record then is run by itself."""
        runs = self.runs
        begun = {index: cfg for index in batch if (cfg := runs.begun(index, progress)) is not None}
        try:
            if len(begun) > 1:
                text = f"{label(next(iter(begun.values())))}, {len(begun)} schemes together"
                progress.start_run(text, runs=len(begun))
                given = [(cfg, runs.records[index], runs.folder(index)) for index, cfg in begun.items()]
                group.run_together(given, progress.phase)
            for index, cfg in begun.items():
                if (runs.folder(index) / RECORD_NAME).exists():
                    runs.ended_together(index, cfg, len(begun), progress)
                else:
                    runs.run(index, cfg, progress, group)
        except KeyboardInterrupt:
            for index in begun:
                runs.stopped(index)
            raise

    def _stopped(self) -> list[str]:
        """What a sweep that was stopped leaves undone."""
        left = len(self.configs) - len(self.runs.records)
        begun = f"{left} of {len(self.configs)} runs had not begun; " if left else ""
        return [f"stopped: {begun}the same command goes on with what is left"]

    def _close(self, progress: SweepProgress) -> None:
        self.compilers.close()
        self.manifest.write(self.outputs)
        counts = Counter(str(record.verdict or record.outcome) for record in self.runs.records.values())
        text = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "no run finished"
        progress.say(f"sweep {self.sweep}: {text}; {duration(progress.elapsed_s())}")
        for line in [*endings(self.runs.records.values()), *self._last_words, *self.publisher.close()]:
            progress.say(line)


def guesses_s(configs: Sequence[RootConf], batches: Sequence[Sequence[int]]) -> list[float]:
    """Seconds of each run in the order of the batches; those of one take as long as one of it."""
    return [_guess_s(configs[index]) / len(batch) for batch in batches for index in batch]


def _guess_s(cfg: RootConf) -> float:
    """Seconds of a run by itself, before any was seen."""
    probe, steps = cfg.model.probe, training_steps(cfg)
    return guess_s(cfg.measure, cfg.quant, _SHAPES, processes_of(cfg), probe=probe, steps=steps)
