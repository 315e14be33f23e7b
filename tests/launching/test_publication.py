"""What a sweep says when it is over."""

from pathlib import Path

import pytest

from src.launching.publication import SweepPublisher
from src.records.store import sweep_folder
from tests.records.run_folders import local, make_run, make_sweep


@pytest.mark.parametrize(
    ("task", "told"), [("{}", True), ("{compares: false, trains: true}", True), ("{compares: false}", False)]
)
def test_the_analysis_is_named_where_it_shows_the_runs(outputs: Path, task: str, told: bool) -> None:
    folder = make_run(outputs, "key", "sweep")
    (folder / "config.yaml").write_text(f"task: {task}\n")
    publisher = SweepPublisher(
        local(outputs), make_sweep(outputs, "sweep", [folder]), sweep_folder(outputs, "sweep")
    )
    publisher.open()
    publisher.publish(folder)
    lines = publisher.close()
    assert any(line.startswith("look at it with: ") for line in lines)
    assert [line.partition("analyze ")[2] for line in lines if "what to use" in line] == [
        f"sweep=sweep outputs={outputs}"
    ] * told
