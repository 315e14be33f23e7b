import json
import weakref
from dataclasses import replace

import pytest
import torch

from src.autoquant import trials
from src.autoquant.plan import Choice, Plan, Trial, read_plan
from src.autoquant.search import Autoquant
from src.config.errors import ConfigError
from src.devices.device import Device
from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.tasks import planned
from src.tasks.arms.side_by_side import SideBySide
from src.tasks.conclusions import told
from src.timers.host import HostTime
from src.treatments.layers import capture_layers
from src.workloads.workload import Workload, build_workload
from tests.conftest import SMALL_LINEAR, synthetic_rounds

ALL = ("int8wo", "int8dq", "float8wo", "float8dq", "float8_e4m3_row", "int4wo")

FLOAT8_MATMUL = ("float8dq", "float8_e4m3_row")


def candidates(*names):
    return ("quant=autoquant", *(f"~quant.candidates.{name}" for name in ALL if name not in names))


@pytest.fixture
def timed(monkeypatch):
    """timed(speedup, ...): the trials come out so; returns what was asked for, once for each shape's rounds."""

    def patch(*speedups):
        asked, left = [], list(speedups)

        def fake(baseline, treated, device, conf, conditions, *, rounds):
            asked.append(conf)
            for own in rounds:
                vars(own).update(vars(synthetic_rounds(left.pop(0))))

        monkeypatch.setattr("src.autoquant.trials.measure_jointly", fake)
        monkeypatch.setattr("src.autoquant.trials.times_slower", lambda *_: (1.0, 1.0))
        return asked

    return patch


@pytest.fixture
def search(compose, cpu, run_context, tmp_path):
    """search(*overrides): search and apply; returns the plan, the rows, and the treated workload."""

    @torch.no_grad()
    def searched(*overrides):
        cfg = compose(*(SMALL_LINEAR if not any("model=" in o for o in overrides) else ()), *overrides)
        run = run_context(cfg)
        workload = build_workload(cfg, cpu)
        rows, _ = capture_layers(workload)
        scheme = Autoquant(cfg.quant)
        scheme.check(cpu, cfg.dtype)
        scheme.search(workload, rows, run)
        scheme.apply(workload, rows, run)
        return scheme.plan, rows, workload

    return searched


@pytest.mark.parametrize(
    ("speedups", "overrides", "chosen"),
    [
        ((1.5, 1.2), (), "int8wo"),
        ((1.2, 1.5), (), "float8wo"),
        ((0.8, 0.9), (), "none"),
        ((1.0, 1.0), (), "none"),
        ((1.015, 1.01), (), "none"),
        ((1.015, 1.01), ("quant.min_gain=0.005",), "int8wo"),
        ((1.2, 1.5), ("quant.min_sqnr_db=35",), "int8wo"),
        ((0.9, 1.5), ("quant.min_sqnr_db=35",), "none"),
    ],
)
def test_choice_follows_the_measured_trials(timed, search, speedups, overrides, chosen):
    timed(*speedups)
    plan, rows, _ = search(*candidates("int8wo", "float8wo"), *overrides)
    (choice,) = plan.choices
    assert choice.scheme == chosen
    assert [(t.scheme, t.outcome) for t in choice.trials] == [("int8wo", "ok"), ("float8wo", "ok")]
    assert [t.speedup for t in choice.trials] == pytest.approx(speedups, rel=1e-3)
    assert all(t.ci_low <= t.speedup <= t.ci_high for t in choice.trials)
    assert choice.baseline_ms == pytest.approx(1.0, rel=0.01)
    (row,) = rows
    assert row.scheme == ("" if chosen == "none" else chosen)
    if chosen == "none":
        assert row.reason == "no candidate is faster beyond noise and above the quality floor"


def test_outputs_are_compared_although_the_next_call_overwrites_them(timed, search, monkeypatch):
    """As CUDA graphs do, whose outputs lie in memory that all of them share."""
    shared = torch.empty(16, 128, dtype=torch.bfloat16)

    def overwriting(module, conf):
        own = module.forward
        module.forward = lambda x: shared.copy_(own(x))

    monkeypatch.setattr("src.autoquant.trials.compile_module", overwriting)
    timed(1.5)
    plan, _, _ = search(*candidates("int8wo"))
    assert 30 < plan.choices[0].trials[0].sqnr_db < 60


