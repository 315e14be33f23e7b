"""A run in several processes: what is asked of each, what becomes of the run when one ends badly."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.autoquant.plan import Choice, Plan, read_plan
from src.config.schema.root import RootConf
from src.launching.endings import kept
from src.launching.repetition import further, processes_of, run_processes, total_timeout_s
from src.launching.standing import standing
from src.records.lost import record_end
from src.records.pooled import process_folder
from src.records.record import Outcome, Record, read_record, write_json
from src.records.store import SweepManifest, next_attempt, run_folder
from src.run import execute
from src.tasks.conclusions.notes import Note, as_details
from tests.conftest import ROOT, SMALL_LINEAR, identity

Fate = Callable[[Record], None]


def speeds(speedup: float, spread: float = 0.002, **details: Any) -> Fate:
    """A process that measured so."""

    def fill(record: Record) -> None:
        record.outcome, record.verdict = Outcome.OK, "helps"
        record.metrics |= {
            "speedup/ratio": speedup,
            "speedup/ci_low": speedup * math.exp(-spread),
            "speedup/ci_high": speedup * math.exp(spread),
            "latency/median_ms": 10 / speedup,
        }
        record.device = {"name": "a CPU", "threads": 2}
        record.environment = {"hardware": {"cpu": {"model": "x", "caches": {"l3": {"bytes": 2**25}}}}}
        record.details |= details

    return fill


def ends(outcome: Outcome, reason: str = "") -> Fate:
    """A process that ended so."""

    def fill(record: Record) -> None:
        record.outcome, record.reason = outcome, reason

    return fill


def interrupted(_: Record) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def small(compose: Callable[..., RootConf]) -> RootConf:
    return compose(*SMALL_LINEAR)


def with_processes(cfg: RootConf, count: int, **changed: Any) -> RootConf:
    return replace(cfg, measure=replace(cfg.measure, processes=count, **changed))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run's."""
    run_folder(tmp_path, "0123456789abcdef", next_attempt(tmp_path, "0123456789abcdef"))
    return run_folder(tmp_path, "0123456789abcdef", 1)


@pytest.fixture
def run(folder: Path, small: RootConf) -> Callable[..., Record]:
    """run(*fates, ...) -> the record on disk of a run whose processes meet them; heard: what each was asked."""

    def started(
        *fates: Fate,
        heard: list[tuple[RootConf, str]] | None = None,
        products: tuple[str, ...] = (),
        **changed: Any,
    ) -> Record:
        cfg = with_processes(small, len(fates), **changed)
        left = iter(fates)

        def start(asked: RootConf, record: Record, own: Path, called: str) -> Record:
            if heard is not None:
                heard.append((asked, called))
            next(left)(record)
            (own / "rounds.json").write_text(json.dumps(called))
            for file in products:
                (own / file).parent.mkdir(exist_ok=True)
                (own / file).write_text(called)
            record.write(own)
            return record

        record = identity(cfg)
        try:
            run_processes(cfg, record, folder, start)
        except KeyboardInterrupt:  # as the driver of a sweep does
            record.outcome, record.reason = Outcome.KILLED, "stopped by the user"
            kept(record, folder)
        return read_record(folder / "record.json")

    return started


def test_a_run_in_one_process_is_what_it_was(run, folder):
    record = run(speeds(1.2))
    assert "processes" not in record.details
    assert sorted(file.name for file in folder.iterdir()) == ["record.json", "rounds.json"]


