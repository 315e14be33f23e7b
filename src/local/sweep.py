"""A sweep on this machine: every run in turn, isolated, recorded on disk, then published."""

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from src.config.errors import ConfigError
from src.config.paths import this_command
from src.config.schema import AUTO, CalibrateConf, GpuConf, RootConf
from src.context import Execute
from src.launching.endings import kept, record_of
from src.launching.preparation import PRELOAD, new_sweep, writable, write_config
from src.launching.progress import SweepProgress, duration, endings, label, result
from src.launching.publication import SweepPublisher
from src.launching.repetition import processes_of, run_processes
from src.launching.standing import standing
from src.planning.hours import guess_s
from src.processes.isolated import EndedBy, Preloaded, share_caches
from src.records.key import axes_of, run_key
from src.records.record import Outcome, Record
from src.records.store import SweepManifest, next_attempt, run_folder
from src.workloads.dtype import scheme_takes

_SHAPES = 12  # distinct ones of a transformer's layers, to guess by before it is built: the models here have 7 to 16


def run_sweep(configs: Sequence[RootConf], execute: Execute) -> list[int]:
    """Run every configuration; each one's record is on disk before the next starts. With `plan`: print, run nothing.

    Args:
        configs: validated, all of one sweep.
        execute: what a run's process does: `src.run.execute`.

    Returns:
        An exit status per run: 0 for a finding, 1 otherwise.

    Raises:
        ConfigError: the outputs folder cannot be written.
        KeyboardInterrupt: Ctrl-C; finished runs are kept, the current one is marked, its processes are gone.
    """
    if any(cfg.plan for cfg in configs):
        from src.planning.planning import show_plan

        show_plan(configs)
        return [0] * len(configs)
    outputs = prepared(Path(configs[0].outputs))
    server = Preloaded([*PRELOAD, *sorted({path for cfg in configs for path in needed(cfg)})])
    return LocalSweep(new_sweep(), outputs, server, configs, execute).run()


def prepared(outputs: Path) -> Path:
    """What this process sets before it starts the fork server; returns the outputs folder, absolute.

    Raises:
        ConfigError: the folder cannot be written.
    """
    outputs = writable(outputs)
    share_caches(outputs)
    signal.signal(signal.SIGTERM, _interrupt)
    return outputs


def needed(cfg: RootConf | CalibrateConf) -> list[str]:
    """What else takes long to import, and only some runs use: the model's class, and the compiler."""
    compiler = [] if cfg.compile.scope == "none" else ["torch._inductor.compile_fx"]
    return [cfg.model.factory["_target_"], *compiler]