class Scripted:
    """A timer whose calls take what is written down."""

    def __init__(self, **ms):
        self.ms, self.calls = {name: list(given) for name, given in ms.items()}, []

    def ms_per_call(self, call, calls):
        self.calls.append(call)
        return self.ms[call].pop(0)


@pytest.mark.parametrize(
    ("baseline", "treated", "ratio", "calls"),
    [
        ([1.0], [1.4], 1.4, 1),
        ([1.0], [1000.0], 1000.0, 1),  # one is enough
        ([1.0] * 2, [84.0] * 2, 84.0, 2),
        ([1.0] * 8, [2.0] * 8, 2.0, 8),
        ([1.0] * 3, [21.0, 30.0, 1.1], 1.1, 3),  # stalls
        ([9.0, 9.0], [20.0, 8.0], 8 / 9, 2),
    ],
)
def test_a_hopeless_candidate_costs_little_and_a_stall_is_not_one(baseline, treated, ratio, calls):
    timer = Scripted(baseline=baseline, treated=treated)
    slower, baseline_ms = trials.times_slower(timer, "baseline", "treated")
    assert (slower, baseline_ms) == (pytest.approx(ratio), min(baseline))
    assert timer.calls.count("treated") == calls


def test_a_hopeless_candidate_is_dropped_and_no_rounds_are_spent_on_it(timed, search, monkeypatch):
    asked = timed()
    monkeypatch.setattr("src.autoquant.trials.times_slower", lambda *_: (1000.0, 0.1))
    plan, _, _ = search(*candidates("int8wo"))
    (trial,) = plan.choices[0].trials
    assert (trial.outcome, trial.speedup, trial.ci_low, asked) == ("ok", 0.001, None, [])
    assert trial.reason == "dropped: 1000.0 times slower at first sight"
    assert plan.choices[0].saved_ms("int8wo") == pytest.approx(-99.9)  # what it would cost throughout


def test_where_the_model_waits_for_the_host_launches_are_timed(compose, cpu, run_context, monkeypatch):
    """Rounds of calls back to back take as long as the host launches them."""
    cfg = compose(*SMALL_LINEAR, *candidates("int8wo"), "measure.cache=auto")
    asked = []

    def fake(baseline, treated, device, conf, conditions, *, rounds):
        asked.append((conditions.cold, conditions.launches))
        vars(rounds[0]).update(vars(synthetic_rounds(1.0)))

    monkeypatch.setattr("src.autoquant.trials.measure_jointly", fake)
    monkeypatch.setattr("src.autoquant.trials.times_slower", lambda *_: (1.0, 1.0))
    for host_bound in (False, True):
        workload = build_workload(cfg, cpu)
        rows, _ = capture_layers(workload)
        scheme = Autoquant(cfg.quant)
        scheme.host_bound = host_bound
        with torch.no_grad():
            scheme.search(workload, rows, run_context(cfg))
    assert asked == [(True, False), (False, True)]


@pytest.mark.parametrize(("bound", "by"), [(True, "host"), (False, "layer")])
def test_a_model_that_waits_for_the_host_has_its_launches_timed(
    timed, whole, compose, execute_run, monkeypatch, bound, by
):
    host = HostTime(host_ms=2.0 if bound else 0.5, device_ms=1.0, wall_ms=2.0)
    monkeypatch.setattr(SideBySide, "host", lambda *_: {"baseline_": host})
    monkeypatch.setattr(planned, "is_part", lambda _: False)
    timed(1.5)
    whole(1.3, 1.3)
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    assert record.details["autoquant"]["trials_timed_by"] == by


