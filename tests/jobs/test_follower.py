"""A sweep of jobs is followed to the end: a record per run, whatever the queue says."""

import json
import re
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from src.jobs.backend import UNKNOWN, JobState
from src.jobs.display import FollowDisplay
from src.jobs.followed import Following, settle
from src.jobs.follower import follow
from src.jobs.node.claims import Claim
from src.jobs.states import FATES
from src.records.record import Outcome, Record, read_record
from src.records.store import SweepManifest, read_manifest
from src.slurm.queue import OPEN
from tests.launching.scripted import Clock, Scripted, make_manifest, no_publisher, write_own


def followed(
    outputs: Path, manifest: SweepManifest, backend: Scripted, clock: Clock, **patience: Any
) -> tuple[list[int], str]:
    console = Console(record=True, width=200, file=(outputs / "printed").open("w"))
    statuses = follow(
        manifest, outputs, backend, no_publisher(outputs, manifest), console, clock.patience(**patience)
    )
    return statuses, console.export_text()


def records(outputs: Path, manifest: SweepManifest) -> list[Record]:
    return [read_record(folder / "record.json") for folder in manifest.folders(outputs)]


def test_a_run_that_its_job_never_came_to_is_not_blamed(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["7", "7", "7"])
    for place, run in enumerate(manifest.runs):
        run["place"] = place
    folders = manifest.folders(tmp_path)
    write_own(folders[0])
    (folders[1] / "claim.json").write_text(json.dumps(asdict(Claim.of_this_process({}))))
    clock = Clock()
    backend = Scripted({"7": ["RUNNING", JobState("OUT_OF_MEMORY", node="h100-1")]})
    statuses, _ = followed(tmp_path, manifest, backend, clock)
    assert statuses == [0, 0, 1]
    assert [record.outcome for record in records(tmp_path, manifest)] == ["ok", "oom", "lost"]
    assert "job 7, OUT_OF_MEMORY, was to do other runs first" in records(tmp_path, manifest)[2].reason


@pytest.mark.parametrize(
    ("state", "outcome", "words"),
    [
        (JobState("TIMEOUT", node="h100-1"), "timeout", ["time limit", "h100-1", "time_min"]),
        (JobState("DEADLINE"), "timeout", ["deadline"]),
        (JobState("OUT_OF_MEMORY"), "oom", ["host's memory", "gpu.slurm.mem_gib"]),
        (JobState("CANCELLED", "by 1001"), "killed", ["cancelled by 1001"]),
        (JobState("FAILED", exit_code="1:0"), "killed", ["exit code 1:0", "no such module", "7_0_0_log.out"]),
        (JobState("FAILED", exit_code="0:9"), "killed", ["0:9", "mem_gib"]),
        (JobState("FAILED", exit_code="0:53"), "killed", ["file system that the nodes share"]),
        (JobState("FAILED", exit_code="140:0"), "timeout", ["140:0", "time_min"]),
        (JobState("BOOT_FAIL"), "killed", ["did not start"]),
        (JobState("NODE_FAIL", node="h100-2"), "killed", ["node failed", "h100-2"]),
        (JobState("PREEMPTED"), "killed", ["preempted"]),
        (JobState("COMPLETED", exit_code="0:0"), "failed", ["no record", "file system that the nodes share"]),
        (JobState(UNKNOWN), "lost", ["neither squeue nor sacct", "7_0"]),
    ],
    ids=lambda value: value.state + value.exit_code if isinstance(value, JobState) else "",
)
def test_every_end_of_a_job_is_an_outcome(
    tmp_path: Path, state: JobState, outcome: str, words: list[str]
) -> None:
    manifest = make_manifest(tmp_path, ["7_0"])
    log = tmp_path / "sweeps" / "the-sweep" / "slurm" / "7_0_0_log.out"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback\nModuleNotFoundError: no such module\n\n")
    statuses, _ = followed(tmp_path, manifest, Scripted({"7_0": ["PENDING", "RUNNING", state]}), Clock())
    [record] = records(tmp_path, manifest)
    assert record.outcome == outcome
    assert statuses == [0 if record.outcome.is_finding else 1]
    for word in words:
        assert word in f"{record.reason} {record.remedy}"
    assert "{" not in record.reason + record.remedy
    assert record.axes["quant"] == "q0"
    assert record.details["job"]["state"] == state.state