def test_processes_are_pooled_and_the_run_s_files_are_those_of_the_first(run, folder):
    heard: list[tuple[RootConf, str]] = []
    record = run(speeds(1.20), speeds(1.22), speeds(1.18), heard=heard, energy_s=2.0, ceilings=True)
    assert (record.outcome, record.verdict, record.reason) == (Outcome.OK, "helps", "")
    metrics = record.metrics
    assert metrics["speedup/ratio"] == pytest.approx(1.2, rel=1e-3)
    assert metrics["speedup/ci_low"] < 1.17 < 1.23 < metrics["speedup/ci_high"]
    assert metrics["speedup/within_low"] == pytest.approx(1.2 * math.exp(-0.002))
    assert (metrics["speedup/processes"], metrics["latency/median_ms"]) == (3, pytest.approx(10 / 1.2))
    assert metrics["speedup/between_sd"] == pytest.approx(0.0166, rel=0.05)
    half = math.log(metrics["speedup/ci_high"] / metrics["speedup/ci_low"]) / 2
    assert metrics["speedup/pooled_error"] == pytest.approx(half / 4.303, rel=1e-3)  # t of 2 degrees
    assert "speedup/error" not in metrics
    assert record.details["interval"] == "3 processes"
    told = record.details["processes"]
    assert (told["planned"], [each["ratio"] for each in told["each"]]) == (3, [1.20, 1.22, 1.18])
    assert "process" not in record.details
    assert [called for _, called in heard] == [f"process {n} of 3: " for n in (1, 2, 3)]
    assert [(cfg.measure.energy_s, cfg.measure.ceilings) for cfg, _ in heard] == [(2.0, True)] + 2 * [
        (0.0, False)
    ]
    assert json.loads((folder / "rounds.json").read_text()) == "process 1 of 3: "
    for number in (1, 2, 3):
        assert read_record(process_folder(folder, number) / "record.json").outcome is Outcome.OK
    assert json.loads((process_folder(folder, 3) / "rounds.json").read_text()) == "process 3 of 3: "


def test_processes_that_lie_apart_are_inconclusive_whatever_each_says_alone(run):
    record = run(speeds(1.03), speeds(1.09), speeds(1.15))
    assert record.verdict == "inconclusive"
    assert "from 3 processes crosses the margin of 2%" in record.reason
    assert "measure.processes" in record.remedy


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.TIMEOUT, Outcome.OOM, Outcome.FAILED])
def test_a_process_that_dies_is_named_and_the_others_count(run, outcome):
    record = run(speeds(1.2), ends(outcome, "it died"), speeds(1.21))
    assert (record.outcome, record.metrics["speedup/processes"]) == (Outcome.OK, 2)
    assert [each["counts"] for each in record.details["processes"]["each"]] == [True, False, True]
    assert record.details["warnings"] == [f"process 2 does not count: {outcome} it died"]


@pytest.mark.parametrize(
    ("details", "settles"),
    [
        ({"pairing": "interleaved", "power_cap": {}}, {"pairing": "interleaved", "way": "blocks"}),
        ({"pairing": "interleaved"}, {"pairing": "interleaved", "way": "alternating rounds"}),
        ({"pairing": "in_turn"}, {"pairing": "in_turn"}),
        ({"power_cap": {}}, {"way": "blocks"}),  # a training
    ],
)
def test_the_first_process_settles_how_the_others_take_their_arms(run, folder, details, settles):
    run(ends(Outcome.KILLED), speeds(1.2, **details), speeds(1.2))
    asked = [read_record(process_folder(folder, n) / "record.json").details["process"] for n in (2, 3)]
    told = [{name: each[name] for name in ("pairing", "way") if name in each} for each in asked]
    assert told == [{}, settles]


def notes(times: str, *more: Note) -> list[dict[str, Any]]:
    """What a process says beside its verdict."""
    baseline = Note("baseline", f"unquantized float32 is {times}x faster")
    hurts = Note("slow_compiled", "no fused kernel", verdict="hurts")
    return as_details([baseline, Note("left_out", ""), hurts, *more])


def test_what_the_processes_say_beside_their_verdicts_stays_and_is_told_once(run):
    waits = Note("host_bound", "the device waits", "CUDA graphs")
    record = run(
        speeds(1.2, notes=notes("3.4")),
        ends(Outcome.KILLED),
        speeds(1.2, notes=notes("3.5", waits)),
        speeds(1.2),
    )
    assert (record.verdict, record.remedy) == ("helps", "CUDA graphs")
    assert record.reason == "unquantized float32 is 3.4x faster; the device waits"
    assert [note["kind"] for note in record.details["notes"]] == ["baseline", "slow_compiled", "host_bound"]


