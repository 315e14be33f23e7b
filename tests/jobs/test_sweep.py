"""What is on disk and in the queue after a submission, and after it went wrong at any point."""

import json
from pathlib import Path
from threading import Thread

import pytest
import yaml

from src.config.errors import ConfigError
from src.config.schema.cluster import ClusterConf, SlurmRequest
from src.jobs.arrays import Grouping
from src.jobs.outputs_lock import LOCK_NAME
from src.jobs.sweep import run_on_cluster
from src.records.environment import versions
from src.records.record import Outcome, Record, read_record
from src.records.store import SweepManifest, iter_manifests
from src.run import execute
from tests.conftest import SMALL_LINEAR
from tests.launching.pool import Pool

LEAVE = ClusterConf(wait=False, partition="usual")


@pytest.fixture
def configs(compose, tmp_path):
    def made(*jobs):
        return [compose(*SMALL_LINEAR, f"outputs={tmp_path}", *job.split()) for job in jobs]

    return made


def manifests(outputs: Path) -> list[SweepManifest]:
    """Oldest first; their names say no more than the second."""
    found = [manifest for _, manifest in iter_manifests(outputs) if isinstance(manifest, SweepManifest)]
    return sorted(found, key=lambda manifest: manifest.started_at)


def finish(outputs: Path, attempt: str = "001", outcome: Outcome = Outcome.OK, **details) -> None:
    """Records for all runs of an attempt, as nodes would have written them."""
    for path in outputs.glob(f"runs/*/{attempt}/identity.json"):
        identity = json.loads(path.read_text())
        record = Record(
            identity["run_key"], identity["attempt"], identity["sweep"], identity["axes"], outcome
        )
        record.device, record.details = {"name": "H100"}, details
        record.write(path.parent)


def test_everything_is_on_disk_before_the_cluster_hears_of_it(configs, tmp_path, monkeypatch):
    pool = Pool()
    seen = []

    def look(name):
        manifest = json.loads(next(tmp_path.glob("sweeps/*/sweep.json")).read_text())
        mine = [run for run in manifest["runs"] if run["array"] == name]
        seen.append([(run["task"], run.get("job"), (tmp_path / run["folder"]).is_dir()) for run in mine])

    pool.before = look
    monkeypatch.chdir(tmp_path)
    statuses = run_on_cluster(configs("gpu=h100", "gpu=a100", "gpu=h100 batch=2"), LEAVE, pool, execute)
    assert statuses == [0, 0, 0]
    assert seen == [[(0, None, True), (1, None, True)], [(None, None, True)]]
    [manifest] = manifests(tmp_path)
    assert [run["job"] for run in manifest.runs] == ["100_0", "101", "100_1"]
    assert manifest.backend == "slurm"
    (first, h100), (_, a100) = pool.arrays.values()
    assert (first.partition, first.gres) == ("usual", "gpu:h100:1")
    assert Path(first.extra["chdir"], "src", "run.py").is_file()
    for folder, gpu in zip([*h100, *a100], ["h100", "h100", "a100"], strict=True):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        identity = json.loads((folder / "identity.json").read_text())
        assert config["gpu"]["name"] == identity["axes"]["gpu"] == gpu
        assert Path(config["outputs"]) == Path(identity["outputs"]) == tmp_path
        assert identity["run_key"] == folder.parent.name
        assert identity["versions"] == versions()
        assert identity["cwd"] == str(tmp_path)


def test_runs_are_grouped_by_what_they_ask_for_and_arrays_are_no_larger_than_the_cluster_takes(
    configs, tmp_path
):
    pool = Pool(largest=2)
    jobs = [f"gpu=h100 seed={seed}" for seed in range(5)]
    jobs += ["gpu=h100 seed=5 gpu.slurm.mem_gib=64", "gpu=h100 seed=6 measure.timeout_s=7200"]
    run_on_cluster(configs(*jobs), LEAVE, pool, execute)
    assert [(r.mem_gib, r.time_min, len(f)) for r, f in pool.arrays.values()] == [
        (None, 25, 2),
        (None, 25, 2),
        (None, 25, 1),
        (64, 25, 1),
        (None, 130, 1),
    ]
    assert len(set(pool.arrays)) == 5


