"""What SLURM says of jobs with every fate, with accounting and without.

All fates are started first, on both clusters, and run side by side.
"""

import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from src.jobs.backend import UNKNOWN, JobState
from src.slurm.backend import cancel, states
from src.slurm.queue import ask, expanded, squeue
from tests.slurm.cluster import Cluster, lacking
from tests.slurm.waiting import accounted, sbatch, wait_for

pytestmark = pytest.mark.slurm
CLUSTERS = {"with accounting": "cluster", "without accounting": "cluster_without_accounting"}
_TRIVIAL_JOBS = 20
_BY_TASK = "case $SLURM_ARRAY_TASK_ID in 0) true;; 1) exit 3;; 2) kill -9 $$;; *) sleep 600;; esac"
# The first start sleeps, later ones are quick; what it is to survive ends its first start.
_TWICE = 'test -n "$SLURM_RESTART_COUNT" || sleep 600'


@dataclass
class Fates:
    """One cluster, and the ids of the jobs that meet their fates on it."""

    cluster: Cluster
    ids: dict[str, str] = field(default_factory=dict)
    cut_node: str = ""

    def send(self) -> None:
        """Start them all; none waits for another."""
        ids, cluster = self.ids, self.cluster
        ids["cut"] = sbatch(cluster, _TWICE, "--partition=a100")
        ids["preempted"] = sbatch(cluster, _TWICE, "--nodelist=h100-2", "--partition=low", "--exclusive")
        ids["long"] = sbatch(cluster, "exec sleep 600", "--time=1")
        ids["by task"] = sbatch(cluster, _BY_TASK, "--array=0-4%4")
        ids["kept by task"] = sbatch(cluster, _BY_TASK, "--array=0-4%4")
        ids["kept held"] = sbatch(cluster, "true", "--array=0-3", "--hold")
        ids["never"] = sbatch(cluster, "true", "--array=0-9:3%2", "--begin=now+1hour")
        ids["held"] = sbatch(cluster, "true", "--array=0-3", "--hold")
        ids["one cancelled"] = sbatch(cluster, "true", "--array=0-9:3%2", "--begin=now+1hour")
        ids["all cancelled"] = sbatch(cluster, "true", "--array=0-3", "--hold")
        self.wait("cut", "preempted", word="RUNNING")
        self.cut_node = self.states([ids["cut"]])[ids["cut"]].node
        cluster.kill_node(self.cut_node)
        ids["important"] = sbatch(cluster, "true", "--nodelist=h100-2", "--partition=high", "--exclusive")
        ids["trivial"] = sbatch(cluster, "true", f"--array=0-{_TRIVIAL_JOBS - 1}", "--partition=all")

    def wait(self, *names: str, word: str, patience_s: float = 200) -> None:
        wait_for(self.cluster, [self.ids[name] for name in names], lambda s: s.state == word, patience_s)

    def tasks(self, name: str, tasks: Iterator[int] | range) -> list[str]:
        return [f"{self.ids[name]}_{task}" for task in tasks]

    def states(self, jobs: list[str]) -> dict[str, JobState]:
        with self.cluster.here():
            return states(jobs)


@pytest.fixture(scope="module")
def sent(request: pytest.FixtureRequest) -> Iterator[dict[str, Fates]]:
    found = {}
    for kind, fixture in CLUSTERS.items():
        if not lacking(accounting=fixture == "cluster"):
            found[kind] = Fates(request.getfixturevalue(fixture))
            found[kind].send()
    yield found
    for fates in found.values():
        with fates.cluster.here():
            cancel(list(fates.ids.values()))
        fates.cluster.start_node(fates.cut_node)


@pytest.fixture(params=CLUSTERS)
def fates(request: pytest.FixtureRequest, sent: dict[str, Fates]) -> Fates:
    if request.param not in sent:
        request.getfixturevalue(CLUSTERS[request.param])  # skips, and says why
    return sent[request.param]


def test_jobs_that_end_by_themselves(fates: Fates) -> None:
    ended = wait_for(fates.cluster, fates.tasks("by task", range(3)))
    words = [(state.state, state.exit_code) for state in ended.values()]
    assert words == [("COMPLETED", "0:0"), ("FAILED", "3:0"), ("FAILED", "0:9")]
    assert all(state.node.startswith("h100-") for state in ended.values())
    assert all(state.restarts == 0 for state in ended.values())


def test_pending_jobs_say_why_and_one_that_is_cancelled_by_itself_is_unknown(fates: Fates) -> None:
    never = fates.tasks("never", range(0, 10, 3))
    nobody = [f"{fates.ids['never']}_1", "99999999", "99999999_3"]
    found = fates.states([*never, *fates.tasks("held", range(4)), *nobody])
    assert {found[job].state for job in never} == {"PENDING"}
    wait_for(fates.cluster, never, lambda state: state.reason == "BeginTime")
    assert {found[job].reason for job in fates.tasks("held", range(4))} == {"JobHeldUser"}
    unknown = [job for job, state in found.items() if state.state == UNKNOWN]
    assert unknown == nobody