def test_a_kernel_that_refuses_the_shape_is_a_trial_with_its_reason(timed, search, monkeypatch):
    timed()

    def refuses(*_):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLt")

    monkeypatch.setattr("src.autoquant.trials.times_slower", refuses)
    plan, _, _ = search(*candidates("int8wo"))
    (trial,) = plan.choices[0].trials
    assert (trial.outcome, "CUBLAS_STATUS_NOT_SUPPORTED" in trial.reason) == ("unsupported", True)


def test_where_one_candidate_cannot_go_on_the_others_are_timed_without_it(timed, search, monkeypatch):
    timed(1.2)
    once, alone = trials.measure_jointly, []

    def refuses(baseline, treated, *args, rounds, **options):
        """The first candidate's kernel does, at some later call."""
        alone.append(len(treated))
        if len(alone) < 3:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLt")
        once(baseline, treated, *args, rounds=rounds, **options)

    monkeypatch.setattr("src.autoquant.trials.measure_jointly", refuses)
    plan, _, _ = search(*candidates("int8wo", "float8wo"))
    refused, other = plan.choices[0].trials
    assert alone == [2, 1, 1]
    assert (refused.scheme, refused.outcome, refused.speedup) == ("int8wo", "unsupported", None)
    assert (other.scheme, other.outcome, other.speedup) == ("float8wo", "ok", pytest.approx(1.2, rel=1e-3))
    assert plan.choices[0].scheme == "float8wo"


@pytest.mark.parametrize(("looks", "rounds"), [(1, 1), (2, 2), (3, 1)])
def test_a_candidate_is_not_out_of_memory_for_those_that_are_held_beside_it(
    timed, search, monkeypatch, looks, rounds
):
    """There is room for so many at first sight, and in rounds."""
    timed(1.2, 1.1, 1.3)
    held, measured = [], trials.measure_jointly

    def full(calls, room):
        held.extend(weakref.ref(call.__self__) for call in calls)
        if len({id(each()) for each in held if each()}) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def measure(baseline, treated, *args, **options):
        full(treated, rounds)
        measured(baseline, treated, *args, **options)

    def look(timer, baseline, treated):
        full([treated], looks)
        return 1.0, 1.0

    monkeypatch.setattr("src.autoquant.trials.measure_jointly", measure)
    monkeypatch.setattr("src.autoquant.trials.times_slower", look)
    plan, _, _ = search(*candidates("int8wo", "int8dq", "float8wo"))
    told = [(trial.outcome, trial.speedup) for trial in plan.choices[0].trials]
    assert told == [("ok", pytest.approx(speedup, rel=1e-3)) for speedup in (1.2, 1.1, 1.3)]


def test_faster_but_below_the_quality_floor_says_so(timed, search):
    timed(2.0)
    plan, _, _ = search(*candidates("float8wo"), "quant.min_sqnr_db=60")
    (trial,) = plan.choices[0].trials
    assert trial.sqnr_db < 60
    assert trial.reason == f"faster, but {trial.sqnr_db:.1f} dB is below quant.min_sqnr_db=60.0"


@pytest.mark.parametrize(
    ("overrides", "scheme", "reason"),
    [
        (candidates("int8wo", "float8dq"), "float8dq", "compute capability >= 8.9"),
        (
            (*candidates("int8wo", "int4wo"), "quant.candidates.int4wo.group_size=96"),
            "int4wo",
            "int4wo on cpu takes group sizes 32, 64, 128",
        ),
    ],
)
def test_a_candidate_that_cannot_run_is_a_trial_with_its_reason(timed, search, overrides, scheme, reason):
    timed(1.5)
    plan, _, _ = search(*overrides)
    trial = next(t for t in plan.choices[0].trials if t.scheme == scheme)
    assert (trial.outcome, trial.speedup) == ("unsupported", None)
    assert reason in trial.reason
    assert plan.choices[0].scheme == "int8wo"


def test_a_mistake_in_the_search_is_not_taken_for_a_finding(monkeypatch, search):
    def broken(*_, **__):
        raise KeyError("a bug")

    monkeypatch.setattr(
        "src.autoquant.trials.times_slower", lambda *_: (1.0, 1.0)
    )  # a busy machine is no matter
    monkeypatch.setattr("src.autoquant.trials.measure_jointly", broken)
    with pytest.raises(KeyError, match="a bug"):
        search(*candidates("int8wo"))


