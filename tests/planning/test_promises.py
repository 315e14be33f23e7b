"""What a plan says of speedups: from layers that travel with the program, from own ones, or nothing."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from src.forecasts.models.promises import Promises
from src.planning.matrix import HERE, Fate, Launch, Promise
from src.planning.needs.footprint import Footprints
from src.planning.planning import plan_runs, show_plan
from src.records.key import axes_of
from src.records.record import Outcome, Record
from src.records.store import run_folder

ELSEWHERE = Launch(elsewhere=True)
LINEAR = (
    "model=linear",
    "model.dims={M:2048,K:4096,N:4096}",
    "compile=default",
    "gpu=h100",
    "measure.cache=auto",
)


def promised(configs, launch=ELSEWHERE):
    return [run.promise for run in plan_runs(configs, launch, Promises).runs]


def test_a_card_that_is_not_here_is_predicted(compose, tmp_path):
    configs = [
        compose(*LINEAR, f"outputs={tmp_path}", f"quant={q}") for q in ("float8dq", "int8dq", "none", "nf4")
    ]
    helps, hurts, none, unknown = promised(configs)
    assert (helps.verdict, hurts.verdict) == ("helps", "hurts")
    assert helps.low < helps.speedup < helps.high
    assert helps.sure > 0.8
    assert "its cells came with this program (conf/gpu/h100.csv)" in helps.reason
    assert none is None
    assert unknown.verdict == "unknown"
    assert "no cell of nf4 was measured" in unknown.reason


def test_the_calls_of_a_far_slower_arm_are_in_the_time(compose, tmp_path):
    large = (*LINEAR, "model.dims={M:4096,K:12288,N:12288}", f"outputs={tmp_path}")
    configs = [compose(*large, f"quant={quant}") for quant in ("float8dq", "int8wo")]
    usual, slow = plan_runs(configs, ELSEWHERE, Promises).runs
    assert slow.promise.speedup < 0.01
    more_s = slow.estimate.seconds - usual.estimate.seconds
    assert more_s > 3
    more_rounds_s = slow.estimate.parts_s["rounds"] - usual.estimate.parts_s["rounds"]
    assert more_rounds_s == pytest.approx(more_s)


def test_a_larger_batch_never_takes_less_though_its_bound_is_weaker(compose, tmp_path):
    """Of one layer both are bounds; the second says less, and would make the larger batch the shorter run."""
    bounds = {1: 0.004, 4: 0.05}
    configs = [compose(*LINEAR, f"outputs={tmp_path}", "quant=int8wo", f"batch={batch}") for batch in bounds]

    def predict(*_):
        return lambda cfg: Promise("hurts", high=bounds[cfg.batch], sure=1.0, baseline_ms=50.0 * cfg.batch)

    one, four = plan_runs(configs, ELSEWHERE, predict).runs
    assert one.estimate.seconds > 7 * 0.05 / 0.004
    own_s = [run.estimate.seconds - run.estimate.parts_s.get("ceilings", 0.0) for run in (one, four)]
    assert own_s[1] >= own_s[0]
    assert sum(four.estimate.parts_s.values()) == pytest.approx(four.estimate.seconds)
    assert four.fate is Fate.RUN


def test_what_is_predicted_to_take_longer_than_its_limit_is_told(compose, tmp_path):
    words = (*LINEAR, f"outputs={tmp_path}", "quant=int8wo", "measure.timeout_s=60")
    told = Promise("hurts", high=0.004, sure=1.0, baseline_ms=50.0)
    runs = plan_runs([compose(*words), compose(*words, "batch=4")], ELSEWHERE, lambda *_: lambda _: told).runs
    assert [run.fate for run in runs] == [Fate.TIMEOUT] * 2
    assert "predicted at most 0.004 times as fast" in runs[0].reason
    assert "measure.timeout_s=60" in runs[0].reason


def test_another_card_borrows_and_is_less_sure(compose, tmp_path):
    words = (*LINEAR, f"outputs={tmp_path}", "quant=float8dq")
    own, other = promised([compose(*words), compose(*words, "gpu=l40s")])
    assert other.high / other.low > 1.3 * own.high / own.low
    assert "nothing was measured on NVIDIA L40S" in other.reason


def test_options_of_a_sweep_are_other_kernels(compose, tmp_path):
    cfg = compose(*LINEAR, f"outputs={tmp_path}", "quant=int4wo", "quant.group_size=64")
    (told,) = promised([replace(cfg, varied={"quant.group_size": "64"})])
    assert "no cell of int4wo (group_size=64)" in told.reason


def test_this_machine_s_runs_predict_others(compose, cpu, tmp_path):
    words = ("model=linear", f"outputs={tmp_path}", "quant=int8wo", "compile=default", "measure.cache=auto")
    for index, (m, k) in enumerate((m, k) for m in (1, 64, 512) for k in (256, 1024)):
        cfg = compose(*words, f"model.dims={{M:{m},K:{k},N:{k}}}")
        _record(tmp_path, cfg, cpu.as_dict(), f"{index:016x}", m, k)
    told, *_ = promised([compose(*words, "model.dims={M:256,K:512,N:512}")], HERE)
    assert told.verdict == "helps"
    assert told.speedup == pytest.approx(1.5, rel=0.15)
    assert told.reason == ""


def test_without_any_layer_of_such_a_device_the_plan_says_why_nothing_is_predicted(compose, tmp_path, capsys):
    cfg = compose("model=linear", f"outputs={tmp_path}", "quant=int8wo", "gpu=cpu")
    (told,) = promised([cfg], HERE)
    assert "no single layer was measured undisturbed on a device like it" in told.reason
    show_plan([cfg], HERE, Promises)
    printed = capsys.readouterr().out
    assert f"speedup: nothing is predicted of 1: {told.reason}" in printed
    assert printed.count("predicted") == 1  # there is no column


def test_the_table_shows_it(compose, tmp_path, capsys):
    configs = [compose(*LINEAR, f"outputs={tmp_path}", f"quant={quant}") for quant in ("float8dq", "nf4")]
    show_plan(configs, ELSEWHERE, Promises)
    printed = capsys.readouterr().out
    assert "helps 1." in printed
    assert ", sure " in printed
    assert "predicted of 1: 100% of the time is in layers that nothing predicts" in printed
    assert "no cell of nf4 was measured" in printed
    assert "predict=model says more" in printed


def test_each_note_is_told_once_the_commonest_first_and_how_many_are_left(compose, tmp_path, capsys):
    configs = [
        compose(*LINEAR, f"outputs={tmp_path}", "quant=int8dq", f"batch={size}") for size in range(1, 9)
    ]
    show_plan(
        configs,
        ELSEWHERE,
        lambda *_: lambda cfg: Promise("hurts", 0.8, 0.7, 0.9, 1.0, (f"of batch {cfg.batch}", "borrowed")),
    )
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("predicted of")]
    assert told[:2] == ["predicted of 8: borrowed", "predicted of 1: of batch 1"]
    assert len(told) == 6
    assert any(line.startswith("3 more of these notes: ") for line in lines)


def test_its_layers_are_listed_once(compose, tmp_path):
    footprints = Footprints()
    cfg = compose(*LINEAR, f"outputs={tmp_path}", "quant=float8dq")
    assert Promises(tmp_path, footprints)(cfg).verdict == "helps"
    assert len(footprints._known) == 1


def _record(outputs, cfg, device, key, m, k) -> None:
    record = Record(key, 1, "sweep", axes_of(cfg), Outcome.OK, "helps")
    record.device, record.shape = device, {"M": m, "K": k, "N": k}
    record.started_at = record.finished_at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    ms = 0.01 + m * k * k / 1e9
    record.metrics = {"speedup/ratio": 1.5, "speedup/ci_low": 1.49, "speedup/ci_high": 1.51, "speedup/pairs": 20.0,
                      "latency/baseline_median_ms": ms, "latency/median_ms": ms / 1.5}  # fmt: skip
    record.write(run_folder(outputs, key, 1))