def test_an_array_that_is_cancelled_while_pending_is_known_as_cancelled(fates: Fates) -> None:
    jobs = fates.tasks("all cancelled", range(4))
    with fates.cluster.here():
        cancel(jobs)
    found = wait_for(fates.cluster, jobs)
    assert {state.state for state in found.values()} == {"CANCELLED"}


def test_a_single_pending_task_that_is_cancelled_leaves_the_others_in_the_queue(fates: Fates) -> None:
    first, *others = fates.tasks("one cancelled", range(0, 10, 3))
    with fates.cluster.here():
        cancel([first])
    found = fates.states([first, *others])
    assert found[first].state in (UNKNOWN, "CANCELLED")  # 22.05 forgets it
    assert {found[job].state for job in others} == {"PENDING"}


def test_jobs_that_are_cancelled_while_they_run(fates: Fates) -> None:
    running = fates.tasks("by task", range(3, 5))
    wait_for(fates.cluster, running, lambda state: state.state == "RUNNING")
    over = fates.tasks("by task", range(3))
    wait_for(fates.cluster, over)
    with fates.cluster.here():
        cancel([*running, *over])  # what is over already is no error
    found = wait_for(fates.cluster, running)
    assert {state.state for state in found.values()} == {"CANCELLED"}
    if fates.cluster.accounting:
        wait_for(
            fates.cluster, running, lambda state: state.reason == f"by {pwd.getpwuid(os.getuid()).pw_name}"
        )


def test_a_job_whose_node_loses_its_power_is_started_again(fates: Fates) -> None:
    fates.wait("cut", word="COMPLETED", patience_s=200)
    found = fates.states([fates.ids["cut"]])[fates.ids["cut"]]
    assert (found.restarts, {found.node, fates.cut_node}) == (1, {"a100-1", "a100-2"})


def test_a_preempted_job_is_started_again(fates: Fates) -> None:
    fates.wait("important", "preempted", word="COMPLETED", patience_s=200)
    assert fates.states([fates.ids["preempted"]])[fates.ids["preempted"]].restarts == 1


def test_many_jobs_are_asked_about_at_once(fates: Fates, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = fates.tasks("trivial", range(_TRIVIAL_JOBS))
    found = wait_for(fates.cluster, jobs, patience_s=200)
    assert list(found) == jobs
    assert {state.state for state in found.values()} == {"COMPLETED"}
    asked: list[str] = []

    def counted(*command: str) -> "subprocess.CompletedProcess[str]":
        asked.append(command[0])
        return ask(*command)

    monkeypatch.setattr("src.slurm.queue.ask", counted)
    fates.states([*jobs, *fates.tasks("by task", range(3)), fates.ids["cut"]])
    assert 0 < len(asked) < 10  # commands, not one for each job


@pytest.mark.slow
def test_a_job_at_its_time_limit(fates: Fates) -> None:
    """Slow: SLURM looks at time limits every 30 s, and the shortest is a minute."""
    fates.wait("long", word="TIMEOUT", patience_s=300)
    if fates.cluster.accounting:
        assert accounted(fates.cluster, [fates.ids["long"]])[fates.ids["long"]].state == "TIMEOUT"


def test_the_accounting_tells_the_same_as_the_controller(cluster: Cluster, sent: dict[str, Fates]) -> None:
    """slurmctld forgets ended jobs after some minutes; then only the accounting knows them."""
    fates = sent["with accounting"]
    arrays = [*fates.tasks("kept by task", range(5)), *fates.tasks("kept held", range(4))]
    jobs = [*arrays, fates.ids["cut"]]
    wait_for(cluster, arrays[:3])
    wait_for(cluster, [fates.ids["cut"]], patience_s=200)
    with cluster.here():
        cancel(arrays)
    kept = accounted(cluster, jobs)
    wait_for(cluster, jobs)  # the controller is the later one where a node takes its time to let go
    with cluster.here():
        live = squeue(sorted({job.partition("_")[0] for job in jobs}))
    assert live is not None
    for job in jobs:
        assert (kept[job].state, kept[job].restarts) == (live[job].state, live[job].restarts), job
        assert kept[job].node == live[job].node
    assert kept[f"{fates.ids['kept by task']}_1"].exit_code == "3:0"


def test_array_expressions_are_expanded() -> None:
    assert expanded("123_[4-7,9%2]") == ["123_4", "123_5", "123_6", "123_7", "123_9"]
    assert expanded("123_[0-8:4,10]") == ["123_0", "123_4", "123_8", "123_10"]
    assert expanded("123_4") == ["123_4"]
    assert expanded("123") == ["123"]
