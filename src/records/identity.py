"""What a run is before it has run: ``identity.json`` in its folder, for whoever runs it or records its end."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from src.records.record import Record, write_json

IDENTITY_NAME = "identity.json"


@dataclass(frozen=True)
class Identity:
    """Written before a cluster is given the run; the node needs nothing else but ``config.yaml`` beside it."""

    run_key: str
    attempt: int
    sweep: str  # that sent the run
    axes: dict[str, Any] = field(default_factory=dict)
    outputs: str = ""  # absolute
    cwd: str = ""  # of the driver: where the user's own modules may be
    versions: dict[str, str] = field(default_factory=dict)  # that the run key was made with
    max_requeues: int = 3  # of SLURM's own: preemption, failure of a node
    max_num_timeout: int = 1  # requeues at the job's time limit
    snapshot: str = ""  # absolute: the code that is to run it; empty: whatever is imported

    def write(self, folder: Path) -> None:
        """Write ``identity.json`` into a run's folder."""
        write_json(folder / IDENTITY_NAME, asdict(self))

    def record(self) -> Record:
        """A record with the identity filled in."""
        return Record(self.run_key, self.attempt, self.sweep, self.axes)


def read_identity(folder: Path) -> Identity:
    """Read ``identity.json`` of a run's folder; keys of other versions are left out.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is no identity.
    """
    content = json.loads((folder / IDENTITY_NAME).read_text(encoding="utf-8"))
    known = {f.name for f in fields(Identity)}
    try:
        return Identity(**{name: value for name, value in content.items() if name in known})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{folder / IDENTITY_NAME}: not an identity ({error})") from error
