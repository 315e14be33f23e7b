"""A task for jobs that are started again; without torch, so that a start is quick."""

import json
import time
from typing import TYPE_CHECKING

from src.records.record import Outcome

if TYPE_CHECKING:
    from src.tasks.context import RunContext


def sleep_at_first(run: "RunContext") -> None:
    """Hang in the first start of a job; a later one is quick."""
    if not json.loads((run.folder / "claim.json").read_text())["earlier"]:
        run.report("hanging")
        time.sleep(600)
    run.record.outcome = Outcome.OK
