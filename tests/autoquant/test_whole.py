"""Which plan the whole model runs fastest, by what measurements say: no clock, no device."""

from itertools import count
from types import SimpleNamespace

import pytest

from src.autoquant.plan import Choice, Plan, Trial
from src.autoquant.whole import Seen, WholeSearch
from src.statistics.speedup import SpeedupEstimate, Verdict, verdict
from src.tasks.planned import Planned

MARGIN = 0.02
MODEL_MS = 100.0


def shape(name, saved, chosen="a", **others):
    """A shape of one layer, of 10 ms, which the chosen scheme saves so much of; others by name."""
    promised = {chosen: saved, **others} if chosen != "none" else others
    trials = [Trial(scheme, "ok", "", 10 / (10 - ms), 1.0, 2.0, 40.0) for scheme, ms in promised.items()]
    return Choice(int(name), 64, 64, [name], chosen, "", 10.0, trials, calls=1)


def plan(*choices):
    return Plan("m", "denoiser", "default", "a device", list(choices))


def seen(speedup, width=0.01, disturbed=""):
    estimate = SpeedupEstimate(speedup, speedup * (1 - width / 2), speedup * (1 + width / 2), 20, 1)
    return Seen(estimate, verdict(estimate, MARGIN), disturbed)


class Model:
    """What a plan measures: each layer saves what it really does, whatever its trial says."""

    def __init__(self, **really_saved):
        self.saved, self.asked, self.answers = really_saved, [], {}

    def __call__(self, plan):
        schemes = plan.schemes()
        self.asked.append(schemes)
        if answer := self.answers.get(len(self.asked)):
            return answer
        return seen(MODEL_MS / (MODEL_MS - sum(self.saved[f"{s}{fqn}"] for fqn, s in schemes.items())))


def search(model, budget_s=1000.0, step_s=1.0):
    ticks = count(0, step_s)
    return WholeSearch(model, MODEL_MS, MARGIN, budget_s, clock=lambda: next(ticks))


def test_what_the_trials_promise_is_a_share_of_the_models_time():
    assert plan(shape("1", 5), shape("2", 2)).predicted_speedup(MODEL_MS) == pytest.approx(100 / 93)
    assert plan(shape("1", 5), shape("2", 2, "none")).predicted_speedup(MODEL_MS) == pytest.approx(100 / 95)
    twice = shape("1", 5)
    twice.calls = 2
    assert plan(twice).predicted_speedup(MODEL_MS) == pytest.approx(100 / 90)
    assert plan(twice).predicted_speedup(5.0) == 100  # more than there is: nonsense, but finite


def test_a_shape_that_saves_next_to_nothing_is_left_alone():
    """It would cost quality all the same: 0.06 of 100 ms."""
    found = plan(shape("1", 5), shape("2", 0.06), shape("3", 2, "none")).worth(MODEL_MS, 0.001)
    assert found.schemes() == {"1": "a"}
    assert found.reasons()["2"] == "a would save 0.06% of the model's time, below quant.min_share"
    assert found.choices[1].trials
    assert plan(shape("2", 0.06)).worth(MODEL_MS, 0.0).schemes() == {"2": "a"}


def test_the_best_uniform_scheme_by_the_trials():
    mixed = plan(shape("1", 4, "a", b=3), shape("2", 3, "b", a=-1))
    uniform = mixed.best_uniform()
    assert uniform.schemes() == {"1": "b", "2": "b"}
    assert uniform.predicted_speedup(MODEL_MS) == pytest.approx(100 / 94)


def test_a_uniform_scheme_leaves_alone_where_it_cannot_run_or_not_well_enough():
    one, two, three = shape("1", 4), shape("2", 4), shape("3", 4)
    two.trials[0].speedup, two.trials[0].outcome = None, "unsupported"
    three.trials[0].below_floor = True
    assert plan(one, two, three).best_uniform().schemes() == {"1": "a"}
    assert plan(shape("1", 0, "none")).best_uniform() is None


