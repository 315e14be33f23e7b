"""A sweep settles dtype=auto before it makes a run's key, so that auto and what it stands for are one run."""

from pathlib import Path
from typing import Any

import pytest

from src.local.sweep import LocalSweep
from src.processes.isolated import EndedBy, Ending
from src.records.key import run_key
from src.workloads.dtype import DtypeRates


class InThisProcess:
    """A fork server that calls its jobs here."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def run(self, job: Any, arguments: tuple[Any, ...], **_: Any) -> Ending:
        self.jobs.append(job.__name__)
        return Ending(EndedBy.ITSELF, job(*arguments, print))


@pytest.fixture
def sweep(compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalSweep:
    slow = DtypeRates({"bfloat16": 0.015, "float32": 0.139})
    monkeypatch.setattr("src.measurement.dtypes.quick_rates", lambda _: slow)
    server: Any = InThisProcess()
    return LocalSweep("s", tmp_path, server, [compose()], lambda *_: None)  # type: ignore[arg-type, return-value]


def test_auto_has_one_key_with_what_it_stands_for(sweep: LocalSweep, compose: Any, tmp_path: Path) -> None:
    device = sweep.devices.described(compose().gpu)
    settled = [
        sweep.devices.with_dtype(compose(f"dtype={dtype}", f"outputs={tmp_path}"), device)
        for dtype in ("auto", "float32")
    ]
    assert [cfg.dtype for cfg in settled] == ["float32", "float32"]
    assert run_key(settled[0], device) == run_key(settled[1], device)


def test_it_is_asked_once_per_choice(sweep: LocalSweep, compose: Any, tmp_path: Path) -> None:
    device = sweep.devices.described(compose().gpu)
    dtypes = [
        sweep.devices.with_dtype(compose("dtype=auto", f"quant={quant}", f"outputs={tmp_path}"), device).dtype
        for quant in ("int8wo", "int8dq", "mxfp8", "int8wo")
    ]
    assert dtypes == ["float32", "float32", "bfloat16", "float32"]  # mxfp8 takes nothing else
    assert sweep.server.jobs == ["describe_device", "describe_dtype", "describe_dtype"]  # type: ignore[attr-defined]


def test_a_device_that_is_not_here_leaves_it_open(sweep: LocalSweep, compose: Any) -> None:
    assert sweep.devices.with_dtype(compose("dtype=auto"), {"absent": "no such device"}).dtype == "auto"


def test_of_a_gpu_with_bfloat16_its_description_says_it(sweep: LocalSweep, compose: Any) -> None:
    """Opening a GPU in one more process takes seconds of it."""
    gpu = {"kind": "cuda", "compute_capability": 9.0}
    assert sweep.devices.with_dtype(compose("dtype=auto", "quant=float8dq"), gpu).dtype == "bfloat16"
    assert sweep.server.jobs == []  # type: ignore[attr-defined]
