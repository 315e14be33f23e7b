"""Waiting for the jobs of other Hydra applications has an end."""

from pathlib import Path

import pytest

from src.jobs.foreign import _await
from tests.launching.scripted import Clock, Scripted


def test_jobs_have_answered_or_are_over(tmp_path: Path) -> None:
    answers = {job: tmp_path / job for job in ("answers", "is late", "fails")}
    answers["answers"].touch()
    clock = Clock()
    clock.at[2] = answers["is late"].touch
    backend = Scripted({"answers": ["RUNNING"], "is late": ["COMPLETED"], "fails": ["RUNNING", "FAILED"]})
    assert _await(answers, backend, clock.patience()) == {"fails": "FAILED"}


@pytest.mark.parametrize("before", ["PENDING", "COMPLETED"])
def test_a_queue_that_nobody_can_ask_for_an_hour_ends_the_wait(tmp_path: Path, before: str) -> None:
    clock = Clock()
    lost = _await({"7": tmp_path / "answer"}, Scripted({"7": [before, None]}), clock.patience())
    assert lost == {"7": "nobody could say for 60 min what became of it"}
    assert 3600 < clock.time_s < 3700
