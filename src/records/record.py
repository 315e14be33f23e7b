"""The record of one run: one JSON file, schema-versioned, written atomically."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

SCHEMA_VERSION = 1
RECORD_NAME = "record.json"
_UMASK = os.umask(0o022)
os.umask(_UMASK)  # there is no other way to read it
# of a file system without hard links
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
EMULATED = "emulated"  # in a verdict's place: the timing is not that of the scheme's own kernels


class Outcome(StrEnum):
    """How a run ended."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    OOM = "oom"
    COMPILE_ERROR = "compile_error"
    BAD_NUMERICS = "bad_numerics"
    TIMEOUT = "timeout"
    KILLED = "killed"
    LOST = "lost"
    FAILED = "failed"

    @property
    def is_finding(self) -> bool:
        """A finding is final: the run is not measured again unless asked."""
        return self in FINDINGS


FINDINGS = frozenset(
    {Outcome.OK, Outcome.UNSUPPORTED, Outcome.OOM, Outcome.COMPILE_ERROR, Outcome.BAD_NUMERICS}
)


class RecordError(ValueError):
    """A record file that cannot be read: corrupt, or of a newer schema."""


@dataclass
class Record:
    """Everything that one run found out, but for the bulky parts kept beside it.

    Beside ``record.json`` lie ``config.yaml`` (resolved), ``rounds.json`` (raw round times in ms),
    ``layers.json`` (one row per Linear), ``run.log``, and for autoquant ``plan.json`` and ``rounds_whole_N.json``.
    """

    run_key: str
    attempt: int
    sweep: str
    axes: dict[str, Any]  # model quant compile batch gpu resolution target dtype task
    outcome: Outcome = Outcome.FAILED
    verdict: str = ""  # helps hurts neutral inconclusive; empty when nothing was compared
    reason: str = ""  # why this outcome or verdict, one line
    remedy: str = ""  # what would run it
    shape: dict[str, int] = field(default_factory=dict)  # M, K, N of a target that is one Linear
    device: dict[str, Any] = field(default_factory=dict)  # name, type, ... of the device that was used
    environment: dict[str, Any] = field(default_factory=dict)  # versions, commit, host, hardware
    ceilings: dict[str, Any] = field(default_factory=dict)  # what the device reaches: bandwidth, matmul rates
    metrics: dict[str, float] = field(default_factory=dict)  # names as in MLflow: latency/median_ms
    details: dict[str, Any] = field(default_factory=dict)  # stop reason, pairing, graph-break reasons, ...
    phases_s: dict[str, float] = field(default_factory=dict)  # wall seconds per phase
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    finished_at: str = ""
    schema_version: int = SCHEMA_VERSION

    def withhold(self, reason: str, remedy: str) -> bool:
        """Take the verdict back, for the next sweep to measure again; False where there was none."""
        if self.outcome is not Outcome.OK or self.verdict in ("", EMULATED):
            return False
        self.verdict, self.remedy = "inconclusive", remedy
        self.reason = "; ".join(filter(None, [reason, self.reason]))
        self.details["withheld"] = True
        self.finished_at = datetime.now(UTC).isoformat()  # trackers know a record's versions by it
        return True

    def write(self, folder: Path) -> Path:
        """Write ``record.json`` into the folder, durable and all at once."""
        self.finished_at = self.finished_at or datetime.now(UTC).isoformat()
        path = folder / RECORD_NAME
        write_json(path, asdict(self))
        return path


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never a part."""
    with replaced(path) as file:
        file.write(f"{json.dumps(content, indent=1, allow_nan=False)}\n".encode())


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the path's place at the end, durable and all at once; at an error it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_UMASK)  # mkstemp's are for the owner alone
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):  # of a handle it does not know which file
            error.filename = error.filename or str(path)
        raise


def write_new_json(path: Path, content: Any) -> bool:
    """As `write_json`, unless the file is there; whether it was not: of several writers one is the first.

    Where the file system has no hard links, two that write in the same instant may both take themselves for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    own = Path(name)
    try:
        write_json(own, content)
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)
    return True


def renamed(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics by today's names, of a record or a tracked run of any age."""
    return {name.replace("speedup/median", "speedup/ratio"): value for name, value in metrics.items()}


def read_record(path: Path) -> Record:
    """Read a ``record.json``.

    Raises:
        RecordError: the file is not a record of this schema; the message names the file and the remedy.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: not a readable record ({error}); move it away to measure again"
        ) from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise RecordError(
            f"{path}: record schema {version} is newer than {SCHEMA_VERSION}, the newest this version reads; "
            "update quantpay"
        )
    known = {f.name for f in fields(Record)}
    try:
        record = Record(**{name: value for name, value in content.items() if name in known})
        record.outcome = Outcome(record.outcome)
        record.metrics = renamed(record.metrics)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"{path}: not a readable record ({error}); move it away to measure again"
        ) from error
    return record
