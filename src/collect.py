"""The command line of bookkeeping, safe to repeat at any time: `python -m src.collect --help`.

Publishes what is recorded and not yet published, records how runs ended that left no record, finishes sweeps;
follows or cancels a sweep on a cluster; gives up one whose machine is gone. Exit status: 0 all is well; 1 a file is
unreadable, a record is still unpublished, a cancelled job has not ended, or of a sweep that was followed some run
ended in no finding; 2 a wrong command line.
"""

import sys
from collections import Counter
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from src.bookkeeping import Findings, backend_of, look, lose, publish, publish_calibrations
from src.config.console import Terminal
from src.config.errors import ConfigError
from src.config.lines import runs_in_words
from src.config.paths import command
from src.config.schema.root import CollectConf
from src.jobs.followed import Patience
from src.jobs.follower import follow
from src.launching.progress import endings
from src.launching.publication import SweepPublisher
from src.records.mlflow.tracking import TrackingError, open_tracker
from src.records.record import RecordError, read_record
from src.records.store import MANIFEST_NAME, SweepManifest, read_manifest, sweep_folder


def main() -> int:
    """Compose, validate, collect."""
    from src.app.application import main as hydra_main

    argv = ["watch=true" if argument == "--watch" else argument for argument in sys.argv[1:]]
    return hydra_main("collect", collect_single, argv, prog="python -m src.collect")


def collect_single(config: DictConfig) -> int:
    """The task that Hydra calls."""
    from src.checks.validation import validated

    return collect(validated(config, CollectConf))


def collect(conf: CollectConf, console: Console | None = None, patience: Patience | None = None) -> int:
    """Do all the bookkeeping; returns the exit status.

    Raises:
        ConfigError: there is no such folder; `sweep` names none that is recorded, or one that cannot be followed or
            cancelled.
    """
    console = console or Terminal(highlight=False, soft_wrap=True)
    outputs = Path(conf.outputs).resolve()
    if not outputs.is_dir():
        raise ConfigError(f"outputs={outputs}: no such folder; {command('run')} makes it, or give another")
    patience = patience or Patience(poll_s=conf.poll_s)
    status, given_up = 0, list[Path]()
    if conf.lost:
        given_up = lose(_sent(conf, outputs), outputs)
    elif conf.watch:
        status = _watch(conf, outputs, console, patience)
    elif conf.cancel:
        status = _cancel(conf, outputs, console, patience)
    found = look(outputs, conf.sweep, patience)
    found.ended += given_up
    try:
        if found.records or found.calibrations:
            tracker = open_tracker(conf.tracking)
            publish(found, outputs, tracker, console)
            publish_calibrations(found, outputs, tracker)
    except TrackingError as error:
        found.trouble.append(str(error))
    for line in _report(found):
        console.print(line, markup=False)
    return 1 if status or found.unreadable or found.trouble or found.left else 0


def _report(found: Findings) -> list[str]:
    """What the user should know, line by line."""
    lines = []
    if found.ended:
        records = [read_record(folder / "record.json") for folder in found.ended]
        counts = Counter(str(record.outcome) for record in records)
        text = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
        have = "has" if len(found.ended) == 1 else "have"
        lines.append(f"{runs_in_words(len(found.ended))} left no record and {have} one now: {text}")
        lines += endings(records)
    lines += found.going_on
    lines += [f"unreadable: {line}" for line in found.unreadable]
    lines += [f"warning: {line}" for line in dict.fromkeys(found.trouble)]
    if found.calibrations_published:
        lines.append(f"calibrations published: {found.calibrations_published}")
    tail = f", {found.left} still to publish" if found.left else ""
    lines.append(
        f"{found.published} published, {found.there_already} already there, "
        f"{len(found.unreadable)} unreadable{tail}"
    )
    return lines


def _watch(conf: CollectConf, outputs: Path, console: Console, patience: Patience) -> int:
    manifest = _sent(conf, outputs)
    backend = backend_of(manifest, outputs)
    if backend is None:
        raise ConfigError(
            f"sweep={conf.sweep}: it was not sent to a cluster; its own process shows how it goes"
        )
    publisher = SweepPublisher(conf.tracking, manifest, sweep_folder(outputs, manifest.sweep))
    return max(follow(manifest, outputs, backend, publisher, console, patience), default=0)


def _cancel(conf: CollectConf, outputs: Path, console: Console, patience: Patience) -> int:
    from src.jobs.cancellation import cancel

    manifest = _sent(conf, outputs)
    backend = backend_of(manifest, outputs)
    if backend is None:
        raise ConfigError(f"sweep={conf.sweep}: it was not sent to a cluster; end its own process (Ctrl-C)")
    return cancel(manifest, outputs, backend, console, patience)


def _sent(conf: CollectConf, outputs: Path) -> SweepManifest:
    """The manifest of the sweep that is asked for.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = sweep_folder(outputs, conf.sweep or "") / MANIFEST_NAME
    if not path.exists():
        raise ConfigError(
            f"sweep={conf.sweep}: no such sweep under {outputs}; see {outputs / 'sweeps'} for those there"
        )
    try:
        return read_manifest(path)
    except RecordError as error:
        raise ConfigError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
