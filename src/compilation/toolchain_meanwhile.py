"""What a fork server imports, to ask what its children would: in a thread, while it goes on importing."""

import os
import threading

from src.compilation.toolchain import ask


def ask_meanwhile() -> None:
    """Ask in a thread, which no fork of this process outruns."""
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    os.register_at_fork(before=asking.join)


ask_meanwhile()