def test_trials_have_a_budget_of_their_own(timed, search):
    asked = timed(1.0)
    search(
        *candidates("int8wo"), "quant.layer_budget_s=0.5", "measure.budget_s=60", "measure.min_round_ms=10"
    )
    (conf,) = asked
    assert (conf.budget_s, conf.max_warmup_s, conf.min_round_ms) == (0.5, 0.25, 2.0)


def test_each_distinct_shape_is_tried_once(timed, search):
    asked = timed(*[1.5] * 20)
    plan, rows, _ = search(
        "model=flux-tiny", "model.factory.num_layers=1", "target=block", *candidates("int8wo")
    )
    assert len(asked) == len(plan.choices) == len({row.shape for row in rows}) < len(rows)
    assert sorted(fqn for choice in plan.choices for fqn in choice.layers) == sorted(row.fqn for row in rows)
    assert {row.scheme for row in rows} == {"int8wo"}


class Mixed(torch.nn.Module):
    """Layers of one shape, one of them without a bias."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(128, 128), torch.nn.Linear(128, 128)
        self.plain = torch.nn.Linear(128, 128, bias=False)

    def forward(self, x):
        return self.last(self.plain(self.first(x)))


@torch.no_grad()
def test_layers_of_a_shape_with_and_without_a_bias_are_tried_apart(timed, compose, run_context):
    asked = timed(0.5, 1.5)
    cfg = compose(*SMALL_LINEAR, *candidates("int8wo"))
    workload = Workload(Mixed().bfloat16().requires_grad_(False), (torch.ones(16, 128).bfloat16(),), {})
    rows, _ = capture_layers(workload)
    scheme = Autoquant(cfg.quant)
    scheme.search(workload, rows, run_context(cfg))
    found = [(choice.layers, choice.scheme) for choice in scheme.plan.choices]
    assert (found, len(asked)) == ([(["plain"], "none"), (["first", "last"], "int8wo")], 2)


def test_a_candidate_that_lost_on_both_sides_is_not_tried(timed, search, monkeypatch):
    """int8wo gains everywhere, float8wo loses wherever it is tried."""
    timed()

    def come_out(*_, rounds, **__):
        for own, speedup in zip(rounds, (1.5, 0.5), strict=False):
            vars(own).update(vars(synthetic_rounds(speedup)))

    monkeypatch.setattr("src.autoquant.trials.measure_jointly", come_out)
    block = ("model=flux-tiny", "model.factory.num_layers=1", "target=block")
    plan, rows, _ = search(*block, *candidates("int8wo", "float8wo"))
    others = [choice.trials[1] for choice in plan.choices]
    skipped = [trial for trial in others if trial.outcome == "not tried"]
    assert {trial.outcome for trial in others} == {"ok", "not tried"}
    assert all(trial.reason.startswith("slower in ") and trial.speedup is None for trial in skipped)
    assert {trial.scheme for trial in others} == {"float8wo"}
    assert {choice.scheme for choice in plan.choices} == {row.scheme for row in rows} == {"int8wo"}
    firsts = [choice.layers[0] for choice in plan.choices]
    assert firsts == [row.fqn for row in rows if row.fqn in firsts]  # in the order of the layers


@torch.no_grad()
def test_search_leaves_the_workload_as_it_is(timed, compose, cpu, run_context):
    timed(2.0)
    cfg = compose(*SMALL_LINEAR, *candidates("int8wo"))
    workload = build_workload(cfg, cpu)
    before = workload.call()
    rows, _ = capture_layers(workload)
    Autoquant(cfg.quant).search(workload, rows, run_context(cfg))
    assert torch.equal(workload.call(), before)
    assert type(workload.module.inner.weight) is torch.nn.Parameter


def test_a_plan_comes_back_and_is_applied_without_searching(timed, search, tmp_path):
    asked = timed(1.5, 1.2)
    plan, _, first = search(*candidates("int8wo", "float8wo"))
    kept = tmp_path / "kept.json"
    (tmp_path / "plan.json").rename(kept)
    assert read_plan(kept) == plan
    again, rows, second = search(*candidates("int8wo", "float8wo"), f"quant.plan={kept}")
    assert len(asked) == 1
    assert again == plan == read_plan(tmp_path / "plan.json")
    assert rows[0].scheme == "int8wo"
    assert torch.equal(first.call(), second.call())


def plan_file(tmp_path, **changes):
    choice = Choice(
        16, 256, 128, ["inner"], "int8wo", "faster", 1.0, [Trial("int8wo", "ok", "", 1.5, 1.4, 1.6, 40.0)]
    )
    content = Plan("linear", "denoiser", "none", "a CPU", [choice]).as_dict()
    for key, value in changes.items():
        (content if key in content else content["choices"][0])[key] = value
    path = tmp_path / "given.json"
    path.write_text(json.dumps(content))
    return path


def test_a_plan_of_unknown_schemes(search, tmp_path):
    path = plan_file(tmp_path, scheme="int3wo")
    with pytest.raises(ConfigError, match=f"quant.plan={path}: uses int3wo; quant.candidates: int8wo"):
        search(*candidates("int8wo"), f"quant.plan={path}")


def test_a_plan_of_another_model(search, tmp_path):
    path = plan_file(tmp_path, layers=["inner", "transformer_blocks.0.ff.net.2"])
    with pytest.raises(RunEndedError, match=r"quant\.plan names layers that .* does not have") as caught:
        search(*candidates("int8wo"), f"quant.plan={path}")
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert caught.value.reason.endswith(
        "transformer_blocks.0.ff.net.2, ...; it was made for target=denoiser of linear"
    )
    assert "quant.plan=null" in caught.value.remedy


def test_a_plan_of_another_device_is_applied_and_said(compose, execute_run, tmp_path):
    path = plan_file(tmp_path, device="NVIDIA H100 80GB HBM3 (79 GiB, 700 W)")
    record = execute_run(compose(*SMALL_LINEAR, "dtype=float32", *candidates("int8wo"), f"quant.plan={path}"))
    assert record.outcome is Outcome.OK
    assert "the plan was made on NVIDIA H100 80GB HBM3 (79 GiB, 700 W), this is" in record.reason


def test_a_plan_s_layers_that_its_scheme_does_not_take_here_are_left_alone(search, tmp_path):
    path = plan_file(tmp_path, K=64, scheme="int4wo")
    _, (row,), workload = search(*candidates("int4wo"), "model.dims.K=64", f"quant.plan={path}")
    assert (row.scheme, row.reason) == ("", "int4wo was planned: K=64 is not a multiple of 128")
    assert type(workload.module.inner.weight) is torch.nn.Parameter


@torch.no_grad()
@pytest.mark.parametrize("given", [False, True], ids=["searched", "given"])
def test_a_candidate_for_inputs_of_other_dimensions_does_not_get_the_layer(
    timed, compose, cpu, run_context, tmp_path, given
):
    timed(1.5)
    plan = plan_file(tmp_path, layers=["first"], M=16, K=128)
    more = (f"quant.plan={plan}",) if given else ()
    cfg = compose(
        *SMALL_LINEAR, *candidates("int8wo"), "+quant.candidates.int8wo.requires={input_dims: 2}", *more
    )
    workload = Workload(Mixed().bfloat16().requires_grad_(False), (torch.ones(2, 8, 128).bfloat16(),), {})
    rows, _ = capture_layers(workload)
    scheme = Autoquant(cfg.quant)
    scheme.check(cpu, cfg.dtype)
    assert scheme.observes(cpu)
    scheme.search(workload, rows, run_context(cfg))
    scheme.apply(workload, rows, run_context(cfg))
    assert {row.scheme for row in rows} == {""}
    said = "called with inputs of 3 dimensions, not 2"
    if given:
        assert rows[0].reason == f"int8wo was planned: {said}"
    else:
        assert [said in t.reason for choice in scheme.plan.choices for t in choice.trials] == [True, True]


@pytest.mark.parametrize(
    ("changes", "predicts"),
    [({}, True), ({"device": "NVIDIA H100"}, False), ({"compile": "default"}, False), ({"M": 32}, False)],
    ids=lambda changes: str(changes),
)
@torch.no_grad()
def test_what_a_plan_gained_elsewhere_is_not_predicted_here(
    compose, cpu, run_context, tmp_path, changes, predicts
):
    path = plan_file(tmp_path, **({"device": cpu.name} | changes))
    cfg = compose(*SMALL_LINEAR, *candidates("int8wo"), f"quant.plan={path}")
    run, workload = run_context(cfg), build_workload(cfg, cpu)
    rows, _ = capture_layers(workload)
    scheme = Autoquant(cfg.quant)
    scheme.check(cpu, cfg.dtype)
    scheme.search(workload, rows, run)
    scheme.note(scheme.plan, run, 10.0)
    assert ("autoquant/predicted_speedup" in run.record.metrics) == predicts


def test_a_plan_whose_schemes_need_another_device(search, tmp_path):
    path = plan_file(tmp_path, device="NVIDIA H100", scheme="float8dq")
    with pytest.raises(
        RunEndedError, match=r"the plan was made on NVIDIA H100: float8dq needs a cuda"
    ) as caught:
        search(*candidates("float8dq"), f"quant.plan={path}")
    assert caught.value.outcome is Outcome.UNSUPPORTED
    assert caught.value.remedy == "quant.plan=null, which searches for one here"


def test_a_plan_knows_the_device_by_what_it_can_do(cpu):
    plan = Plan("linear", "denoiser", "none", cpu.name, [], identity=cpu.identity)
    assert plan.made_elsewhere(cpu) == ""
    assert plan.made_elsewhere(replace(cpu, name="shown otherwise")) == ""
    assert "the plan was made on" in plan.made_elsewhere(
        replace(cpu, identity=cpu.identity | {"onednn": "avx"})
    )
    assert Plan("linear", "denoiser", "none", cpu.name, []).made_elsewhere(cpu) == ""


def test_layers_outside_the_plan_say_so(search, tmp_path):
    path = plan_file(tmp_path, layers=["ff.net.2"])
    _, rows, _ = search("model=flux-tiny", "target=block", *candidates("int8wo"), f"quant.plan={path}")
    assert {row.fqn for row in rows if row.scheme} == {"ff.net.2"}
    assert {row.reason for row in rows if not row.scheme} == {"not in the plan"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"plan_version": 2}',
        '{"plan_version": 1, "choices": []}',
        '{"plan_version": 2, "choices": [{}]}',
    ],
)
def test_a_plan_that_cannot_be_read(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"quant\.plan=.*not a readable plan"):
        read_plan(path)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="not a readable plan"):
        read_plan(tmp_path / "plan.json")


def test_no_candidate_for_this_device(compose):
    device = Device(kind="cuda", name="NVIDIA T4", memory_gib=16.0, compute_capability=7.5)
    scheme = Autoquant(compose(*candidates("float8dq", "int8dq")).quant)
    with pytest.raises(RunEndedError, match="no candidate of int8dq, float8dq runs on NVIDIA T4"):
        scheme.check(device, "bfloat16")


# ---- the whole run


@pytest.fixture
def whole(monkeypatch):
    """whole(speedup, ...): what the whole model's measurements say, one after the other."""

    def patch(*speedups):
        left = list(speedups)
        monkeypatch.setattr(
            "src.tasks.arms.loops.measure_interleaved", lambda *_, **__: synthetic_rounds(left.pop(0))
        )
        monkeypatch.setattr(SideBySide, "call_ms", lambda *_: 10.0)
        return left

    return patch