def test_what_belongs_to_a_verdict_is_told_beside_that_alone(run):
    said = notes("3.4")
    record = run(speeds(0.8, notes=said, fell_back="it fell back"), speeds(0.8, notes=said))
    assert record.verdict == "hurts"
    assert record.reason == "it fell back; unquantized float32 is 3.4x faster; no fused kernel"


def test_all_processes_stand_against_the_baseline_of_the_first(run, folder):
    heard: list[tuple[RootConf, str]] = []

    def against(dtype: str) -> Fate:
        return speeds(1.2, baseline={"dtype": dtype})

    def settles(record: Record) -> None:
        record.axes["dtype"] = "bfloat16"
        against("float16")(record)

    record = run(settles, against("float16"), against("bfloat16"), heard=heard)
    assert [cfg.dtype for cfg, _ in heard[1:]] == ["bfloat16"] * 2
    for number in (2, 3):
        found = read_record(process_folder(folder, number) / "record.json")
        assert (found.details["process"]["against"], found.axes["dtype"]) == ("float16", "bfloat16")
    assert record.metrics["speedup/processes"] == 2
    assert record.details["warnings"] == [
        "process 3 does not count: its fastest baseline was unquantized bfloat16, that of process 1 float16"
    ]


def test_when_the_first_is_killed_the_second_is_measured_as_the_first_would_have_been(run, folder):
    heard: list[tuple[RootConf, str]] = []
    record = run(ends(Outcome.KILLED, "SIGKILL"), speeds(1.2), speeds(1.21), heard=heard, energy_s=2.0)
    assert (record.outcome, record.metrics["speedup/processes"]) == (Outcome.OK, 2)
    assert [cfg.measure.energy_s for cfg, _ in heard] == [2.0, 2.0, 0.0]
    assert json.loads((folder / "rounds.json").read_text()) == "process 2 of 3: "


@pytest.mark.parametrize("outcome", [Outcome.UNSUPPORTED, Outcome.OOM, Outcome.FAILED, Outcome.TIMEOUT])
def test_a_first_process_that_cannot_ends_the_run(run, outcome):
    heard: list[tuple[RootConf, str]] = []
    record = run(ends(outcome, "no"), speeds(1.2), heard=heard)
    assert (record.outcome, record.reason, len(heard)) == (outcome, "no", 1)


def test_a_run_whose_processes_are_all_killed_was_killed(run):
    record = run(*[ends(Outcome.KILLED, "SIGKILL")] * 2)
    assert (record.outcome, record.reason, record.verdict) == (Outcome.KILLED, "SIGKILL", "")
    assert len(record.details["processes"]["each"]) == 2


def test_an_emulated_treatment_needs_no_second_process(run):
    def emulated(record: Record) -> None:
        record.outcome, record.verdict = Outcome.OK, "emulated"

    heard: list[tuple[RootConf, str]] = []
    record = run(emulated, emulated, heard=heard)
    assert (record.outcome, record.verdict, len(heard)) == (Outcome.OK, "emulated", 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.device.update(threads=4), "between processes 1 and 2: threads was 2, then 4"),
        (
            lambda r: r.environment["hardware"]["cpu"]["caches"]["l3"].update(bytes=1),
            "hardware.cpu.caches.l3.bytes was 33554432, then 1",
        ),
        (
            lambda r: r.environment["hardware"].update(cuda={"uuid": "b"}),
            "hardware.cuda.uuid was absent, then b",
        ),
    ],
)
def test_a_device_that_changes_between_processes_fails_the_run(run, change, says):
    def changed(record: Record) -> None:
        speeds(1.2)(record)
        change(record)

    record = run(speeds(1.2), changed)
    assert (record.outcome, record.verdict) == (Outcome.FAILED, "")
    assert says in record.reason
    assert "\n" not in record.reason
    assert [each["ratio"] for each in record.details["processes"]["each"]] == [1.2, 1.2]