class LocalSweep:
    """The state of one sweep: its manifest, its publisher and what came out so far."""

    def __init__(
        self, sweep: str, outputs: Path, server: Preloaded, configs: Sequence[RootConf], execute: Execute
    ) -> None:
        self.sweep, self.outputs, self.server = sweep, outputs, server
        self.configs, self.execute = configs, execute
        self.folder = outputs / "sweeps" / sweep
        self.folder.mkdir(parents=True)
        self.manifest = SweepManifest.start(sweep, this_command())
        self.publisher = SweepPublisher(configs[0].tracking, self.manifest, self.folder)
        self.devices: dict[str, dict[str, Any]] = {}
        self.dtypes: dict[str, str] = {}
        self.records: list[Record] = []

    def run(self) -> list[int]:
        """All runs in turn, whatever becomes of each."""
        guesses_s = [
            guess_s(cfg.measure, cfg.quant, 1 if cfg.model.probe else _SHAPES, processes=processes_of(cfg))
            for cfg in self.configs
        ]
        with SweepProgress(guesses_s) as progress:
            progress.say(f"sweep {self.sweep}: {len(self.configs)} runs, records in {self.outputs}")
            try:
                self.publisher.open()
                if self.publisher.trouble:  # said again at the end; now it can still be mended
                    progress.say(f"warning: {self.publisher.trouble}")
                for cfg in self.configs:
                    self._run_or_skip(cfg, progress)
            finally:
                self._close(progress)
        return [0 if record.outcome.is_finding else 1 for record in self.records]

    def _run_or_skip(self, cfg: RootConf, progress: SweepProgress) -> None:
        device = self._device(cfg.gpu)
        cfg = self._with_dtype(cfg, device)
        key = run_key(cfg, device)
        axes = axes_of(cfg)
        progress.start_run(label(cfg))
        done = standing(self.outputs, key, cfg, progress.say)
        if done is not None:
            self.records.append(done)
            self.manifest.add(key, done.attempt, skipped=True)
            self.manifest.write(self.outputs)
            progress.end_run(f"{result(done)} (measured before; rerun=true measures again)", measured=False)
            return
        attempt = next_attempt(self.outputs, key)
        folder = run_folder(self.outputs, key, attempt)
        self.manifest.add(key, attempt, skipped=False)
        self.manifest.write(self.outputs)
        record = self._run(cfg, Record(key, attempt, self.sweep, axes), folder, progress)
        measured = record.outcome is Outcome.OK
        progress.end_run(result(record), measured=measured)

    def _run(self, cfg: RootConf, record: Record, folder: Path, progress: SweepProgress) -> Record:
        """Run one configuration in its processes; whatever becomes of them, there is a record."""
        write_config(cfg, folder)
        try:
            record = run_processes(cfg, record, folder, partial(self._process, progress))
        except KeyboardInterrupt:
            record.outcome, record.reason = Outcome.KILLED, "stopped by the user"
            raise
        finally:
            self.records.append(kept(record, folder))
            self.publisher.publish(folder)
        return record

    def _process(
        self, progress: SweepProgress, cfg: RootConf, record: Record, folder: Path, called: str
    ) -> Record:
        """One process of a run; when it leaves no record, what is known is written."""
        ending = self.server.run(
            self.execute,
            (cfg, record, folder),
            log=folder / "run.log",
            timeout_s=cfg.measure.timeout_s,
            hear=lambda phase: progress.phase(called + phase),
        )
        return record_of(ending, record, folder, cfg.measure.timeout_s)

    def _device(self, gpu: GpuConf) -> dict[str, Any]:
        """What identifies the device, asked of a child so that this process never touches it."""
        asked = repr(gpu)  # not its name alone: gpu.threads=1,2 are two devices
        if asked not in self.devices:
            log = self.folder / "probe.log"
            ending = self.server.run(describe_device, (gpu,), log=log, timeout_s=300)
            if ending.by is not EndedBy.ITSELF:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
                raise ConfigError(
                    f"gpu={gpu.name}: cannot be opened, {''.join(tail) or ending.reason}; {log} says more"
                )
            self.devices[asked] = ending.answer
        return self.devices[asked]

    def _with_dtype(self, cfg: RootConf, device: dict[str, Any]) -> RootConf:
        """With the dtype that dtype=auto stands for, so that both have one key; asked of a child, once per choice."""
        if cfg.dtype != AUTO or "absent" in device:
            return cfg
        asked = repr((cfg.gpu, scheme_takes(cfg, device["kind"]), cfg.measure.ceilings))
        if asked not in self.dtypes:
            log = self.folder / "dtype.log"
            ending = self.server.run(describe_dtype, (cfg,), log=log, timeout_s=300)
            self.dtypes[asked] = ending.answer if ending.by is EndedBy.ITSELF else AUTO  # left to the run
        return replace(cfg, dtype=self.dtypes[asked])

    def _close(self, progress: SweepProgress) -> None:
        self.manifest.write(self.outputs)
        counts = Counter(str(record.verdict or record.outcome) for record in self.records)
        text = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "no run finished"
        progress.say(f"sweep {self.sweep}: {text}; {duration(progress.elapsed_s())}")
        for line in endings(self.records):
            progress.say(line)
        for line in self.publisher.close():
            progress.say(line)


def describe_device(gpu: GpuConf, tell: object) -> dict[str, Any]:
    """Open the device and describe it; one that isn't here is described by the reason."""
    from hydra.utils import get_class

    from src.hardware.host import cpu_model
    from src.outcomes import RunEndedError

    try:
        described: dict[str, Any] = get_class(gpu._target_)(gpu).open().as_dict()
    except RunEndedError as end:
        return {"absent": end.reason, "host_cpu": cpu_model()}
    return described


def describe_dtype(cfg: RootConf, tell: Callable[[str], None]) -> str:
    """The dtype that dtype=auto stands for, in a process of its own: it may take the device's ceilings."""
    from hydra.utils import get_class

    from src.tasks.baseline import with_dtype

    tell("ceilings")
    return with_dtype(cfg, get_class(cfg.gpu._target_)(cfg.gpu).open()).dtype


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