def test_runs_of_a_job_are_listed_with_it(configs, tmp_path):
    pool = Pool()
    jobs = [f"gpu=h100 seed={seed}" for seed in range(5)]
    together = ClusterConf(wait=False, runs_per_job="2")
    run_on_cluster(configs(*jobs), together, pool, execute)
    [manifest] = manifests(tmp_path)
    assert [(run["job"], run["place"]) for run in manifest.runs] == [
        ("100_0", 0), ("100_0", 1), ("100_1", 0), ("100_1", 1), ("100_2", 0),
    ]  # fmt: skip
    [(request, folders)] = pool.arrays.values()
    assert request.time_min == 2 * 15 + 10
    assert folders == manifest.folders(tmp_path)


@pytest.mark.parametrize(
    ("runs", "wanted", "limit_min", "per_job", "jobs", "time_min"),
    [
        (20, "auto", None, 1, 20, 25),
        (70, "auto", None, 3, 24, 55),
        (1000, "auto", None, 23, 44, 355),
        (1000, "auto", 60, 3, 334, 60),
        (20, "8", None, 8, 3, 130),
        (20, "8", 60, 3, 7, 60),
        (20, "8", 5, 1, 20, 5),
    ],
)
def test_a_job_does_as_many_runs_as_its_time_holds(runs, wanted, limit_min, per_job, jobs, time_min):
    grouping = Grouping("sweep", ClusterConf(time_min=limit_min), largest=1001)
    for run in range(runs):
        grouping.add(run, SlurmRequest(gres="gpu:h100:1"), 900)
    (array,) = grouping.arrays
    array.pack(wanted)
    assert (array.per_job, len(array.jobs()), array.request.time_min) == (per_job, jobs, time_min)
    assert [run for job in array.jobs() for run in job] == list(range(runs))
    places = [array.place(position) for position in range(runs)]
    assert [each["place"] for each in places] == [position % per_job for position in range(runs)]
    assert places[-1]["task"] == jobs - 1


def test_what_the_gpu_asks_for_wins_over_the_launcher(configs):
    pool = Pool()
    usual = ClusterConf(
        wait=False, partition="usual", account="us", time_min=30, setup=["a"], extra={"x": 1, "y": 1}
    )
    own = "gpu=h100 gpu.slurm.partition=own gpu.slurm.time_min=5 +gpu.slurm.extra={y:2}"
    run_on_cluster(configs(own), usual, pool, execute)
    [(request, _)] = pool.arrays.values()
    asked = (request.partition, request.account, request.time_min, request.setup, request.gres)
    assert asked == ("own", "us", 5, ["a"], "gpu:h100:1")
    assert request.extra.items() >= {"x": 1, "y": 2}.items()


def test_what_is_measured_or_under_way_is_not_sent_again(configs, tmp_path):
    pool = Pool()
    jobs = ("gpu=h100", "gpu=h100 batch=2")
    run_on_cluster(configs(*jobs), LEAVE, pool, execute)
    assert run_on_cluster(configs(*jobs, "gpu=h100 batch=4"), LEAVE, pool, execute) == [0, 0, 0]
    assert pool.sent() == 3
    first, second = manifests(tmp_path)
    adopted = second.runs[:2]
    assert [run["job"] for run in adopted] == [run["job"] for run in first.runs]
    assert all(run["adopted"] and not run["skipped"] for run in adopted)
    assert "adopted" not in second.runs[2]

    finish(tmp_path)
    run_on_cluster(configs(*jobs), LEAVE, pool, execute)
    assert pool.sent() == 3
    assert all(run["skipped"] for run in manifests(tmp_path)[-1].runs)
    run_on_cluster(configs("gpu=h100 rerun=true"), LEAVE, pool, execute)
    assert pool.sent() == 4


@pytest.mark.parametrize("state", ["UNKNOWN", "CANCELLED", "COMPLETED", "TIMEOUT", "NODE_FAIL"])
def test_what_is_over_without_a_record_is_sent_again(configs, tmp_path, state):
    pool = Pool()
    run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute)
    pool.state = state
    run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute)
    assert pool.sent() == 2
    assert [run["attempt"] for manifest in manifests(tmp_path) for run in manifest.runs] == [1, 2]


