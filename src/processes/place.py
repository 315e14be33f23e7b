"""Imported first by a fork server: from here on it is where the process is that started it, with its module path.

Nothing but the standard library may be imported here: what is found before is not what that process would find.
"""

import json
import os
import sys

PLACE_VARIABLE = "QUANTPAY_PLACE"


def here() -> str:
    """What to put into the variable for a fork server of this process."""
    return json.dumps({"path": sys.path, "folder": os.getcwd()})  # noqa: PTH109 - without pathlib


def take(place: str | None) -> None:
    """Be where another process is; nothing without a place."""
    if place is not None:
        found = json.loads(place)
        sys.path[:] = found["path"]
        os.chdir(found["folder"])


take(os.environ.pop(PLACE_VARIABLE, None))
