"""What is kept of runs: an analysis with it says the same as one without, whatever happened in between."""

import io
import os
import random
import re
import sqlite3
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from rich.console import Console

from benchmarks.scale import Store, records
from src.analysis.runs.frame import tidied, tidy
from src.analysis.runs.tracked.blocks import Blocks
from src.analysis.runs.tracked.kept import Kept, pieces
from src.analysis.runs.tracked.tracker import Tracker
from src.config.schema.root import AnalyzeConf, TrackingConf
from src.report.analysis import analyze

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
RUNS = 100


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Store:
    """A database of a hundred runs; tests change some of them, each others."""
    outputs = tmp_path_factory.mktemp("many")
    (outputs / "mlflow.db").write_bytes(empty_database.read_bytes())
    store = Store(outputs)
    store.add(islice(records(RUNS), RUNS))
    return store


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that these few runs are in many of them."""
    monkeypatch.setattr("src.analysis.runs.tracked.blocks._ROWS", 50)


@pytest.fixture
def tracker(made: Store) -> Tracker:
    return Tracker(TrackingConf(name="sqlite", uri=f"sqlite:///{made.database}"))


@pytest.fixture
def same(tracker: Tracker, tmp_path: Path) -> Callable[[], pd.DataFrame]:
    """Analyses with what is kept, holds it against MLflow's own answer, and returns it."""

    def analysed() -> pd.DataFrame:
        found, told = tracker.attempts(tmp_path)
        frame = tidied(found, 0.02)
        assert_frame_equal(frame, tidy(tracker.runs(), 0.02), check_like=True)
        assert told == []
        return frame

    return analysed


def rows_of(folder: Path) -> list[Path]:
    """The files with rows of runs."""
    return [path for path in sorted(folder.rglob("*.parquet")) if "speedup/ratio" in pd.read_parquet(path)]


def ids(tracker: Tracker) -> list[str]:
    return sorted(run.info.run_id for run in tracker.runs())


def test_it_is_the_same_the_first_time_and_again(same, tmp_path):
    first = same()
    files = rows_of(tmp_path)
    assert not first.empty  # how many there are is for the other tests, which come in any order
    assert_frame_equal(first, same())
    assert rows_of(tmp_path) == files != []


def test_what_is_new_is_added(same, made, tracker, tmp_path):
    before = same()
    made.add(islice(records(RUNS + 7), RUNS, None))
    assert len(same()) == len(before) + 7
    assert len(rows_of(tmp_path)) == 2


def test_what_is_deleted_goes_and_what_is_restored_comes_back(same, tracker):
    before, gone = same(), ids(tracker)[3]
    tracker._client.delete_run(gone)
    assert gone not in set(same()["run_id"])
    tracker._client.restore_run(gone)
    assert_frame_equal(same(), before)


@pytest.mark.parametrize(
    ("tag", "text"),
    [("verdict", "inconclusive"), ("sweeps", " one two "), ("reason", "changed"), ("withheld", "1"),
     ("device", "another"), ("published", "0")],
)  # fmt: skip
def test_what_is_tagged_anew_changes(same, tracker, tag, text):
    before = same()
    run_id = before.loc[before["verdict"] == "helps", "run_id"].iloc[-1]
    tracker._client.set_tag(run_id, tag, text)
    assert not same().equals(before)


def test_a_speedup_that_is_logged_anew_changes(same, tracker):
    before = same()
    alone = before[(before["verdict"] == "helps") & (before["speedup/processes"] == 1)]
    run_id = alone["run_id"].iloc[0]
    tracker._client.log_metric(run_id, "speedup/ci_low", 1e-9)
    after = same()
    assert after.loc[after["run_id"] == run_id, "speedup/ci_low"].item() < 0.1


def test_only_runs_near_a_change_are_looked_at(tracker, made, tmp_path):
    def changed(*files: str) -> set[str] | None:
        now = Blocks(made.database, Kept(tmp_path, {"what": "blocks"}))
        found = now.changed(files)
        now.keep(files)
        return found

    every, client = ids(tracker), tracker._client
    assert changed("one") is None
    assert changed("one") == set()
    assert changed("one", "two") is None  # the rows are kept in other files
    client.set_tag(every[5], "mine", "new")
    assert every[5] in changed("one", "two")
    client.log_metric(every[7], "latency/median_ms", 3.0)
    told = changed("one", "two")
    assert every[7] in told
    assert len(told) < len(every) / 2
    client.delete_tag(every[5], "mine")
    assert every[5] in changed("one", "two")
    client.log_metric(every[9], "of/my_own", 3.0)
    assert changed("one", "two") == set()
    client.log_metric(every[9], "latency/median_ms", 3.0)
    assert changed("one", "two") == {every[9]}
    with sqlite3.connect(made.database) as connection:
        connection.execute("DELETE FROM metrics WHERE rowid = (SELECT max(rowid) FROM metrics)")
    connection.close()
    assert changed("one", "two") is None, "what was logged last is gone: others may have come in its place"
    client.log_metric(every[9], "latency/median_ms", 5.0)
    assert changed("one", "two") == {every[9]}