def read(folder, name):
    return json.loads((folder / "run" / name).read_text())


def test_a_plan_that_wins_is_kept(timed, whole, compose, execute_run, tmp_path):
    timed(1.25)
    left = whole(1.3, 1.31)
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    assert (record.outcome, record.verdict, left) == (Outcome.OK, "helps", [])
    assert record.metrics["speedup/ratio"] == pytest.approx(1.31, rel=1e-3)  # measured in full, not the look
    assert "fell_back" not in record.details
    assert record.metrics["quantize/layers"] == 1
    assert [row["scheme"] for row in read(tmp_path, "layers.json")] == ["int8wo"]
    # 1 ms of a call is the layer's, of which 0.2 ms are saved; the model takes 10 in the look, 1 in the record.
    (look,) = record.details["autoquant"]["wholes"]
    assert look["predicted"] == pytest.approx(10 / 9.8, rel=1e-3)
    assert (look["what"], look["layers"], look["verdict"]) == ("the plan", {"int8wo": 1}, "helps")
    assert record.metrics["autoquant/predicted_speedup"] == pytest.approx(1.25, rel=1e-2)
    assert read_plan(tmp_path / "run" / "plan.json").wholes[0].speedup == look["speedup"]
    assert read(tmp_path, "rounds_whole_1.json")["treated_ms"] == synthetic_rounds(1.3).treated_ms


