"""A sweep is stopped in order."""

from pathlib import Path

import pytest
from rich.console import Console

from src.config.errors import ConfigError
from src.jobs.cancellation import cancel
from src.records.record import Outcome, read_record
from src.records.store import SweepManifest
from tests.launching.scripted import Clock, Scripted, make_manifest, write_own


def cancelled(outputs: Path, manifest: SweepManifest, backend: Scripted, clock: Clock) -> tuple[int, str]:
    console = Console(record=True, width=200, file=(outputs / "printed").open("w"))
    status = cancel(manifest, outputs, backend, console, clock.patience())
    return status, console.export_text()


def test_what_waits_goes_first_by_whole_arrays_and_every_run_has_its_record(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["7_0", "7_1", "8_0", "8_1", "9"])
    folders = manifest.folders(tmp_path)
    write_own(folders[2])
    script = {
        "7_0": ["RUNNING"],
        "7_1": ["RUNNING"],
        "8_0": ["COMPLETED"],
        "8_1": ["PENDING"],
        "9": ["OUT_OF_MEMORY"],
    }
    backend = Scripted(script)
    status, text = cancelled(tmp_path, manifest, backend, Clock())
    assert status == 0
    assert backend.cancelled == [["8_0", "8_1"], ["7_0", "7_1", "9"]] or backend.cancelled == [
        ["8_0", "8_1"],
        ["7_0", "7_1"],
        ["9"],
    ]
    found = [read_record(folder / "record.json") for folder in folders]
    outcomes = [record.outcome for record in found]
    assert outcomes == [Outcome.KILLED, Outcome.KILLED, Outcome.OK, Outcome.KILLED, Outcome.OOM]
    assert {found[index].reason for index in (0, 1, 3)} == {"cancelled by src.collect"}
    assert "1 pending" in text
    assert "4 had left no record" in text


def test_runs_of_an_earlier_sweep_are_left_alone(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["7", "8"])
    manifest.runs[0]["adopted"] = True
    backend = Scripted({"7": ["RUNNING"], "8": ["RUNNING"]})
    status, text = cancelled(tmp_path, manifest, backend, Clock())
    assert status == 0
    assert backend.cancelled == [["8"]]
    assert not (manifest.folders(tmp_path)[0] / "record.json").exists()
    assert "1 runs that an earlier sweep sent are left alone" in text


def test_a_job_that_does_not_end_is_reported(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7"]), Clock()
    status, text = cancelled(tmp_path, manifest, Scripted({"7": ["COMPLETING"]}), clock)
    assert status == 1
    assert "1 running" in text
    assert 180 <= clock.time_s < 200


def test_a_sweep_that_was_never_sent_is_recorded_as_cancelled(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, [None], driven=False)
    status, _ = cancelled(tmp_path, manifest, Scripted({}), Clock())
    assert status == 0
    assert read_record(manifest.folders(tmp_path)[0] / "record.json").reason == "cancelled by src.collect"


def test_a_sweep_that_is_still_being_sent_is_not_cancelled(tmp_path: Path) -> None:
    from src.records.store import _process_start

    manifest = make_manifest(tmp_path, [None, "7"])
    manifest.driver |= {"pid": 1, "started": _process_start(1)}
    backend = Scripted({"7": ["RUNNING"]})
    with pytest.raises(ConfigError, match="process 1 is still sending"):
        cancelled(tmp_path, manifest, backend, Clock())
    assert not backend.cancelled
