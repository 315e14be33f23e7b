"""Imported once by the fork server: what every run needs. It must only import: threads do not survive a fork."""

import os
from pathlib import Path

from src.launching.isolated import PRELOAD_VARIABLE, import_all


def preload() -> None:
    """Import what the variable lists; warnings of libraries would land in the user's progress display."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import_all([path for path in os.environ.get(PRELOAD_VARIABLE, "").split(",") if path])
        finally:
            os.dup2(kept, 2)
            os.close(kept)


preload()