@pytest.mark.parametrize("plan_speedup", [0.9, 1.0])
def test_a_plan_that_clearly_does_not_win_as_a_whole_is_not_applied(
    timed, whole, compose, execute_run, tmp_path, plan_speedup
):
    timed(1.5)
    left = whole(plan_speedup, 1.0)
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    assert (record.outcome, record.verdict, left) == (Outcome.OK, "neutral", [])
    assert record.metrics["speedup/ratio"] == pytest.approx(1.0, rel=1e-3)
    assert record.metrics["quantize/layers"] == 0
    assert record.metrics["memory/model_gib"] == record.metrics["memory/baseline_model_gib"]
    assert "quality/sqnr_db" not in record.metrics
    assert record.reason.startswith("the plan, for 1 layers, did not win as a whole")
    assert record.reason.endswith("predicted 1.034x): nothing was quantized")
    assert record.details["fell_back"] in record.reason
    assert record.metrics["autoquant/predicted_speedup"] == 1.0
    (row,) = read(tmp_path, "layers.json")
    assert row["scheme"] == ""
    assert row["reason"] == "chosen by its trial, but as a whole the plan did not win"
    assert read_plan(tmp_path / "run" / "plan.json").schemes() == {}


def test_a_plan_that_only_the_full_measurement_gives_up(timed, whole, compose, execute_run, tmp_path):
    timed(1.5)
    left = whole(1.04, 1.0, 1.001)
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    assert (record.outcome, record.verdict, left) == (Outcome.OK, "neutral", [])
    kept = record.details["plan_not_applied"]
    assert (kept["verdict"], kept["layers"]) == ("neutral", 1)
    assert kept["metrics"]["quality/sqnr_db"] > 30
    assert record.reason.startswith("the plan, for 1 layers, did not win as a whole (1.000x")
    assert record.metrics["quantize/layers"] == 0
    treated = {name: read(tmp_path, name)["treated_ms"] for name in ("rounds.json", "rounds_plan.json")}
    assert treated["rounds.json"] == synthetic_rounds(1.001).treated_ms
    assert treated["rounds_plan.json"] == synthetic_rounds(1.0).treated_ms


