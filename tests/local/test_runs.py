"""What a sweep here does with what was measured before."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from src.config.schema.root import RootConf
from src.launching.progress import SweepProgress
from src.launching.publication import SweepPublisher
from src.local.compilers import Compilers
from src.local.devices import Devices
from src.local.runs import Runs
from src.records.key import axes_of, run_key
from src.records.record import Outcome, Record
from src.records.store import SweepManifest, next_attempt, run_folder
from tests.composing import Compose

CPU = {"name": "a CPU", "kind": "cpu", "identity": {"model": "a CPU"}}


def ignored(*_: Any, **__: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("outcome", "known", "details", "again"),
    [
        (Outcome.UNSUPPORTED, CPU, {}, False),
        (Outcome.UNSUPPORTED, {}, {}, False),  # the key says that there is no such device here
        (Outcome.OOM, CPU, {}, False),
        (Outcome.OOM, CPU, {"withheld": True}, True),  # beside others, who held the device's memory
        (Outcome.OOM, {}, {}, True),  # its process was killed: nobody knows what it had tried
    ],
)
def test_which_findings_are_not_measured_again(
    compose: Compose,
    tmp_path: Path,
    outcome: Outcome,
    known: dict[str, Any],
    details: dict[str, Any],
    again: bool,
) -> None:
    cfg: RootConf = compose(f"outputs={tmp_path}")
    key = run_key(cfg, CPU)
    record = Record(key, next_attempt(tmp_path, key), "before", axes_of(cfg), outcome)
    record.device, record.details = known, details
    record.write(run_folder(tmp_path, key, record.attempt))
    runs = Runs(
        [cfg],
        ignored,  # type: ignore[arg-type]
        tmp_path,
        SweepManifest("now"),
        cast(SweepPublisher, None),
        cast(Devices, SimpleNamespace(settled=lambda cfg: (cfg, CPU))),
        cast(Compilers, SimpleNamespace(begun=ignored)),
    )
    progress = cast(SweepProgress, SimpleNamespace(say=print, start_run=ignored, end_run=ignored))
    assert (runs.begun(0, progress) is not None) == again
    assert runs.records[0].attempt == (2 if again else 1)
