"""A task for jobs that are started again; without torch, so that a start is quick."""

import json
import os
import signal
import time
from typing import TYPE_CHECKING

from src.records.record import Outcome

if TYPE_CHECKING:
    from src.context import RunContext


def sleep_at_first(run: "RunContext") -> None:
    """Hang in the first start of a job; a later one is quick."""
    if not json.loads((run.folder / "claim.json").read_text())["earlier"]:
        run.report("hanging")
        time.sleep(600)
    run.record.outcome = Outcome.OK


def speed_or_killed(run: "RunContext") -> None:
    """A speedup of 1.1, 1.2, ... by the number of the run's process; the second is killed."""
    number = run.record.details["process"]["number"]
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    speedup = 1 + number / 10
    run.record.metrics |= {"speedup/ratio": speedup, "speedup/ci_low": speedup, "speedup/ci_high": speedup}
    run.record.outcome, run.record.verdict = Outcome.OK, "helps"