def test_a_disturbed_plan_stays_and_its_verdict_is_withheld(
    timed, whole, compose, execute_run, tmp_path, quiet_machine
):
    quiet_machine.foreign_cpus = 1.0
    timed(1.5)
    left = whole(0.9, 0.9, 0.95)  # looked at twice, then measured in full
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    assert (record.outcome, record.verdict, left) == (Outcome.OK, "inconclusive", [])
    assert record.details["withheld"]
    assert record.reason.startswith("other processes used 1.0 of 1 CPUs")
    assert "fell_back" not in record.details
    assert [row["scheme"] for row in read(tmp_path, "layers.json")] == ["int8wo"]
    (look,) = record.details["autoquant"]["wholes"]
    assert look["disturbed"].startswith("other processes used")


def test_a_given_plan_is_measured_as_it_is(timed, whole, compose, execute_run, tmp_path):
    timed(1.5)
    whole(1.3, 1.3)
    execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    plan = (tmp_path / "run" / "plan.json").rename(tmp_path / "kept.json")
    left = whole(0.9)
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo"), f"quant.plan={plan}"))
    assert (record.verdict, record.metrics["quantize/layers"], left) == ("hurts", 1, [])
    assert record.metrics["autoquant/predicted_speedup"] == pytest.approx(1.5, rel=1e-2)