def test_a_failure_is_sent_again_and_so_is_what_found_the_wrong_node(configs, tmp_path):
    pool = Pool()
    run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute)
    pool.state = "COMPLETED"
    finish(tmp_path, outcome=Outcome.KILLED)
    run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute)
    assert pool.sent() == 2
    finish(tmp_path, "002", Outcome.UNSUPPORTED)
    path = next(tmp_path.glob("runs/*/002/record.json"))
    path.write_text(path.read_text().replace('"name": "H100"', ""))  # no device was opened
    run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute)
    assert pool.sent() == 3


def test_a_driver_that_dies_with_the_array_sent_and_its_id_unwritten_loses_nothing(configs, tmp_path):
    def die():
        raise KeyboardInterrupt

    pool = Pool(after=die)
    jobs = ("gpu=h100", "gpu=h100 batch=2", "gpu=a100")
    with pytest.raises(KeyboardInterrupt):
        run_on_cluster(configs(*jobs), LEAVE, pool, execute)
    assert pool.sent() == 2
    pool.after = lambda: None
    run_on_cluster(configs(*jobs), LEAVE, pool, execute)
    assert pool.sent() == 3
    assert [run["job"] for run in manifests(tmp_path)[-1].runs] == ["100_0", "100_1", "101"]


def test_the_same_command_given_in_the_same_moment_waits_for_what_the_first_sends(configs, tmp_path, capsys):
    pool, jobs = Pool(), ("gpu=h100", "gpu=a100")
    mine, same = configs(*jobs), configs(*jobs)
    second = Thread(target=lambda: run_on_cluster(same, LEAVE, pool, execute))
    said = []

    def meanwhile(name):  # the first array is on its way, the second is not
        pool.before = lambda name: None
        second.start()
        while "waiting for it" not in "".join(said) and second.is_alive():
            said.append(capsys.readouterr().err)
            second.join(0.05)

    pool.before = meanwhile
    run_on_cluster(mine, LEAVE, pool, execute)
    second.join(60)
    assert pool.sent() == 2
    first, other = manifests(tmp_path)
    assert [run["job"] for run in other.runs] == [run["job"] for run in first.runs] == ["100", "101"]
    assert all(run.get("adopted") for run in other.runs)
    assert "waiting for it" in "".join(said)


def test_a_driver_that_dies_before_anything_is_sent_leaves_nothing(configs, tmp_path):
    def jobs():
        yield from configs("gpu=h100", "gpu=a100")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on_cluster(jobs(), LEAVE, Pool(), execute)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK_NAME]


def test_a_refused_first_array_leaves_nothing_behind(configs, tmp_path):
    pool = Pool(refuses="nowhere")
    with pytest.raises(ConfigError, match=r"gpu\.slurm\.partition=nowhere"):
        run_on_cluster(configs("gpu=h100 gpu.slurm.partition=nowhere", "gpu=a100"), LEAVE, pool, execute)
    assert pool.sent() == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK_NAME]
    assert not list(tmp_path.glob("runs/*"))


def test_a_refused_later_array_is_recorded_and_the_others_stay_sent(configs, tmp_path, capsys):
    pool = Pool(refuses="nowhere")
    jobs = ("gpu=h100", "gpu=a100 gpu.slurm.partition=nowhere", "gpu=h200")
    assert run_on_cluster(configs(*jobs), LEAVE, pool, execute) == [0, 1, 0]
    assert pool.sent() == 2
    [path] = tmp_path.glob("runs/*/001/record.json")
    record = read_record(path)
    assert (record.outcome, record.axes["gpu"]) == (Outcome.FAILED, "a100")
    assert "partition=nowhere: invalid partition" in record.reason
    assert record.remedy
    assert "invalid partition" in capsys.readouterr().err
    run_on_cluster(configs("gpu=a100"), LEAVE, pool, execute)  # corrected
    assert pool.sent() == 3


def test_two_names_of_one_run_are_one_job(configs, tmp_path):
    pool = Pool()
    assert run_on_cluster(
        configs("gpu=h100 quant=fp8dq", "gpu=h100 quant=float8dq"), LEAVE, pool, execute
    ) == [
        0,
        0,
    ]
    assert pool.sent() == 1


def test_where_nothing_is_left_to_send_nothing_is_sent(configs, tmp_path):
    pool = Pool()
    run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute)
    finish(tmp_path)
    assert run_on_cluster(configs("gpu=h100"), LEAVE, pool, execute) == [0]
    assert pool.sent() == 1
