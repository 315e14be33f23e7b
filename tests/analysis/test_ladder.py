"""Ladders: which runs are steps of one, what they come to together, and how they are told."""

import json
import math
import re
from types import SimpleNamespace

import pytest

from src.analysis.ladder import Estimate, ladders, others
from src.analysis.runs.frame import steps_of, tidied
from src.analysis.runs.tracked.source import Runs, attempts
from src.records.pooled import ESTIMATE
from src.records.record import Outcome
from src.report.runs.ladder import ladder_in_words, ladder_section
from tests.analysis.synthetic import CPU, made

STEPS = ["compiled", "fused_qkv", "quantized", "cuda_graphs"]
ADDS = {"compiled": "compile", "fused_qkv": "recipe.fused_qkv", "cuda_graphs": "recipe.cuda_graphs"}


def step(name, speedup=None, *, quant="none", steps=STEPS, **given):
    params = {"ladder.step": name, "ladder.order": json.dumps(steps)}
    if name in ADDS:
        params["treatment"] = ADDS[name]
    recipe = {"recipe": "fused_qkv"} if name not in STEPS[:1] else {}
    return made(f"{name}-{quant}", speedup, quant=quant, params=params | recipe, **given)


def runs(quant="int8wo", last=1.2):
    return [
        step("compiled", 2.0),
        step("fused_qkv", 1.1),
        step("quantized", last, quant=quant, spread=0.03),
        step("cuda_graphs", quant=quant, outcome=Outcome.UNSUPPORTED, reason="needs CUDA"),
    ]


def frame(several):
    """Attempts as MLflow's client gives them."""
    found = []
    for at_ms, each in enumerate(several):
        record = each.record
        tags = {
            name: str(getattr(record, name)) for name in ("run_key", "outcome", "reason", "sweep", "verdict")
        }
        params = {name: str(value) for name, value in record.axes.items()} | each.params
        data = SimpleNamespace(
            params=params, tags=tags | {"device": CPU, "attempt": "1"}, metrics=record.metrics
        )
        found.append(
            SimpleNamespace(info=SimpleNamespace(run_id=record.run_key, start_time=at_ms), data=data)
        )
    return attempts(Runs(found))


def test_steps_come_to_their_product_and_hold_the_errors_of_all():
    (ladder,) = ladders(steps_of(frame(runs()), 0.02))
    assert [each.name for each in ladder.steps] == STEPS
    assert ladder.total.ratio == pytest.approx(2.0 * 1.1 * 1.2)
    processes = 3 * (1.96 * 0.03) ** 2  # of each step another one
    error = math.sqrt(0.01**2 + 0.01**2 + 0.03**2 + processes)
    assert math.log(ladder.total.high / ladder.total.ratio) == pytest.approx(error, rel=1e-4)
    last = ladder.steps[-1]
    assert (last.own, last.verdict, last.total) == (None, "unsupported", ladder.total)
    assert "needs CUDA" in last.reason


def test_a_step_is_told_against_its_own_dtype_though_another_is_faster():
    several = runs()
    faster = {"speedup_same_dtype/ratio": 1.5, "speedup_other_dtype/ratio": 1.2}  # of one process
    pooled = Estimate(*(several[2].record.metrics[name] for name in ESTIMATE))
    several[2].record.metrics |= faster | {"latency/baseline_same_dtype_median_ms": 3.0}
    (ladder,) = ladders(steps_of(frame(several), 0.02))
    own, times = ladder.steps[2].own, 1.5 / 1.2
    assert (own.ratio, own.low) == (pytest.approx(pooled.ratio * times), pytest.approx(pooled.low * times))
    assert ladder.steps[2].verdict == "helps"
    assert ladder.steps[2].row["latency/baseline_median_ms"] == 3.0


def test_a_step_that_ended_before_its_device_was_known_is_one_of_the_others():
    found = frame(runs())
    found.loc[found["step"] == "cuda_graphs", "device"] = ""
    (ladder,) = ladders(steps_of(found, 0.02))
    assert ladder.steps[-1].verdict == "unsupported"


def test_what_comes_before_the_scheme_belongs_to_the_ladders_of_all_schemes():
    found = ladders(steps_of(frame([*runs(), *runs("float8dq", 1.5)[2:]]), 0.02))
    assert {each.quant: round(each.total.ratio, 2) for each in found} == {"int8wo": 2.64, "float8dq": 3.3}


def test_a_step_that_was_not_run_is_told():
    (ladder,) = ladders(steps_of(frame(runs()[:2]), 0.02))
    assert ladder.steps[2].verdict == "not run"
    assert ladder.total is None
    assert (ladder.reached.name, ladder.reached.total.ratio) == ("fused_qkv", pytest.approx(2.2))


@pytest.mark.parametrize("disturbed", [False, True])
def test_after_a_step_that_later_ones_contain_there_is_no_total(disturbed):
    """Its share of the way from the start is in both arms of all that follow."""
    several = runs()
    several[1] = step("fused_qkv", outcome=Outcome.TIMEOUT, reason="no answer")
    if disturbed:
        several[1] = step("fused_qkv", 1.5, reason="a busy machine")
        several[1].record.verdict = "inconclusive"
    steps = steps_of(frame(several), 0.02)
    (ladder,) = ladders(steps)
    assert [each.total is None for each in ladder.steps] == [False, True, True, True]
    assert [each.own is None for each in ladder.steps] == [False, True, False, True]
    assert (ladder.total, ladder.reached.name, ladder.eager_ms) == (None, "compiled", 84.2)
    told = [*ladder_in_words(steps)][3]
    assert told.startswith("  quantized: helps 1.200×")
    assert told.endswith("; no total, as fused_qkv is in both arms and what it gives is not known")
    html = ladder_section(steps, 0.02)
    assert "together up to compiled" in html
    assert "2.400×" not in html