def test_a_plan_that_keeps_its_promise_is_kept_after_one_look():
    model, whole = Model(a1=5, a2=3), plan(shape("1", 5), shape("2", 3))
    settled = search(model).settle(whole)
    assert model.asked == [{"1": "a", "2": "a"}]
    assert settled.choices == whole.choices
    (look,) = settled.wholes
    assert (look.predicted, look.speedup) == (pytest.approx(100 / 92), pytest.approx(100 / 92))


@pytest.mark.parametrize("saved", [-2, 0.5])
def test_nothing_is_taken_back_from_what_comes_out_as_predicted_and_does_not_win(saved):
    """Taking shapes back mends what the trials promised too much of."""
    model = Model(b1=saved, b2=saved)
    settled = search(model).settle(plan(shape("1", 0, "none", b=saved), shape("2", 0, "none", b=saved)))
    assert model.asked == [{"1": "b", "2": "b"}]
    assert settled.schemes() == {}
    too_much = Model(b1=saved - 4, b2=saved)
    search(too_much).settle(plan(shape("1", 0, "none", b=saved), shape("2", 0, "none", b=saved)))
    assert too_much.asked[1:] == [{"2": "b"}]


def test_the_uniform_scheme_wins_where_the_whole_says_so():
    model = Model(a1=4, b1=4, b2=4)  # the trials say 1 for b in the first shape
    settled = search(model).settle(plan(shape("1", 2, "a", b=1), shape("2", 4, "b")))
    assert model.asked[:2] == [{"1": "b", "2": "b"}, {"1": "a", "2": "b"}]
    assert settled.schemes() == {"1": "a", "2": "b"}  # a tie: the plan, which is still there
    model = Model(a1=0, b1=4, b2=4)
    settled = search(model).settle(plan(shape("1", 2, "a", b=1), shape("2", 4, "b")))
    assert settled.schemes() == {"1": "b", "2": "b"}
    assert [look.what for look in settled.wholes] == ["b wherever it runs", "the plan"]


def test_a_hopeless_uniform_scheme_is_not_measured():
    model = Model(a1=5)
    search(model).settle(plan(shape("1", 5), shape("2", 0, "none", a=-40)))
    assert model.asked == [{"1": "a"}]


def test_shapes_are_taken_back_one_by_one_the_smallest_promise_first():
    model = Model(a1=8, a2=-3, a3=-2)  # the second and third promise 2 and 1
    settled = search(model).settle(plan(shape("1", 8), shape("2", 2), shape("3", 1)))
    assert model.asked == [{"1": "a", "2": "a", "3": "a"}, {"1": "a", "2": "a"}, {"1": "a"}]
    assert settled.schemes() == {"1": "a"}
    reasons = settled.reasons()
    assert reasons["2"] == reasons["3"] == "a was taken back: the whole is no slower without it"
    assert [look.what for look in settled.wholes] == [
        "the plan",
        "without a in 3x64x64",
        "without a in 2x64x64",
    ]


def test_a_shape_that_is_missed_comes_back():
    model = Model(a1=8, a2=-5, a3=1)
    settled = search(model).settle(plan(shape("1", 8), shape("2", 2), shape("3", 1)))
    assert model.asked[1:] == [{"1": "a", "2": "a"}, {"1": "a", "3": "a"}]
    assert settled.schemes() == {"1": "a", "3": "a"}


def test_after_two_shapes_taken_back_for_nothing_the_others_stay():
    model = Model(a1=8, a2=1, a3=1, a4=0.5)
    whole = plan(shape("1", 9), shape("2", 4), shape("3", 3), shape("4", 2))
    settled = search(model).settle(whole)
    assert [look.what for look in settled.wholes] == [
        "the plan",
        "without a in 4x64x64",
        "without a in 3x64x64",
    ]
    assert settled.schemes() == whole.schemes()


def test_nothing_is_taken_back_once_the_budget_is_spent():
    model = Model(a1=8, a2=-3, a3=-2)
    settled = search(model, budget_s=1.5).settle(plan(shape("1", 8), shape("2", 2), shape("3", 1)))
    assert len(model.asked) == 2
    assert settled.schemes() == {"1": "a", "2": "a"}


