"""Where the kernel's count of processes killed for memory is found."""

from pathlib import Path

import pytest

from src.processes.host_memory import oom_kills

EVENTS = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


@pytest.mark.parametrize(
    ("groups", "file", "text", "found"),
    [
        ("0::/slurm/job_7/step_0/task_0\n", "slurm/job_7/step_0/task_0/memory.events", EVENTS, 2),
        ("0::/slurm/job_7/step_0/task_0\n", "slurm/job_7/memory.events", EVENTS, 2),
        ("0::/a/container/sees/no/such/path\n", "memory.events", EVENTS, 2),
        ("4:memory:/slurm/uid_0\n1:name=systemd:/\n", "memory/slurm/uid_0/memory.oom_control", CONTROL, 5),
        ("12:cpu,memory:/x\n0::/y\n", "memory/memory.oom_control", CONTROL, 5),
        ("0::/\n", "other", EVENTS, None),
    ],
)
def test_the_count(tmp_path: Path, groups: str, file: str, text: str, found: int | None) -> None:
    (tmp_path / "cgroup").write_text(groups)
    counted = tmp_path / "fs" / file
    counted.parent.mkdir(parents=True)
    counted.write_text(text)
    assert oom_kills(tmp_path / "cgroup", tmp_path / "fs") == found


def test_a_kernel_without_groups_counts_nothing(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "none", tmp_path) is None