def test_a_process_of_a_busy_machine_does_not_count_unless_all_are(run):
    def busy(record: Record) -> None:
        speeds(1.5, withheld=True)(record)
        record.verdict, record.reason = "inconclusive", "others used 1 CPU"

    record = run(busy, speeds(1.2), speeds(1.2))
    assert (record.verdict, record.metrics["speedup/processes"]) == ("helps", 2)
    assert not record.details.get("withheld")
    assert record.details["warnings"] == ["process 1 does not count: others used 1 CPU"]


def test_a_run_of_nothing_but_busy_processes_withholds_its_verdict(run):
    def busy(record: Record) -> None:
        speeds(1.5, withheld=True)(record)
        record.verdict, record.reason = "inconclusive", "others used 1 CPU"

    record = run(busy, busy)
    assert (record.verdict, record.reason, record.details["withheld"]) == (
        "inconclusive",
        "others used 1 CPU",
        True,
    )


def test_what_was_measured_before_ctrl_c_is_the_run_s_record(run, folder):
    record = run(speeds(1.2), speeds(1.21), interrupted, speeds(1.2))
    assert (record.outcome, record.metrics["speedup/processes"]) == (Outcome.OK, 2)
    assert record.details["processes"]["each"][2] == {
        "process": 3,
        "outcome": "killed",
        "counts": False,
        "reason": "stopped by the user",
    }
    assert record.details["processes"]["planned"] == 4


def test_ctrl_c_in_the_first_process_kills_the_run(run):
    record = run(interrupted, speeds(1.2))
    assert (record.outcome, record.reason) == (Outcome.KILLED, "stopped by the user")


def test_a_driver_that_is_killed_between_two_processes_loses_nothing(run, folder):
    run(speeds(1.2), speeds(1.21))
    (folder / "record.json").unlink()  # as if it had never come to writing it
    (process_folder(folder, 2) / "record.json").unlink()
    manifest = SweepManifest("the-sweep")
    job = {"id": "7", "state": "NODE_FAIL"}
    assert record_end(folder, manifest, Outcome.LOST, "the driver is gone", "again", job=job) is True
    record = read_record(folder / "record.json")
    assert (record.outcome, record.metrics["speedup/processes"]) == (Outcome.OK, 1)
    assert record.details["warnings"] == ["process 2 does not count: lost the driver is gone"]
    assert record.details["interval"].startswith("1 process: what differs")
    assert record.details["job"] == job


def test_a_job_that_is_started_again_measures_again_and_keeps_what_there_was(run, folder):
    run(speeds(1.5), speeds(1.5))
    (folder / "record.json").unlink()
    record = run(speeds(1.2), speeds(1.2))
    assert record.metrics["speedup/ratio"] == pytest.approx(1.2)
    before = folder / "processes_of_start_1" / "1" / "record.json"
    assert read_record(before).metrics["speedup/ratio"] == 1.5


def test_a_job_that_is_started_again_counts_all_its_processes_whatever_folders_it_left(run, folder):
    for name in ("config.yaml", "identity.json", "claim.json", "run.log"):
        (folder / name).write_text("of the run")
    run(speeds(1.5), speeds(1.5), products=("profile/trace.json", "plan_of_then.json"))
    (folder / "record.json").unlink()
    record = run(speeds(1.2), speeds(1.2), products=("profile/trace.json",))
    assert (record.outcome, record.metrics["speedup/processes"]) == (Outcome.OK, 2)
    aside = folder / "processes_of_start_1"
    assert {each.name for each in aside.iterdir()} == {
        "1",
        "2",
        "profile",
        "plan_of_then.json",
        "rounds.json",
    }
    stays = {"config.yaml", "identity.json", "claim.json", "run.log", "processes", "record.json", aside.name}
    assert {each.name for each in folder.iterdir()} == stays | {"profile", "rounds.json"}
    (folder / "record.json").unlink()
    run(speeds(1.1), speeds(1.1), products=("profile/trace.json",))
    assert (folder / "processes_of_start_2" / "profile" / "trace.json").exists()


