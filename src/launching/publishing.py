"""Publishing beside a sweep: a tracker that is down costs a message, never a run or a record."""

from pathlib import Path

from src.config.schema import TrackingConf
from src.records.store import SweepManifest
from src.records.tracking import Tracker, TrackingError, open_tracker


class SweepPublisher:
    """Publishes each record as it comes; after the first failure it leaves the rest to `src.collect`."""

    def __init__(self, conf: TrackingConf, manifest: SweepManifest, folder: Path) -> None:
        self.conf, self.manifest, self.folder = conf, manifest, folder
        self.trouble = ""
        self._tracker: Tracker | None = None
        self._parent = ""
        self._kept = 0

    def open(self) -> None:
        """Open the tracker and the sweep's parent run."""
        if not self.conf.enabled:
            return
        try:
            self._tracker = open_tracker(self.conf)
            self._parent = self._tracker.open_sweep(self.manifest)
        except TrackingError as error:
            self._give_up(error)

    def publish(self, folder: Path) -> None:
        """Publish one run's folder."""
        if self._tracker is None:
            self._kept += 1
            return
        try:
            self._tracker.publish(folder, self._parent)
        except TrackingError as error:
            self._kept += 1
            self._give_up(error)

    def close(self) -> list[str]:
        """Finish the parent run; returns what the user should know, line by line."""
        lines = []
        if self._tracker is not None:
            try:
                self._tracker.close_sweep(self._parent, self.folder)
                lines += self._tracker.link(self.manifest.sweep).splitlines()
            except TrackingError as error:
                self._give_up(error)
        if self.trouble:
            lines.append(f"warning: {self.trouble}")
        if self._kept:
            lines.append(f"{self._kept} records are kept on disk; publish them with: python -m src.collect")
        return lines

    def _give_up(self, error: TrackingError) -> None:
        self.trouble, self._tracker = str(error), None
