"""What a plan predicts of runs, and what real runs on this CPU say."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from src.config.schema.arms import on_step
from src.config.schema.measure import MeasureConf
from src.config.schema.model import InputConf, ModelConf
from src.planning.hours import GUESS
from src.planning.matrix import Fate, Launch
from src.planning.needs.work import least_s, linear_flop
from src.planning.planning import plan_runs, show_plan
from src.records.key import axes_of, run_key
from src.records.record import Outcome, Record
from src.records.store import run_folder
from src.treatments.layers import LayerRow
from tests.conftest import SMALL_LINEAR

IMPOSSIBLE = [
    ("quant=float8dq",),
    ("quant=mxfp8",),
    ("quant=gguf",),
    ("quant=int4wo", "quant.group_size=96"),
    ("quant=mxfp8", "dtype=float16", "quant.emulate=true"),
    ("quant=int8wo", "quant.layers.min_side=4096"),
    ("quant=int4wo", "model.dims.K=200"),
    ("quant=int8wo", "gpu=cpu", "gpu.match=nothing like it"),
]


@pytest.mark.parametrize("overrides", IMPOSSIBLE, ids=" ".join)
def test_what_cannot_run_is_predicted_in_the_words_of_the_real_run(compose, execute_run, tmp_path, overrides):
    cfg = compose(*SMALL_LINEAR, f"outputs={tmp_path}", *overrides)
    (run,) = plan_runs([cfg]).runs
    record = execute_run(cfg)
    assert record.outcome == "unsupported"
    assert run.fate is Fate.UNSUPPORTED
    assert (run.reason, run.remedy) == (record.reason, record.remedy)


def test_every_scheme_is_predicted_as_torchao_ends_here(compose, execute_run, tmp_path):
    """Of schemes that run, one of each way of storing; the slow rest is what tests/treatments tries."""
    for quant in ("none", "int8wo", "int4wo", "uint3wo", "nf4"):
        cfg = compose(*SMALL_LINEAR, "model.dims={M:16,K:256,N:256}", f"outputs={tmp_path}", f"quant={quant}")
        (run,) = plan_runs([cfg]).runs
        assert run.fate is Fate.RUN
        assert execute_run(cfg).outcome == "ok"


def test_elsewhere_the_card_is_asked_and_not_this_machine(compose, tmp_path):
    configs = [
        compose(
            "model=flux-dev",
            "model.factory.num_layers=1",
            "model.factory.num_single_layers=1",
            "compile=regional",
            "batch=64",
            f"outputs={tmp_path}",
            f"quant={quant}",
            f"gpu={gpu}",
        )
        for gpu in ("h100", "a100", "rtx4090")
        for quant in ("int8wo", "float8dq")
    ]
    runs = plan_runs(
        configs, Launch(at_once=4, elsewhere=True, key=lambda cfg: run_key(cfg, {"requested": cfg.gpu.name}))
    ).runs
    assert [run.fate for run in runs] == [
        Fate.RUN, Fate.RUN, Fate.RUN, Fate.UNSUPPORTED, Fate.OOM, Fate.OOM,
    ]  # fmt: skip
    assert "needs compute capability >= 8.9; this is NVIDIA A100" in runs[3].reason
    assert runs[4].memory is not None
    assert runs[4].memory.peak_gib > 23.64


def test_a_device_too_slow_for_a_model_is_told(compose, tmp_path):
    """FLUX.1-dev takes minutes a call on a CPU; no machine does what is asked here in a second."""
    asked = ("gpu=cpu", "measure.timeout_s=1", f"outputs={tmp_path}")
    slow, quick = plan_runs([compose(*asked, "batch=256"), compose(*asked, *SMALL_LINEAR)]).runs
    assert slow.fate in (Fate.TIMEOUT, Fate.OOM)
    assert slow.fate is Fate.OOM or "measure.timeout_s=1" in slow.reason
    assert quick.fate is Fate.RUN


def test_the_least_time_is_that_of_all_calls_of_both_arms():
    rows = [LayerRow("a", 8, 1000, 1000, calls=2), LayerRow("b", 8, 500, 1000, calls=1)]
    flop = 2 * 8 * 1000 * (2 * 1000 + 500)
    assert linear_flop(rows) == flop
    assert least_s(flop, 1e-6, MeasureConf(min_pairs=3)) == pytest.approx(14 * flop / 1e6)


def test_without_data_a_cluster_run_is_not_refused(compose, tmp_path):
    cfg = compose("gpu=h100", "gpu.compute_capability=null", f"outputs={tmp_path}")
    elsewhere = Launch(elsewhere=True, key=lambda _: "key")
    assert plan_runs([cfg], elsewhere).runs[0].fate is Fate.RUN


def test_what_is_done_is_skipped_and_what_stands_twice_too(compose, tmp_path, execute_run, cpu):
    cfg = compose(*SMALL_LINEAR, f"outputs={tmp_path}")
    record = execute_run(cfg)
    key = run_key(cfg, cpu.as_dict())
    folder = run_folder(tmp_path, key, 1)
    folder.mkdir(parents=True)
    record.run_key = key
    record.write(folder)
    again = compose(*SMALL_LINEAR, f"outputs={tmp_path}", "rerun=true")
    other = compose(*SMALL_LINEAR, f"outputs={tmp_path}", "seed=1")
    done, measured, new, twice = plan_runs([cfg, again, other, other]).runs
    assert (done.fate, done.seconds) == (Fate.DONE, 0)
    assert done.reason == f"measured before: {record.verdict or record.outcome}"
    assert measured.fate is Fate.RUN
    assert measured.estimate.source == "the same"
    assert (new.fate, twice.fate) == (Fate.RUN, Fate.REPEATED)


def test_a_run_here_takes_no_time_from_another_device(compose, tmp_path):
    """Both were asked for as gpu=auto."""
    cfg = compose(*SMALL_LINEAR, f"outputs={tmp_path}", "gpu=auto", "measure.timeout_s=9000")
    began = datetime(2026, 1, 1)
    record = Record("k", 1, "s", axes_of(cfg), Outcome.OK, device={"name": "NVIDIA H100"})
    record.started_at, record.finished_at = began.isoformat(), (began + timedelta(hours=1)).isoformat()
    record.write(run_folder(tmp_path, "k", 1))
    (run,) = plan_runs([cfg]).runs
    assert run.estimate.source == GUESS


def test_a_broken_record_is_no_obstacle_and_is_not_done(compose, tmp_path, cpu):
    cfg = compose(*SMALL_LINEAR, f"outputs={tmp_path}")
    folder = run_folder(tmp_path, run_key(cfg, cpu.as_dict()), 1)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text('{"schema_version": 1, "run')
    assert plan_runs([cfg]).runs[0].fate is Fate.RUN


def test_what_a_cluster_has_already_is_not_sent_again(compose, tmp_path):
    configs = [compose(*SMALL_LINEAR, f"outputs={tmp_path}", f"seed={seed}") for seed in (0, 1)]
    launch = Launch(elsewhere=True, key=lambda cfg: str(cfg.seed), under_way={"1"})
    assert [run.fate for run in plan_runs(configs, launch).runs] == [Fate.RUN, Fate.UNDER_WAY]


def test_requests_make_groups(compose, tmp_path):
    configs = [
        compose(*SMALL_LINEAR, f"outputs={tmp_path}", f"gpu={gpu}") for gpu in ("h100", "h100", "a100")
    ]
    launch = Launch(
        elsewhere=True,
        key=lambda cfg: run_key(cfg, {"requested": cfg.gpu.name}),
        request=lambda cfg: {"gres": f"gpu:{cfg.gpu.name}:1"},
    )
    groups = plan_runs(configs, launch).groups
    assert [dict(group.request) for group in groups] == [{"gres": "gpu:h100:1"}, {"gres": "gpu:a100:1"}]


def test_what_differs_in_a_sweep_is_a_column(compose, tmp_path, capsys):
    linear, flux = (*SMALL_LINEAR, f"outputs={tmp_path}"), ("model=flux-tiny", f"outputs={tmp_path}")
    configs = [
        replace(compose(*linear), varied={"model.dims.M": "16", "gpu.threads": threads}) for threads in "12"
    ]
    configs += [
        replace(compose(*flux, f"resolution={side}"), varied={"quant.where": "cpu"}) for side in (64, 128)
    ]
    matrix = plan_runs(configs)
    assert matrix.axes()["gpu.threads"] == ["1", "2"]
    assert matrix.axes()["resolution"] == ["64", "128"]
    assert [run.axes.get("model.dims.M") for run in matrix.runs] == ["16", "16", None, None]
    assert len({tuple(values.items()) for values, _ in matrix.rows(60)}) == 4


@pytest.mark.parametrize("does", ["branches", "raises", "raises nothing said", "speaks markup", "recurses"])
def test_a_model_that_cannot_be_followed_is_named_with_the_reason(compose, tmp_path, capsys, does):
    """It has no resolution; two runs have the same trouble."""
    factory = {"_target_": "tests.planning.odd_models.Odd", "does": does}
    model = ModelConf(
        "odd", factory=factory, inputs={"x": InputConf(["batch", 8, 64])}, targets={"denoiser": ""}
    )
    cfg = replace(compose(*SMALL_LINEAR, f"outputs={tmp_path}"), model=model)
    show_plan([cfg, replace(cfg, seed=1)])
    told = capsys.readouterr()
    (line,) = [line for line in told.out.splitlines() if line.startswith("memory of")]
    assert line.startswith(
        "memory of model=odd target=denoiser batch=1 dtype=bfloat16 and 1 more: weights alone, its forward could not "
    )
    assert "2 will run" in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"width": "abc"}, "TypeError: "),
        ({"does": "refuses"}, "ValueError: width: not this one"),
        ({"does": "exits"}, "SystemExit: no such package"),
    ],
)
def test_a_model_that_cannot_be_built_weighs_not_nothing(compose, tmp_path, capsys, given, why):
    model = ModelConf(
        "odd",
        factory={"_target_": "tests.planning.odd_models.Odd"} | given,
        inputs={"x": InputConf(["batch", 8, 64])},
        targets={"denoiser": ""},
    )
    show_plan([replace(compose(*SMALL_LINEAR, f"outputs={tmp_path}"), model=model)])
    lines = capsys.readouterr().out.splitlines()
    (said,) = [line for line in lines if line.startswith("memory of")]
    assert f"batch=1 dtype=bfloat16: unknown, it cannot be built here: {why}" in said
    head, row = lines[lines.index("Runs") + 1 :][:2]
    assert row[head.index("GiB") :][:3].strip() == "", "not known"
    assert "will run" in row


def test_nothing_is_written(compose, tmp_path: Path, capsys):
    outputs = tmp_path / "none"
    show_plan([compose(*SMALL_LINEAR, f"outputs={outputs}")])
    assert not outputs.exists()
    out = capsys.readouterr().out
    assert out.startswith("plan: 1 run; nothing was launched")
    assert "will run" in out


def test_a_plan_is_no_part_of_the_run_key(compose):
    device = {"name": "x"}
    assert (
        run_key(compose("plan=true"), device)
        == run_key(compose("plan=all"), device)
        == run_key(compose(), device)
    )
    assert json.dumps(compose("plan=all").plan) == '"all"'


def test_what_a_ladders_earlier_step_cannot_add_here_weighs_nothing(compose, tmp_path):
    ladder = ("+ladder.steps.quantized=[quant]", "+ladder.steps.compiled=[compile]", "ladder.step=compiled")
    asked = (*SMALL_LINEAR, "compile=default", f"outputs={tmp_path}")
    (left,) = plan_runs([on_step(compose(*asked, "quant=float8dq", *ladder))]).runs
    (had,) = plan_runs([on_step(compose(*asked, "quant=int8wo", *ladder))]).runs
    assert left.fate is had.fate is Fate.RUN
    assert left.memory.model_gib == left.memory.baseline_model_gib == 256 * 128 * 2 / 2**30
    assert had.memory.model_gib == had.memory.baseline_model_gib < 0.6 * left.memory.model_gib
