"""What is told of a calibration under way: experiments that count, and the time left."""

import io

import pytest
from rich.console import Console

from src.calibration import progress
from src.calibration.progress import CalibrationProgress
from tests.calibration.synthetic import instrument


def test_the_time_left_follows_the_processes_and_crowded_experiments_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    experiments = instrument(experiments=4, processes=2)
    with CalibrationProgress(len(experiments), 2, Console(file=out, width=100)) as shown:
        assert shown.left_s() is None
        for found in experiments[: len(experiments) // 2]:
            now[0] += 10
            shown.add(found)
        assert shown.left_s() == pytest.approx(shown.elapsed_s())
        shown.end_process(1)
        assert shown.left_s() == pytest.approx(shown.elapsed_s())
        for found in experiments[len(experiments) // 2 :]:
            now[0] += 10
            found.crowded = True
            shown.add(found)
        shown.end_process(2, "oom: <b>")
    lines = out.getvalue().splitlines()
    first, second = (line for line in lines if line.startswith("["))
    now_and_then = [line for line in lines if not line.startswith("[")]
    assert [line.partition(";")[0] for line in now_and_then] == [
        "6 of 24 experiments",
        "12 of 24 experiments",
        "12 of 24 experiments",
        "12 of 24 experiments",
    ]
    assert first == "[1/2] 12 of 24 experiments; equal copies: 0 of 2 told apart, about 2 min 00 s left"
    assert second == (
        "[2/2] ended early: oom: <b>; 12 of 24 experiments; equal copies: 0 of 2 told apart, 12 crowded, not counted"
    )