def test_other_treatments_stay_out_of_what_is_about_quantization():
    alone = made("alone", 1.3, quant="none", params={"treatment": "recipe.fused_qkv", "recipe": "fused_qkv"})
    found = frame([*runs(), alone, made("usual", 1.1)])
    main, steps = tidied(found, 0.02), steps_of(found, 0.02)
    assert {*main["run_key"]} == {"usual", "quantized-int8wo"}
    assert "alone" in {*steps["run_key"]}
    assert [*others(steps)["treatment"]] == ["recipe.fused_qkv"]
    assert {*main["compile"]} == {"default", "default + fused_qkv"}


def test_both_are_shown():
    alone = made("alone", 1.3, quant="none", params={"treatment": "compile"}, reason="<so>")
    steps = steps_of(frame([*runs(), alone]), 0.02)
    html = ladder_section(steps, 0.02)
    for text in (
        "Step by step",
        "<svg",
        "fused_qkv",
        "needs CUDA",
        "Other treatments",
        "&lt;so&gt;",
        "2.640×",
    ):
        assert text in html
    lines = [*ladder_in_words(steps)]
    assert any(line.startswith("  fused_qkv: helps 1.100× (1.089–1.111); together 2.20× (") for line in lines)
    assert any(line.startswith("  cuda_graphs: unsupported needs CUDA") for line in lines)


def test_there_is_no_section_without_any():
    assert ladder_section(steps_of(frame([made("usual", 1.1)]), 0.02), 0.02) == ""


def test_estimates_multiply():
    found = Estimate(2.0, 1.9, 2.1).times(Estimate())
    assert (found.ratio, found.low, found.high) == pytest.approx((2.0, 1.9, 2.1))


def test_what_both_arms_lack_is_told_once_below():
    lack = "left out in both arms: recipe.memory_format: it has no convolutions"
    several = runs()
    several[1].record.reason = lack
    several[2].record.reason = f"{lack}; the interval crosses the margin"
    html = ladder_section(steps_of(frame(several), 0.02), 0.02)
    assert html.count("it has no convolutions") == 1
    assert "Left out in both arms of later steps: recipe.memory_format: it has no convolutions.</p>" in html
    assert '<span class="why">the interval crosses the margin</span>' in html


@pytest.mark.parametrize(
    "lack",
    [
        "recipe.attention=flash: torch has this kind for GPUs only",
        "quant: needs CUDA",
        "recipe.vae_tiling is for whole pipelines: this is target=denoiser",
        "recipe.fused_qkv: no such layers; recipe.attention=flash: for GPUs only; quant: needs CUDA",
    ],
)
def test_whatever_both_arms_lack_is_told_once_below(lack):
    """As `src.treatments.recipe_check` says of each key why."""
    several = runs()
    for each in several[1:3]:
        each.record.reason = f"left out in both arms: {lack}; the interval crosses the margin"
    html = ladder_section(steps_of(frame(several), 0.02), 0.02)
    assert f"Left out in both arms of later steps: {lack}.</p>" in html
    assert html.count('<span class="why">the interval crosses the margin</span>') == 2


def test_on_a_phone_labels_stand_above_their_bars():
    """So that they have the whole width, which is a phone's."""
    html = ladder_section(steps_of(frame(runs()), 0.02), 0.02)
    desk, phone = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert phone.startswith('<svg class="plot" viewBox="0 0 360 ')
    assert 'class="over"' in phone
    assert 'text-anchor="end"' not in phone
    (edge,) = {*re.findall(r'class="over" x="([\d.]+)"', phone)}
    assert 0 < float(edge) < 20
    assert 'class="over"' not in desk
    heights = [float(y) for y in re.findall(r'class="over" x="[\d.]+" y="([\d.-]+)"', phone)]
    assert min(heights) > 10
    title = re.search(r'class="axis" x="([\d.]+)"', phone)
    assert title
    assert float(title[1]) + 3.15 * len("times as fast as at the start") <= 360


def test_variants_of_a_scheme_have_a_ladder_each():
    """The steps before the one that was run in both belong to both; a step of one is none of the other."""

    def of(name, size, speedup, **given):
        made_ = step(name, speedup, steps=["compiled", "quantized", "cuda_graphs"], **given)
        made_.record.run_key += size
        made_.params["quant.group_size"] = size
        return made_

    several = [
        of("compiled", "0", 2.0),
        of("quantized", "32", 1.5, quant="int4wo"),
        of("cuda_graphs", "32", 1.3, quant="int4wo"),
        of("quantized", "64", 1.1, quant="int4wo"),
    ]
    rows = steps_of(frame(several), 0.02)
    first, second = ladders(rows)
    assert (first.variant, second.variant) == ("group_size=32", "group_size=64")
    assert first.total.ratio == pytest.approx(2.0 * 1.5 * 1.3)
    assert [each.verdict for each in second.steps] == ["helps", "helps", "not run"]
    html = ladder_section(rows, 0.02)
    assert "int4wo, default, group_size=32" in html
    assert "int4wo (group_size=64)" in " ".join(ladder_in_words(rows))


def test_other_treatments_say_what_they_are_of():
    rows = [made(f"o{size}", 1.2, quant="int8wo", resolution=size, params={"treatment": '["quant","compile"]'})
            for size in (256, 1024)]  # fmt: skip
    html = ladder_section(steps_of(frame(rows), 0.02), 0.02)
    assert "256px" in html
    assert "1024px" in html