@pytest.mark.parametrize("found", [Verdict.NEUTRAL, Verdict.HURTS])
def test_what_clearly_does_not_win_is_given_up(found):
    saved = {Verdict.NEUTRAL: 0, Verdict.HURTS: -10}[found]
    settled = search(Model(a1=saved, a2=saved)).settle(plan(shape("1", 8), shape("2", 2)))
    assert settled.schemes() == {}
    assert len(settled.wholes) == 2  # both, and without the lesser
    assert {look.verdict for look in settled.wholes} == {found}
    assert [c.trials for c in settled.choices] == [shape("1", 8).trials, shape("2", 2).trials]


def test_noise_is_no_clear_loss():
    model = Model(a1=0)
    model.answers[1] = seen(1.0, width=0.2)
    assert search(model).settle(plan(shape("1", 8))).schemes() == {"1": "a"}


def test_a_disturbed_look_is_taken_again_and_the_plan_stays():
    model = Model(a1=0, a2=0)
    model.answers |= {1: seen(0.9, disturbed="others"), 2: seen(0.9, disturbed="others")}
    settled = search(model).settle(plan(shape("1", 8), shape("2", 2)))
    assert len(model.asked) == 2
    assert settled.schemes() == {"1": "a", "2": "a"}
    assert [look.disturbed for look in settled.wholes] == ["others"]
    model = Model(a1=8)
    model.answers[1] = seen(0.9, disturbed="others")
    assert search(model).settle(plan(shape("1", 8))).wholes[0].verdict == "helps"


def test_a_disturbed_plan_is_not_given_up_for_the_uniform_scheme():
    model = Model(b1=4, b2=4)
    model.answers |= {n: seen(0.9, disturbed="others") for n in (2, 3)}
    mixed = plan(shape("1", 2, "a", b=1), shape("2", 4, "b"))
    assert search(model).settle(mixed).schemes() == mixed.schemes()


@pytest.mark.parametrize(
    ("answer", "applied"),
    [
        (seen(1.1), True),
        (seen(1.0, width=0.2), False),
        (seen(1.1, disturbed="others"), False),
        (seen(0.97, width=0.2), False),
    ],
)
def test_where_no_trial_won_a_uniform_scheme_has_to_win(answer, applied):
    model = Model()
    model.answers = {1: answer, 2: answer}
    nothing = plan(shape("1", 0, "none", b=-0.5), shape("2", 0, "none", b=-0.5))
    settled = search(model).settle(nothing)
    assert settled.schemes() == ({"1": "b", "2": "b"} if applied else {})


def test_what_cannot_run_as_a_whole_is_no_contender():
    mixed = plan(shape("1", 2, "a", b=1), shape("2", 4, "b"))
    model = Model(b1=4, b2=4)
    model.answers = {}
    fails_for_two = search(lambda p: None if len({*p.schemes().values()}) == 2 else model(p))
    assert fails_for_two.settle(mixed).schemes() == {"1": "b", "2": "b"}
    assert search(lambda p: None).settle(mixed) == mixed  # the run says why


def test_a_plan_that_is_set_aside_leaves_what_was_measured_of_the_baseline_alone(compose, run_context):
    run = run_context(compose("quant=autoquant"))
    before = {"package/baseline_build_s": 25.0, "component/baseline_denoiser_ms": 1.0, "quantize/time_s": 3.0}
    run.record.metrics |= before | {"latency/baseline_median_ms": 1.0, "package/size_mib": 2.0}
    scheme = SimpleNamespace(plan=None, looks=True)
    treatment = Planned(scheme, SimpleNamespace(rows=[]), run)
    treatment.plan = plan(shape("1", 8))
    assert not treatment.gives_up()  # no verdict yet
    run.record.verdict = Verdict.HURTS
    assert treatment.gives_up()
    assert treatment.plan.schemes() == {}
    assert run.record.metrics == before
    assert run.record.details["plan_not_applied"]["metrics"]["package/size_mib"] == 2.0
    assert not treatment.gives_up()  # there is nothing left to give up