def test_the_best_uniform_scheme_is_applied_where_it_beats_the_plan(
    timed, whole, compose, execute_run, tmp_path
):
    """Two schemes share the shapes of a block; as a whole one of them throughout is faster."""
    block = ("model=flux-tiny", "model.factory.num_layers=1", "resolution=64", "target=block")
    shapes = 7
    timed(*[1.5, 1.4] * (shapes - 1), 1.3, 1.4)
    left = whole(1.35, 1.2, 1.35)  # int8wo throughout, the plan, and int8wo in full
    record = execute_run(compose(*block, *candidates("int8wo", "float8wo"), "quant.whole_budget_s=0"))
    assert (record.outcome, record.verdict, left) == (Outcome.OK, "helps", [])
    assert {row["scheme"] for row in read(tmp_path, "layers.json")} == {"int8wo"}
    what = [(look["what"], len(look["layers"])) for look in record.details["autoquant"]["wholes"]]
    assert what == [("int8wo wherever it runs", 1), ("the plan", 2)]
    assert {c.reason for c in read_plan(tmp_path / "run" / "plan.json").choices} == {
        "int8wo wherever it runs"
    }


def test_an_empty_plan_is_measured_once(timed, whole, compose, execute_run):
    timed(0.4)  # throughout: 0.87 of the model's speed, which is not worth a look
    left = whole(1.0)
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo")))
    assert (record.outcome, record.verdict, left) == (Outcome.OK, "neutral", [])
    assert "fell_back" not in record.details


def test_the_real_thing(compose, execute_run, tmp_path):
    record = execute_run(compose(*SMALL_LINEAR, "quant=autoquant", "quant.layer_budget_s=0.05"))
    assert record.outcome is Outcome.OK, record.reason
    plan = read_plan(tmp_path / "run" / "plan.json")
    trials = {trial.scheme: trial for trial in plan.choices[0].trials}
    assert set(trials) == set(ALL)
    assert {t.outcome for name, t in trials.items() if name.startswith(FLOAT8_MATMUL)} == {"unsupported"}
    assert all(
        t.outcome == "ok" and t.speedup > 0
        for name, t in trials.items()
        if not name.startswith(FLOAT8_MATMUL)
    )
    applied = plan.choices[0].scheme != "none"
    assert record.metrics["quantize/layers"] == float(applied)
    assert record.phases_s["autoquant search"] > 0


@pytest.mark.parametrize(
    ("pairing", "speedups"),
    [("interleaved", (1.3, 1.3)), ("interleaved", (1.3, 0.9, 1.0)), ("in_turn", (1.3, 0.9, 1.0))],
    ids=["wins", "falls back", "falls back, in turn"],
)
def test_nothing_is_left_to_compile_in_the_measurement(
    timed, monkeypatch, compose, execute_run, pairing, speedups
):
    """The trials and the warm first calls reset Dynamo, and with it arms that were compiled before."""
    timed(1.5)
    left, estimate = list(speedups), told.estimate_speedup
    for module in (planned, told):
        monkeypatch.setattr(
            module, "estimate_speedup", lambda _rounds, conf: estimate(synthetic_rounds(left.pop(0)), conf)
        )
    compiled = ("compile=default", "compile.backend=aot_eager", f"measure.pairing={pairing}")
    record = execute_run(compose(*SMALL_LINEAR, *candidates("int8wo"), *compiled))
    assert record.outcome is Outcome.OK, record.reason
    assert (left, "fell_back" in record.details) == ([], len(speedups) == 3)
    first = record.details.get("plan_not_applied", {}).get("metrics", {})
    recompiles = [metrics["compile/recompiles"] for metrics in (record.metrics, first) if metrics]
    assert recompiles == [0] * (len(speedups) - 1)
