"""What MLflow is given of a run in several processes."""

import json
from pathlib import Path

import pytest

from src.records.mlflow import content
from src.records.mlflow.points import points
from src.records.pooled import pooled_record, process_folder
from src.records.record import Outcome, Record, write_json


def left(folder: Path, number: int, speedup: float) -> Record:
    """What a process of a run of two leaves."""
    metrics = {"speedup/ratio": speedup, "speedup/ci_low": speedup / 1.01, "speedup/ci_high": speedup * 1.01}
    process = {"number": number, "of": 2, "confidence": 0.95, "margin": 0.02}
    record = Record("k", 1, "s", {}, Outcome.OK, "helps", metrics=metrics, details={"process": process})
    record.write(process_folder(folder, number))
    write_json(process_folder(folder, number) / "rounds.json", {"baseline_ms": [1.0], "treated_ms": [1.0]})
    return record


def test_each_process_is_in_a_tag_a_series_and_the_artifacts(tmp_path: Path) -> None:
    left(tmp_path, 1, 1.1)
    record = pooled_record(tmp_path, left(tmp_path, 2, 1.11))
    record.write(tmp_path)
    told = json.loads(content.tags(record)["processes"])
    assert told == [[1.1, 1.089109, 1.111], [1.11, 1.09901, 1.1211]]
    series = [point for point in points(record, tmp_path) if point[0] == "rounds/speedup_of_process"]
    assert series == [("rounds/speedup_of_process", 1.1, 1), ("rounds/speedup_of_process", 1.11, 2)]
    assert "in the interval: 2 processes" in content.note(record)
    paths = {path.relative_to(tmp_path).as_posix() for path in content.artifacts(tmp_path)}
    assert paths == {"record.json"} | {
        f"processes/{n}/{name}.json" for n in (1, 2) for name in ("record", "rounds")
    }


@pytest.mark.parametrize("ratio", [1.123456, 12.345678, 123.456789])
def test_of_fifty_processes_nothing_is_cut_off(ratio: float) -> None:
    one = {"counts": True, "ratio": ratio, "ci_low": ratio, "ci_high": ratio, "error": 0.000123}
    each = [one] * 50
    record = Record("k", 1, "s", {}, Outcome.OK, details={"processes": {"planned": 50, "each": each}})
    record.metrics = {"speedup/processes": 50.0}
    assert len(json.loads(content.tags(record)["processes"])) == 50


def test_a_run_in_one_process_has_its_own_interval_in_the_tag() -> None:
    record = Record("k", 1, "s", {}, Outcome.OK, "helps")
    record.metrics = {
        "speedup/ratio": 1.1,
        "speedup/ci_low": 1.0,
        "speedup/ci_high": 1.2,
        "speedup/processes": 1.0,
    }
    assert json.loads(content.tags(record)["processes"]) == [[1.1, 1.0, 1.2]]
    del record.metrics["speedup/processes"]  # an older record
    assert "processes" not in content.tags(record)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"pairing": "in_turn"}, "its arms were measured in_turn, those of process 1 interleaved"),
        ({"power_cap": {}}, "its speedup comes from blocks, that of process 1 from alternating rounds"),
    ],
)
def test_a_process_that_was_measured_in_another_way_does_not_count(
    tmp_path: Path, told: dict[str, object], says: str
) -> None:
    for number, details in ((1, {}), (2, told)):
        record = left(tmp_path, number, 1.1)
        record.details |= {"pairing": "interleaved"} | details
        record.write(process_folder(tmp_path, number))
    record = pooled_record(tmp_path, record)
    assert record.metrics["speedup/processes"] == 1.0
    assert record.details["warnings"] == [f"process 2 does not count: {says}"]


def test_processes_in_turn_keep_the_drift_that_they_share(tmp_path: Path) -> None:
    for number, speedup in ((1, 1.04), (2, 1.0401)):
        record = left(tmp_path, number, speedup)
        record.details["pairing"] = "in_turn"
        record.write(process_folder(tmp_path, number))
    record = pooled_record(tmp_path, record)
    assert (record.metrics["speedup/processes"], record.verdict) == (2.0, "inconclusive")
    assert record.metrics["speedup/ci_high"] / record.metrics["speedup/ratio"] > 1.1
