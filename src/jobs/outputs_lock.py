"""One command at a time lists and sends runs into an outputs folder, so that the next one sees what it has sent."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from src.config.errors import ConfigError
from src.records.locks import locked

LOCK_NAME = ".sending.lock"
_PATIENCE_S = 1800.0  # 10,000 runs are listed and sent in two minutes, on a slow file system in ten


@contextmanager
def one_at_a_time(outputs: Path, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Let no other command list and send runs into these outputs until the block ends; wait for one that does.

    Where the file system cannot lock, or the file is another user's, nobody waits: two commands that are given in the
    same moment may then both send.

    Args:
        outputs: the folder of all runs; it can be written.

    Raises:
        ConfigError: the other command is not done after that time.
    """
    path = outputs / LOCK_NAME

    def waiting() -> None:
        print(f"another command is sending runs into {outputs}; waiting for it", file=sys.stderr)

    with ExitStack() as held:
        try:
            held.enter_context(locked(path, patience_s, waiting))
        except PermissionError:
            pass
        except TimeoutError as error:
            raise ConfigError(
                f"outputs={outputs}: another command has been sending runs into it for all this time; end that "
                f"first, or, if there is none on any machine, remove {path}"
            ) from error
        yield
