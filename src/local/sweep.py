"""A sweep on this machine: every run in turn, isolated, recorded on disk, then published."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from src.config.paths import this_command
from src.config.schema import RootConf
from src.context import Execute
from src.launching.endings import kept, record_of
from src.launching.preparation import new_sweep, write_config
from src.launching.progress import SweepProgress, duration, endings, label, result
from src.launching.publication import SweepPublisher
from src.launching.repetition import processes_of, run_processes
from src.launching.standing import standing
from src.local.budget import budget_of, groups_within, noted
from src.local.compilers import Compilers, to_compile
from src.local.devices import Devices
from src.local.group import FOLDER, Group
from src.local.grouping import brought_together, in_the_same_rounds, keys_of
from src.local.server import preloaded, prepared
from src.planning.hours import guess_s
from src.processes.isolated import Preloaded
from src.records.key import axes_of, run_key
from src.records.record import RECORD_NAME, Outcome, Record, read_record
from src.records.store import SweepManifest, next_attempt, run_folder

if TYPE_CHECKING:
    from src.planning.planning import Foretell

_SHAPES = 12  # distinct ones of a transformer's layers, to guess by before it is built: the models here have 7 to 16


def run_sweep(
    configs: Sequence[RootConf],
    execute: Execute,
    foretell: "Foretell | None" = None,
    folders: list[Path] | None = None,
) -> list[int]:
    """Run every configuration; each one's record is on disk before the next starts. With `plan`: print, run nothing.

    With `launch.budget` those that teach most come first, and what there is no time for is left to the forecast.

    Args:
        configs: validated, all of one sweep.
        execute: what a run's process does: `src.run.execute`.
        foretell: makes what a plan, or a budget, foretells speedups by.
        folders: filled with where each one's record lies, also of one that was measured before; the sweep's folder
            for one that was left to the forecast.

    Returns:
        An exit status per run: 0 for a finding or a forecast, 1 otherwise.

    Raises:
        ConfigError: the outputs folder cannot be written.
        KeyboardInterrupt: Ctrl-C; finished runs are kept, the current one is marked, its processes are gone.
    """
    if any(cfg.plan for cfg in configs):
        from src.planning.planning import show_plan

        show_plan(configs, foretell=foretell)
        return [0] * len(configs)
    outputs = prepared(Path(configs[0].outputs))
    server = Preloaded(preloaded(configs))
    sweep = LocalSweep(new_sweep(), outputs, server, configs, execute, foretell)
    statuses = sweep.run()
    if folders is not None:
        folders += [sweep.place(index) for index in range(len(configs))]
    return statuses


class LocalSweep:
    """The state of one sweep: its manifest, its publisher and what came out so far."""

    def __init__(
        self,
        sweep: str,
        outputs: Path,
        server: Preloaded,
        configs: Sequence[RootConf],
        execute: Execute,
        foretell: "Foretell | None" = None,
    ) -> None:
        self.sweep, self.outputs, self.server = sweep, outputs, server
        self.configs, self.execute, self.foretell = configs, execute, foretell
        self.folder = outputs / "sweeps" / sweep
        self.folder.mkdir(parents=True)
        self.manifest = SweepManifest.start(sweep, this_command())
        self.publisher = SweepPublisher(configs[0].tracking, self.manifest, self.folder)
        self.devices = Devices(server, self.folder)
        self.compilers = Compilers(server, self.folder / "compilers.log")
        self.records: dict[int, Record] = {}  # by the index of its configuration
        self._last_words: list[str] = []

    def run(self) -> list[int]:
        """All runs in turn, whatever becomes of each."""
        guesses_s = [
            guess_s(cfg.measure, cfg.quant, _SHAPES, processes_of(cfg), probe=cfg.model.probe)
            for cfg in self.configs
        ]
        with SweepProgress(guesses_s) as progress:
            progress.say(f"sweep {self.sweep}: {len(self.configs)} runs, records in {self.outputs}")
            try:
                self.publisher.open()
                if self.publisher.trouble:  # said again at the end; now it can still be mended
                    progress.say(f"warning: {self.publisher.trouble}")
                shares, rounds = keys_of(self.configs, self.devices, self.outputs)
                for number, indexes in enumerate(self._groups(shares, progress), start=1):
                    if len(indexes) == 1:
                        self._run_or_skip(indexes[0], progress, self.server)
                    else:
                        group = Group(
                            self.server,
                            self.execute,
                            self.folder / FOLDER,
                            f"{self.sweep}-{number}",
                            len(indexes),
                        )
                        self._run_group(group, in_the_same_rounds(indexes, rounds), progress)
            finally:
                self._close(progress)
        return [
            0 if index not in self.records or self.records[index].outcome.is_finding else 1
            for index in range(len(self.configs))
        ]

    def place(self, index: int) -> Path:
        """Where a run's record lies; the sweep's folder for one that was left to the forecast."""
        return self._folder(index) if index in self.records else self.folder

    def _groups(self, shares: Sequence[str | None], progress: SweepProgress) -> Iterator[list[int]]:
        """The runs in the order in which they are started, those together that share a process."""
        budget = budget_of(self.configs, self.foretell, self.server, self.folder)
        if budget is None:
            groups = brought_together(shares)
            order = [index for indexes in groups for index in indexes]
            in_order, guesses_s = [self.configs[index] for index in order], list(progress.guesses_s)
            self.compilers.give(to_compile(in_order, self.devices, self.outputs, self.sweep))
            progress.guesses_s = [guesses_s[index] for index in order]
            yield from groups
            return
        yield from groups_within(budget, self.records, shares, progress)
        self._last_words = noted(
            budget, self.configs, self.records, lambda index: self._key(index)[0], self.folder
        )

    def _key(self, index: int) -> tuple[str, RootConf]:
        """A run's key, and its configuration with the dtype settled."""
        cfg = self.configs[index]
        device = self.devices.described(cfg.gpu)
        cfg = self.devices.with_dtype(cfg, device)
        return run_key(cfg, device), cfg

    def _run_group(self, group: Group, batches: Sequence[Sequence[int]], progress: SweepProgress) -> None:
        """Runs that share a process; those whose verdicts are withheld at its end are measured again without it."""
        try:
            for batch in batches:
                if len(batch) == 1:
                    self._run_or_skip(batch[0], progress, group)
                else:
                    self._run_together(batch, progress, group)
            doubt = group.last_place(progress.phase)
            everyone = [index for batch in batches for index in batch]
            doubted = [index for index in everyone if doubt and self._folder(index) in group.taken]
        finally:
            group.close()
        for index in doubted:
            if self.records[index].withhold(doubt, "launch.share=never; each is measured again so"):
                self.records[index].write(self._folder(index))
                self.publisher.publish(self._folder(index))
                progress.again()
                self._run_or_skip(index, progress, self.server)

    def _run_together(self, batch: Sequence[int], progress: SweepProgress, group: Group) -> None:
        """Runs in the same rounds; one that has no record then is run by itself."""
        runs = {index: cfg for index in batch if (cfg := self._begun(index, progress)) is not None}
        try:
            if len(runs) > 1:
                progress.start_run(f"{label(next(iter(runs.values())))}, {len(runs)} schemes together")
                given = [(cfg, self.records[index], self._folder(index)) for index, cfg in runs.items()]
                group.run_together(given, progress.phase)
            for index, cfg in runs.items():
                if (self._folder(index) / RECORD_NAME).exists():
                    self._ended_together(index, cfg, len(runs), progress)
                else:
                    self._run(index, cfg, progress, group)
        except KeyboardInterrupt:
            for index in runs:
                self._stopped(index)
            raise

    def _ended_together(self, index: int, cfg: RootConf, share: int, progress: SweepProgress) -> None:
        folder = self._folder(index)
        self.records[index] = record = read_record(folder / RECORD_NAME)
        self.publisher.publish(folder)
        measured = record.outcome is Outcome.OK
        progress.end_run(result(record), measured=measured, label=label(cfg), share=share)

    def _stopped(self, index: int) -> None:
        """Record that the user stopped it, unless it has a record."""
        record, folder = self.records[index], self._folder(index)
        record.outcome, record.reason = Outcome.KILLED, "stopped by the user"
        kept(record, folder)
        self.records[index] = read_record(folder / RECORD_NAME)
        self.publisher.publish(self._folder(index))

    def _folder(self, index: int) -> Path:
        return run_folder(self.outputs, self.records[index].run_key, self.records[index].attempt)

    def _run_or_skip(self, index: int, progress: SweepProgress, server: Preloaded | Group) -> None:
        cfg = self._begun(index, progress)
        if cfg is not None:
            self._run(index, cfg, progress, server)

    def _begun(self, index: int, progress: SweepProgress) -> RootConf | None:
        """The run's settled configuration, which is in its new folder; None where it was measured before."""
        key, cfg = self._key(index)
        done = standing(self.outputs, key, cfg, progress.say)
        if done is not None:
            progress.start_run(label(cfg))
            self.records[index] = done
            self.manifest.add(key, done.attempt, skipped=True)
            self.manifest.write(self.outputs)
            progress.end_run(f"{result(done)} (measured before; rerun=true measures again)", measured=False)
            return None
        self.compilers.begun(key)
        attempt = next_attempt(self.outputs, key)
        self.manifest.add(key, attempt, skipped=False)
        self.manifest.write(self.outputs)
        self.records[index] = Record(key, attempt, self.sweep, axes_of(cfg))
        write_config(cfg, self._folder(index))
        return cfg

    def _run(self, index: int, cfg: RootConf, progress: SweepProgress, server: Preloaded | Group) -> None:
        """Run one configuration in its processes; whatever becomes of them, there is a record."""
        record, folder = self.records[index], self._folder(index)
        progress.start_run(label(cfg))
        try:
            record = run_processes(cfg, record, folder, partial(self._process, progress, server))
        except KeyboardInterrupt:
            record.outcome, record.reason = Outcome.KILLED, "stopped by the user"
            raise
        finally:
            self.records[index] = record = kept(record, folder)
            self.publisher.publish(folder)
        progress.end_run(result(record), measured=record.outcome is Outcome.OK)

    def _process(
        self,
        progress: SweepProgress,
        server: Preloaded | Group,
        cfg: RootConf,
        record: Record,
        folder: Path,
        called: str,
    ) -> Record:
        """One process of a run; when it leaves no record, what is known is written."""
        ending = server.run(
            self.execute,
            (cfg, record, folder),
            log=folder / "run.log",
            timeout_s=cfg.measure.timeout_s,
            hear=lambda phase: progress.phase(called + phase),
        )
        return record_of(ending, record, folder, cfg.measure.timeout_s)

    def _close(self, progress: SweepProgress) -> None:
        self.compilers.close()
        self.manifest.write(self.outputs)
        counts = Counter(str(record.verdict or record.outcome) for record in self.records.values())
        text = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "no run finished"
        progress.say(f"sweep {self.sweep}: {text}; {duration(progress.elapsed_s())}")
        for line in [*endings(self.records.values()), *self._last_words, *self.publisher.close()]:
            progress.say(line)