def test_a_run_of_too_few_processes_does_not_stand(run, small, tmp_path):
    record = run(speeds(1.2), ends(Outcome.KILLED))

    def stands(count: int, task: str = "latency") -> bool:
        cfg = with_processes(replace(small, task=replace(small.task, compares=task == "latency")), count)
        return standing(tmp_path, record.run_key, cfg, print) is not None

    assert [stands(count) for count in (1, 2, 3)] == [True, True, False]
    assert stands(3, "serialize")


@pytest.mark.parametrize(("preset", "count"), [("quick", 1), ("standard", 3), ("strict", 5)])
def test_the_presets_processes_and_what_they_add_to_a_job_s_time_limit(small, preset, count):
    assert yaml.safe_load((ROOT / f"conf/measure/{preset}.yaml").read_text())["processes"] == count
    cfg = with_processes(small, count, timeout_s=10.0)
    assert (processes_of(cfg), total_timeout_s(cfg)) == (count, 10.0 * count)


def test_further_processes_apply_what_the_first_applied_of_its_plan(tmp_path, small):
    cfg = with_processes(small, 2)
    assert further(cfg, tmp_path).quant.plan is None
    choices = [
        Choice(4, 8, 8, ["a", "b", "e"], "int8wo", "1.5x", calls=3),  # e was not: the others stay
        Choice(4, 8, 16, ["c"], "int8dq", "1.2x"),
        Choice(4, 16, 16, ["d"], "none", "no candidate is faster"),
    ]
    write_json(tmp_path / "plan.json", Plan("linear", "linear", "none", "CPU", choices).as_dict())
    applied = {"a": "int8wo", "b": "int8wo", "c": "", "d": "", "e": ""}
    write_json(tmp_path / "layers.json", [{"fqn": fqn, "scheme": scheme} for fqn, scheme in applied.items()])
    plan = read_plan(Path(str(further(cfg, tmp_path).quant.plan)))
    assert plan.schemes() == {"a": "int8wo", "b": "int8wo"}
    left = {
        "c": "int8dq was planned and not applied",
        "d": "no candidate is faster",
        "e": "int8wo was planned and not applied",
    }
    assert {fqn: plan.reasons()[fqn] for fqn in left} == left
    assert [(choice.layers, choice.calls) for choice in plan.choices[:2]] == [(["a", "b"], 2), (["e"], 1)]
    assert read_plan(tmp_path / "plan.json").schemes().keys() == {"a", "b", "c", "e"}


def test_autoquant_is_repeated_and_not_searched_again(tmp_path, compose):
    """Real kernels, in this process: the first finds that its plan does not win, the second measures the same."""
    choices = [Choice(16, 256, 128, ["inner"], "int8wo", "as asked")]
    write_json(tmp_path / "asked.json", Plan("linear", "linear", "none", "CPU", choices).as_dict())
    cfg = compose(
        *SMALL_LINEAR, "quant=autoquant", f"quant.plan={tmp_path / 'asked.json'}", "measure.processes=2",
        "measure.margin=0.5",
    )  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()

    def start(asked: RootConf, record: Record, own: Path, called: str) -> Record:
        return execute(asked, record, own, lambda _: None)

    record = run_processes(cfg, identity(cfg), folder, start)
    assert record.outcome is Outcome.OK, record.reason
    applied = record.metrics["quantize/layers"]
    second = read_record(process_folder(folder, 2) / "record.json")
    assert second.outcome is Outcome.OK, second.reason
    assert (second.metrics["quantize/layers"], "fell_back" in second.details) == (applied, False)
    assert applied == 1 or record.reason.startswith(record.details["fell_back"])
    assert "energy" not in second.phases_s