def test_every_word_of_slurm_is_open_or_an_end() -> None:
    assert not OPEN & FATES.keys()


def test_a_record_that_comes_late_is_the_one_that_counts(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7"]), Clock()
    [folder] = manifest.folders(tmp_path)
    clock.at[3] = lambda: write_own(folder)  # 12 s after SLURM calls the job over
    statuses, _ = followed(tmp_path, manifest, Scripted({"7": ["FAILED"]}), clock, poll_s=4)
    assert (statuses, records(tmp_path, manifest)[0].outcome) == ([0], Outcome.OK)


def test_a_job_that_nobody_knows_gets_time_to_appear(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7", "8"]), Clock()
    backend = Scripted({"7": [UNKNOWN, UNKNOWN, "PENDING", UNKNOWN, UNKNOWN, "RUNNING"]})
    clock.at[6] = lambda: write_own(manifest.folders(tmp_path)[0])
    followed(tmp_path, manifest, backend, clock)
    assert [record.outcome for record in records(tmp_path, manifest)] == [Outcome.OK, Outcome.LOST]
    assert backend.asked >= 4


def test_a_requeued_job_is_open_again(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7"]), Clock()
    states = ["RUNNING", "NODE_FAIL", "PENDING", "RUNNING", "PREEMPTED", "REQUEUED", "RUNNING", "COMPLETED"]
    clock.at[7] = lambda: write_own(manifest.folders(tmp_path)[0])
    followed(tmp_path, manifest, Scripted({"7": states}), clock)
    assert records(tmp_path, manifest)[0].outcome is Outcome.OK


def test_the_record_of_an_orphan_counts_though_its_job_waits_again(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7"]), Clock()
    clock.at[2] = lambda: write_own(manifest.folders(tmp_path)[0])
    backend = Scripted({"7": ["RUNNING", JobState("PENDING", "BeginTime", restarts=1)]})
    statuses, _ = followed(tmp_path, manifest, backend, clock)
    assert statuses == [0]


def test_a_queue_that_cannot_be_asked_for_an_hour_ends_the_wait(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7", "8"]), Clock()
    write_own(manifest.folders(tmp_path)[0])
    statuses, text = followed(tmp_path, manifest, Scripted({"8": ["RUNNING", None]}), clock, poll_s=60)
    assert statuses == [0, 1]
    assert 3600 < clock.time_s < 4000
    assert "--watch" in text
    assert "1 without a record" in text
    assert not (manifest.folders(tmp_path)[1] / "record.json").exists()


def test_an_unreadable_record_and_a_folder_that_is_gone_end_the_wait_too(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, ["7", "8"])
    first, second = manifest.folders(tmp_path)
    (first / "record.json").write_text("{")
    for file in second.iterdir():
        file.unlink()
    second.rmdir()
    statuses, text = followed(tmp_path, manifest, Scripted({}), Clock())
    assert statuses == [1, 1]
    assert "2 unreadable" in text


def test_a_folder_that_goes_while_its_job_is_followed_ends_the_wait_too(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7", "8"]), Clock()
    first, second = manifest.folders(tmp_path)
    clock.at[1] = lambda: shutil.rmtree(first)
    clock.at[2] = lambda: write_own(second)
    backend = Scripted({"7": ["RUNNING", "RUNNING", "FAILED"], "8": ["RUNNING"]})
    statuses, text = followed(tmp_path, manifest, backend, clock)
    assert statuses == [1, 0]
    assert "gone" in text


def test_jobs_are_found_by_name_also_where_the_driver_was_on_another_machine(tmp_path: Path) -> None:
    """Nobody can tell here whether it lives; what the cluster has of its arrays is the cluster's to say."""
    manifest = make_manifest(tmp_path, [None, None], driven=False)
    manifest.driver["host"] = "another login node"
    for index in range(2):
        manifest.runs[index] |= {"array": f"qp-{index}", "task": None}
    manifest.write(tmp_path)
    backend = Scripted({"9": ["TIMEOUT"]})
    backend.names = {"qp-0": "9"}
    known = settle(manifest, tmp_path, backend, Clock().patience())
    assert [run.record and run.record.outcome for run in known.runs] == [Outcome.TIMEOUT, None]


def test_a_driver_that_died_before_it_wrote_the_jobs_down(tmp_path: Path) -> None:
    """One array was sent, and is found by its name; another was not."""
    manifest = make_manifest(tmp_path, [None, None, None], driven=False)
    for index, (array, task) in enumerate([("qp-0", 0), ("qp-0", 1), ("qp-1", None)]):
        manifest.runs[index] |= {"array": array, "task": task}
    manifest.write(tmp_path)
    clock, backend = Clock(), Scripted({"9_0": ["RUNNING"], "9_1": ["RUNNING"]})
    backend.names = {"qp-0": "9"}
    for folder in manifest.folders(tmp_path)[:2]:
        clock.at[len(clock.at) + 3] = lambda folder=folder: write_own(folder)
    followed(tmp_path, manifest, backend, clock)
    found = records(tmp_path, manifest)
    assert [record.outcome for record in found] == [Outcome.OK, Outcome.OK, Outcome.LOST]
    assert "never sent" in found[2].reason


def test_jobs_that_another_process_is_still_sending_are_learnt_from_its_manifest(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, [None]), Clock()
    manifest.driver |= {"pid": 1, "started": _started(1)}  # some other living process
    manifest.write(tmp_path)

    def sent() -> None:
        manifest_there = read_manifest(tmp_path / "sweeps" / "the-sweep" / "sweep.json")
        manifest_there.runs[0]["job"] = "7"
        manifest_there.write(tmp_path)

    clock.at[5] = sent
    followed(tmp_path, manifest, Scripted({"7": ["TIMEOUT"]}), clock)
    assert records(tmp_path, manifest)[0].outcome is Outcome.TIMEOUT


def _started(pid: int) -> str | None:
    from src.records.store import _process_start

    return _process_start(pid)


def test_settling_records_what_is_over_and_leaves_the_rest(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7_0", "7_1", "7_2", "7_3"], driven=False), Clock()
    write_own(manifest.folders(tmp_path)[0])
    backend = Scripted({"7_1": ["RUNNING"], "7_2": ["CANCELLED"], "7_3": [None]})
    known = settle(manifest, tmp_path, backend, clock.patience())
    assert [run.done for run in known.runs] == [True, False, True, False]
    assert [run.recorded_here for run in known.runs] == [False, False, True, False]
    assert clock.time_s < 20


def test_settling_does_not_wait_for_a_queue_that_falls_silent(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7"], driven=False), Clock()
    settle(manifest, tmp_path, Scripted({"7": [UNKNOWN, None]}), clock.patience())
    assert clock.slept < 3


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7"]), Clock()

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.at[2] = interrupt
    console = Console(record=True, width=200, file=(tmp_path / "printed").open("w"))
    with pytest.raises(KeyboardInterrupt):
        follow(
            manifest, tmp_path, Scripted({"7": ["RUNNING"]}), no_publisher(tmp_path, manifest), console,
            clock.patience(),
        )  # fmt: skip
    assert f"src.collect sweep=the-sweep outputs={tmp_path} --watch" in console.export_text()


def test_the_table(tmp_path: Path) -> None:
    clock = Clock()
    jobs = [f"7_{task}" for task in range(8)]
    manifest = make_manifest(tmp_path, jobs)
    write_own(manifest.folders(tmp_path)[0], seconds=120)
    write_own(manifest.folders(tmp_path)[1], Outcome.OOM, seconds=240)
    script: dict[str, Any] = {job: [JobState("PENDING", "Priority")] for job in jobs[2:5]}
    script |= {"7_5": [JobState("PENDING", "PartitionDown")]}
    script |= {job: [JobState("RUNNING", node="h100-1")] for job in jobs[6:]}
    following = Following(manifest, tmp_path, Scripted(script), clock.patience())
    console = Console(record=True, width=120, file=(tmp_path / "printed").open("w"))
    display = FollowDisplay("the-sweep", console, now=clock.now)
    for run in following.read_all():
        display.done(run)
    following.look()
    clock.time_s = 200
    display.update(following.runs)
    lines = console.export_text(clear=True)
    assert "q none b1" not in lines  # axes are those of the record
    assert "oom" in lines
    assert "warning: 1 jobs wait because of PartitionDown" in lines
    assert "4 pending (3 Priority, 1 PartitionDown), 2 running (h100-1), 2 done (1 ok, 1 oom)" in lines
    console.print(display)
    table = re.sub(" +", " ", console.export_text())
    for row in (
        "2/8 runs 3 min 20 s elapsed about 7 min 30 s left",  # (4 + 2 / 2) runs of 3 min, 2 at a time
        "pending 4 3 Priority, 1 PartitionDown",
        "running 2 h100-1",
        "done 2 1 ok, 1 oom",
    ):
        assert row in table
    display.runs = [run for run in following.runs if run.done]
    assert not display.left_text()


def test_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    manifest, clock = make_manifest(tmp_path, ["7_0", "7_1"]), Clock()
    clock.at[20] = lambda: write_own(manifest.folders(tmp_path)[0])
    backend = Scripted(
        {"7_0": [JobState("PENDING", "Resources"), *["RUNNING"] * 40], "7_1": ["RUNNING"] * 30 + ["TIMEOUT"]}
    )
    _, text = followed(tmp_path, manifest, backend, clock)
    assert "timeout: SLURM ended job 7_1 at its time limit" in text
    assert "sweep the-sweep: 1 ok, 1 timeout" in text
    assert len(text.splitlines()) < 12


WORDS = st.sampled_from([*sorted(OPEN), *sorted(FATES), None])
STATES = st.builds(
    lambda word, restarts: word and JobState(word, restarts=restarts), WORDS, st.integers(0, 2)
)
RUNS = st.lists(
    st.tuples(
        st.lists(STATES, max_size=8),
        st.sampled_from(sorted(FATES)),  # how its job ends at last
        st.one_of(st.none(), st.tuples(st.integers(0, 12), st.sampled_from(list(Outcome)))),  # its own record
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS, poll_s=st.sampled_from([1.0, 7.0, 20.0]))
def test_following_always_ends_with_a_record_per_run_and_none_of_its_own_is_replaced(
    tmp_path_factory: pytest.TempPathFactory, runs: Any, poll_s: float
) -> None:
    outputs, clock = tmp_path_factory.mktemp("outputs"), Clock()
    manifest = make_manifest(outputs, [f"7_{task}" for task in range(len(runs))])
    own: dict[Path, bytes] = {}

    def leaves(folder: Path, outcome: Outcome) -> None:
        if not (folder / "record.json").exists():  # as a node does; see src.launching.endings
            write_own(folder, outcome)
            own[folder] = (folder / "record.json").read_bytes()

    events: dict[int, list[Any]] = {}
    for folder, (_, _, record) in zip(manifest.folders(outputs), runs, strict=True):
        if record is not None:
            events.setdefault(record[0], []).append((folder, record[1]))
    for at, made in events.items():
        clock.at[at] = lambda made=made: [leaves(*each) for each in made]
    clock.at.pop(0, lambda: None)()
    backend = Scripted({f"7_{task}": [*states, end] for task, (states, end, _) in enumerate(runs)})
    statuses, text = followed(outputs, manifest, backend, clock, poll_s=poll_s)
    found = records(outputs, manifest)
    assert statuses == [0 if record.outcome.is_finding else 1 for record in found]
    for folder, content in own.items():
        assert (folder / "record.json").read_bytes() == content
    assert sum(Counter(record.outcome for record in found).values()) == len(runs)
    assert json.loads((outputs / "sweeps" / "the-sweep" / "sweep.json").read_text())["runs"]
    assert "without a record" not in text
