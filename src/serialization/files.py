"""Files that are there whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from src.config.lines import first_line
from src.devices.device import GIB
from src.outcomes import RunEndedError
from src.records.record import Outcome

_DISK_WORDS = ("inline_container", "PytorchStreamWriter", "file write failed")  # torch.save's, a RuntimeError


@contextmanager
def replacing(path: Path, needed_bytes: int) -> Iterator[Path]:
    """A name in the same folder to write to: it becomes `path` when the block ends well, else `path` stays as it was.

    Args:
        path: of the file to make or replace; its folder is made.
        needed_bytes: about how much will be written.

    Raises:
        RunEndedError: `failed`, when the disk is full or does not take it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(path.parent).free) < needed_bytes:
            raise _not_written(
                path, f"{needed_bytes / GIB:.3g} GiB do not fit into the {free / GIB:.3g} GiB free"
            )
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _DISK_WORDS):
            raise
        raise _not_written(path, first_line(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_written(path: Path, why: str) -> RunEndedError:
    remedy = "free space on that disk, or outputs=FOLDER on another one, then the same command"
    return RunEndedError(Outcome.FAILED, f"{path} could not be written: {why}", remedy)
