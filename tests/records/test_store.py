"""Run folders, manifests, liveness."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from src.records.record import (
    Outcome,
    Record,
    RecordError,
    read_record,
    write_json,
    write_new_json,
)
from src.records.store import (
    is_alive,
    iter_records,
    latest_final,
    mark_published,
    next_attempt,
    published_run,
    read_manifest,
    run_folder,
    this_process,
)
from tests.records.run_folders import make_run, make_sweep


def test_attempts_count_up_and_never_collide(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda _: next_attempt(tmp_path, "key"), range(40)))
    assert sorted(attempts) == list(range(1, 41))
    assert run_folder(tmp_path, "key", 7) == tmp_path / "runs" / "key" / "007"


def test_the_newest_finding_stands_for_the_key(tmp_path):
    assert latest_final(tmp_path, "key") is None
    for outcome in (Outcome.OOM, Outcome.OK, Outcome.TIMEOUT, Outcome.LOST):
        attempt = next_attempt(tmp_path, "key")
        Record("key", attempt, "s", {}, outcome).write(run_folder(tmp_path, "key", attempt))
    next_attempt(tmp_path, "key")  # under way: no record yet
    final = latest_final(tmp_path, "key")
    assert final is not None
    assert (final.attempt, final.outcome) == (2, Outcome.OK)


def test_a_record_that_a_full_disk_does_not_take_is_named(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"a\.json") as caught:
        write_json(tmp_path / "a.json", {})
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_newer_attempt_is_told(tmp_path):
    make_run(tmp_path, "key", "s")
    bad = make_run(tmp_path, "key", "s") / "record.json"
    bad.write_text("{")
    with pytest.raises(RecordError, match=str(bad)):
        latest_final(tmp_path, "key")
    assert [type(record) for _, record in iter_records(tmp_path)] == [Record, RecordError]


def test_a_record_with_the_old_name_of_the_speedup_is_read_by_the_new_one(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, asdict(Record("k", 1, "s", {}, metrics={"speedup/median": 1.2, "speedup/ci_low": 1.1})))
    assert read_record(path).metrics == {"speedup/ratio": 1.2, "speedup/ci_low": 1.1}


def test_a_manifest_comes_back_as_written(tmp_path):
    manifest = make_sweep(tmp_path, "s", [make_run(tmp_path, "key", "s")])
    again = read_manifest(tmp_path / "sweeps" / "s" / "sweep.json")
    assert again == manifest
    assert again.runs == [{"run_key": "key", "attempt": 1, "folder": "runs/key/001", "skipped": False}]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"sweep": "s", "runs": [1]}', '{"sweep": "s", "schema_version": 9}']
)
def test_an_unreadable_manifest_names_its_file(tmp_path, text):
    path = tmp_path / "sweep.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=str(path)):
        read_manifest(path)


def test_published_is_by_destination_and_version(tmp_path):
    folder = make_run(tmp_path, "key", "s")
    here = {"uri": "sqlite:///x", "experiment_id": "1", "created_ms": 5}
    assert published_run(folder, here) is None
    mark_published(folder, here, "id", "2026-01-02T03:05:05+00:00")
    assert published_run(folder, here) == ("id", "2026-01-02T03:05:05+00:00")
    assert published_run(folder, here | {"created_ms": 6}) is None


def test_a_process_is_known_by_more_than_its_id():
    me = this_process()
    assert is_alive(me) is True
    assert is_alive(me | {"started": "another boot:1"}) is False
    assert is_alive(me | {"host": "elsewhere"}) is None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    script = (
        "import json,os,sys; from src.records.store import this_process; print(json.dumps(this_process()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), check=True
    )
    child.communicate(b"\n")
    assert is_alive(json.loads(done.stdout)) is False
    assert is_alive(me | {"pid": 1}) is False


@pytest.mark.parametrize("error", [None, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_of_several_writers_one_is_the_first_with_or_without_hard_links(tmp_path, monkeypatch, error):
    """FAT, many FUSE and object stores have none."""

    def no_link(*_):
        raise OSError(error, "no hard links here")

    if error is not None:
        monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "new" / "record.json"
    assert write_new_json(path, {"by": "the first"}) is True
    assert write_new_json(path, {"by": "the second"}) is False
    assert json.loads(path.read_text()) == {"by": "the first"}
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def test_a_disk_that_is_full_is_not_taken_for_one_without_hard_links(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        write_new_json(tmp_path / "record.json", {})
    assert not list(tmp_path.iterdir())
