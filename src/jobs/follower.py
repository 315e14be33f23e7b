"""Following a sweep whose runs are jobs: until every run has a record, its own or one of how its job ended."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from src.config.lines import runs_in_words
from src.config.paths import command, outputs_argument
from src.jobs.backend import Backend
from src.jobs.display import FollowDisplay
from src.jobs.followed import FollowedRun, Following, Patience
from src.launching.publication import SweepPublisher, left_to_its_job
from src.records.store import SweepManifest


def follow(
    manifest: SweepManifest,
    outputs: Path,
    backend: Backend,
    publisher: SweepPublisher,
    console: Console,
    patience: Patience | None = None,
) -> list[int]:
    """Follow a sweep until every run has a record; shows what goes on, and publishes records as they come.

    Args:
        manifest: of the sweep; each run with its ``job``, but for the skipped.
        publisher: of the sweep; opened and closed here.
        console: a live table where it is a terminal, else a line now and then.

    Returns:
        An exit status per run of the manifest: 0 for a finding, 1 otherwise, also for a run that nobody could be
        asked about for an hour and that has no record.

    Raises:
        KeyboardInterrupt: Ctrl-C; jobs go on, and the lines printed say how to follow or cancel them.
    """
    following = Following(manifest, outputs, backend, patience or Patience())
    with FollowDisplay(manifest.sweep, console) as display:
        try:
            _follow(following, publisher, display)
        except KeyboardInterrupt:
            if backend.detached:
                display.say(f"the jobs of sweep {manifest.sweep} go on\n{hints(manifest.sweep, outputs)}")
            else:
                _end(following, publisher, display)
            raise
        finally:
            display.close(following.runs)
            for line in publisher.close(over=not following.open):
                display.say(line)
    return [run.status for run in following.runs]


def hints(sweep: str, outputs: Path) -> str:
    """The commands that follow, cancel and analyze a sweep, a line each."""
    which = [f"sweep={sweep}", *outputs_argument(outputs)]
    return (
        f"  follow:  {command('collect', *which, '--watch')}\n"
        f"  cancel:  {command('collect', *which, 'cancel=true')}\n"
        f"  results: {command('analyze', *which)}"
    )


def _follow(following: Following, publisher: SweepPublisher, display: FollowDisplay) -> None:
    there = following.read_all()
    display.update(following.runs)
    publisher.open()  # a new database takes its time
    _tell(there, publisher, display, before=True)
    while following.open:
        _tell(following.look(), publisher, display)
        display.update(following.runs)
        if not following.open:
            break
        if following.silent():
            display.say(
                f"nobody could say for {following.patience.silent_s / 60:.0f} min what became of "
                f"{runs_in_words(len(following.open))}\n{hints(following.manifest.sweep, following.outputs)}"
            )
            break
        following.patience.sleep(following.patience.poll_s)


def _end(following: Following, publisher: SweepPublisher, display: FollowDisplay) -> None:
    """End the sweep's own jobs, which do not outlive this process; what had not started is left for the next time."""
    own = [run for run in following.open if not run.entry.get("adopted")]
    following.backend.cancel([str(run.job) for run in own if run.job])
    _tell(following.look(), publisher, display)


def _tell(
    runs: Iterable[FollowedRun], publisher: SweepPublisher, display: FollowDisplay, *, before: bool = False
) -> None:
    for run in runs:
        display.done(run, before=before)
        over = run.over_since is not None or before
        if run.record is not None and not left_to_its_job(run.folder, over=over):
            publisher.publish(run.folder)