def test_blocks_of_another_time_than_the_rows_are_not_believed(same, tracker, tmp_path):
    same()
    kept = [(path, path.read_bytes()) for path in rows_of(tmp_path)]
    tracker._client.set_tag(ids(tracker)[4], "reason", "another one")
    same()
    for path in rows_of(tmp_path):
        path.unlink()
    for path, content in kept:
        path.write_bytes(content)
    same()


def test_a_broken_file_is_made_anew_with_one_line(same, tracker, tmp_path):
    before = same()
    (file,) = rows_of(tmp_path)
    file.write_bytes(b"PAR1 and nothing more")
    found, (told,) = tracker.attempts(tmp_path)
    assert_frame_equal(tidied(found, 0.02), before)
    assert "made anew" in told
    assert "\n" not in told
    assert_frame_equal(same(), before)


def test_rows_of_another_version_are_not_read(same, tracker, tmp_path, monkeypatch):
    before = same()
    (file,) = rows_of(tmp_path)
    monkeypatch.setattr("src.analysis.runs.tracked.kept.SCHEMA", 999)
    assert_frame_equal(same(), before)
    (other,) = {*rows_of(tmp_path)} - {file}
    other.write_bytes(file.read_bytes())
    found, (told,) = tracker.attempts(tmp_path)
    assert "another version wrote it" in told
    assert_frame_equal(tidied(found, 0.02), before)


def test_a_folder_that_cannot_be_written_keeps_nothing(tracker, tmp_path):
    (tmp_path / "file").write_text("")
    found, told = tracker.attempts(tmp_path / "file")
    assert len(found)
    assert told == []


def test_many_files_become_one(tmp_path):
    kept = Kept(tmp_path, {"what": "numbers"})
    every = pd.DataFrame({"run_id": [f"{n}" for n in range(100)], "value": range(100)})
    for end in range(60, 101):
        kept.write(every[:end], every[end - 1 : end] if end > 60 else every[:end], anew=end == 60)
        assert_frame_equal(kept.read(), every[:end])
    assert len(list(kept.folder.iterdir())) <= 20


def test_pieces_are_what_they_would_be_if_made_anew(tmp_path):
    chance, made_now = random.Random(0), []

    def asked(numbers: list[int]) -> list[int]:
        def make(place: int) -> dict[str, float]:
            made_now.append(numbers[place])
            return {"third": numbers[place] / 3}

        made_now.clear()
        found = pieces(tmp_path, {"what": "thirds"}, [str(number) for number in numbers], make)
        assert found == [{"third": number / 3} for number in numbers]
        return sorted(made_now)

    for turn in range(10):
        numbers = chance.choices(range(40), k=12)
        asked(numbers)
        assert asked(numbers) == []
        new = 100 + turn
        assert asked([new, *numbers]) == [new]
        if turn % 5 == 4:
            for file in tmp_path.rglob("*.parquet"):
                file.write_bytes(file.read_bytes()[: chance.randrange(200)])
            assert asked(numbers) == sorted({*numbers})
    assert len(list(tmp_path.rglob("*.parquet"))) <= 20


def test_a_report_is_byte_for_byte_a_fresh_one(tmp_path, empty_database, monkeypatch):
    """With everything kept that can be, after runs came, went and were told anew."""
    for module in ("analysis.shapes", "regimes.maps"):
        monkeypatch.setattr(f"src.{module}._MANY", 1)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "mlflow.db").write_bytes(empty_database.read_bytes())
    store, found = Store(outputs), records(RUNS)
    store.add(islice(found, RUNS - 9))
    tracking = TrackingConf(name="sqlite", uri=f"sqlite:///{store.database}")

    def written(name: str) -> dict[str, bytes]:
        conf = AnalyzeConf(tracking, outputs=str(outputs), report=str(tmp_path / name))
        assert analyze(conf, Console(file=io.StringIO())) == 0
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        page = re.sub(rb"on \d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", files["report.html"])
        return files | {"report.html": page}

    first, tracker = written("kept"), Tracker(tracking)
    run_ids = ids(tracker)
    store.add(found)
    tracker._client.delete_run(run_ids[0])
    tracker._client.set_tag(run_ids[1], "withheld", "1")
    tracker._client.log_metric(run_ids[2], "speedup/ci_low", 1e-9)
    again = written("kept")
    assert again["report.html"] != first["report.html"]
    (outputs / "cache").rename(tmp_path / "aside")
    fresh = written("fresh")
    assert (
        {*fresh}
        == {*again}
        >= {"report.html", "verdicts.csv", "breakeven.csv", "verdicts.parquet", "schemes.md"}
    )
    assert fresh == again


def test_a_database_of_other_tables_is_read_through_mlflow(tracker, made, tmp_path, monkeypatch):
    monkeypatch.setattr("src.analysis.runs.tracked.database._TAGGED", "SELECT * FROM no_such_table")
    found, told = tracker.attempts(tmp_path)
    assert sorted(found["run_id"]) == ids(tracker)
    assert list(tmp_path.iterdir()) == told == []
