"""What to use: the picks for each goal, and what they say; what stands beside them: `test_answer_commands.py`."""

import pytest
import torch

from src.analysis.answers.picks import Goal, answers
from src.analysis.ladder import others
from src.analysis.runs.frame import standing, steps_of, tidied
from src.analysis.runs.tracked.source import Runs, attempts
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.shapes import breakeven_table
from src.analysis.verdicts import random_weights
from src.config.schema.root import TrackingConf
from src.quality.pictures import keep_pictures
from src.records.store import run_folder
from src.report import answer_words as words
from src.report.runs.filters import Filters
from src.report.runs.pictures import pictures_section
from src.report.words import sentences
from tests.analysis.synthetic import made

FASTEST, SMALLEST, GOOD = Goal


def picks(frame):
    ((answer,), _) = answers(frame)
    return {goal: pick for pick in answer.picks for goal in pick.goals}


def test_each_goal_has_its_own_treatment_and_its_rivals(framed):
    """int4wo (18.2 dB, the smallest) is fastest, int8wo (41.3 dB) reaches into the interval of int8dq (33.8 dB)."""
    found = picks(framed([made("a", 1.5, quant="int4wo"), made("b", 1.3, quant="int8dq"),
                          made("c", 1.29, quant="int8wo"), made("d", 1.0, quant="none")]))  # fmt: skip
    assert found[FASTEST] is found[SMALLEST]
    assert found[FASTEST].row["quant"] == "int4wo"
    assert found[FASTEST].rivals == []
    assert found[GOOD].row["quant"] == "int8dq"
    assert words.rivals(found[GOOD]) == "int8wo · default 1.29× (1.28–1.30)"
    assert words.goals(found[FASTEST]) == "fastest and smallest"


def test_where_nothing_helps_it_says_so_and_what_came_closest(framed):
    found = picks(framed([made("a", 1.01, quant="int8wo"), made("b", 0.5, quant="int8dq")]))
    assert found[FASTEST] is found[GOOD]
    assert found[FASTEST].row is None
    assert found[FASTEST].why == (
        "none of 2 treatments is surely faster; the best, int8wo · default 1.01× (1.00–1.02): inconclusive"
    )
    assert found[FASTEST].nearest["quant"] == "int8wo"
    assert found[SMALLEST].row["quant"] == "int8wo", "as small as int8dq, and faster"
    assert words.rivals_lead(found[SMALLEST]) == "As small, and slower"


def test_where_none_keeps_the_quality_the_nearest_is_named(framed):
    found = picks(framed([made("a", 1.4, quant="int4wo"), made("b", 0.9, quant="int8wo")]))
    assert found[FASTEST].row["quant"] == "int4wo"
    assert found[GOOD].row is None
    told = "the one that helps does not keep it, the nearest is int4wo · default 1.40× (1.39–1.41), 18.2 dB"
    assert [*words.sentence(found[GOOD])] == [f"leave it unquantized: {told}"]


def test_quality_is_not_ranked_across_different_weights(framed):
    """An SQNR of other weights says nothing of this one's: the thinner ones would always look better."""
    thin = made("a", 1.4, quant="int4wo", params={"model.weights.std": "0.02"})
    usual = made("b", 1.3, quant="float8dq", params={"model.weights.std": "null"})
    usual.record.metrics["quality/sqnr_db"] = 21.0
    frame = framed([thin, usual])
    told = picks(frame)[GOOD].why
    assert told.startswith("none of the 2 that help keeps it; their SQNR are of different model.weights")
    (line,) = [line for line in sentences(frame, breakeven_table(frame), 0.02) if "SQNR" in line]
    for part in ("by setting of model.weights", "21.0 dB", "18.2 dB"):
        assert part in line


def test_a_quality_that_is_not_known_is_not_called_bad(framed):
    blank = [made("a", 1.4, quant="int4wo"), made("b", 1.2, quant="int8wo")]
    for run in blank:
        del run.record.metrics["quality/sqnr_db"]
    assert picks(framed(blank))[GOOD].why == "the quality of no treatment is known"
    found = picks(framed([*blank, made("c", 1.1, quant="int8dq")]))
    assert found[GOOD].row["quant"] == "int8dq"
    assert found[FASTEST].row["quant"] == "int4wo"


@pytest.mark.parametrize("more", ["quant, recipe.fused_qkv", '["quant", "recipe.fused_qkv"]'])
def test_what_quantizes_among_other_things_is_told_beside_the_answer(store, more):
    runs = [made("a", 1.33), made("b", 1.42, quant="float8dq", params={"treatment": more}),
            made("c", 1.9, batch=4, params={"treatment": more}),
            made("d", 1.8, quant="none", params={"treatment": "quant.layers"})]  # fmt: skip
    name, _ = store.experiment(runs)
    found = attempts(Runs(Tracker(TrackingConf(name="s", uri=store.uri), name).runs()))
    rows = standing(tidied(found, 0.02))
    ((answer,), _) = answers(rows, others(steps_of(found, 0.02)))
    assert [row["quant"] for row in answer.besides] == ["float8dq"]
    assert words.measured(answer) == (
        "of the one treatment measured; 1 more adds fused_qkv: 1.42× (1.41–1.43) float8dq, see Step by step"
    )
    assert "1.42×" in words.paragraph([answer])
    assert words.measured(answers(rows)[0][0]) == "of the one treatment measured"


@pytest.mark.parametrize(
    ("sqnr_db", "told"),
    [(20.0, "is 10 % of"), (0.2, "is 98 % of"), (0.02, "is as large as"), (0.0, "is as large as"),
     (-0.05, "is as large as"), (-3.0, "is larger than")],
)  # fmt: skip
def test_how_large_an_error_is_can_be_read(framed, sqnr_db, told):
    row = framed([made("a", 1.2)]).iloc[0].copy()
    row["quality/sqnr_db"] = sqnr_db
    assert f"the error {told} the output" in words.quality(row)


def test_a_speedup_of_blocks_says_so(framed):
    run = made("a", 1.2)
    run.record.metrics |= {"speedup/pairs": 4.0, "speedup/alternating_ratio": 1.1}
    assert words.basis(framed([run]).iloc[0]) == "4 pairs of blocks in 1 process"


def test_trainings_are_counted_among_the_runs(framed):
    frame = framed([made("a", 1.2), made("b", 1.3, task="training", target="block")])
    assert sentences(frame, breakeven_table(frame), 0.02)[0].startswith(
        "2 runs, one of them training, on 1 device;"
    )


def test_a_gain_within_a_slower_compile_mode_is_none(framed):
    eager = made("a", 1.2, compile="none", quant="int8wo")
    eager.record.metrics |= {"latency/median_ms": 200.0, "latency/baseline_median_ms": 240.0}
    found = picks(framed([eager, made("b", 0.9, quant="int8wo")]))
    assert (
        found[FASTEST].why
        == "what helps is not surely faster than the model unquantized with compile=default"
    )


@pytest.mark.parametrize(("unquantized_ms", "pays"), [(202, False), (230, True)])
def test_a_gain_that_another_compile_mode_may_give_too_is_none(framed, unquantized_ms, pays):
    """200 ms, 3 % between processes: an unquantized 202 ms of another mode is not told apart from it."""
    eager = made("a", 1.2, compile="none", quant="int8wo")
    eager.record.metrics |= {"latency/median_ms": 200.0, "latency/baseline_median_ms": 240.0}
    other = made("b", 0.9, quant="int8wo")
    other.record.metrics |= {"latency/baseline_median_ms": float(unquantized_ms)}
    assert (picks(framed([eager, other]))[FASTEST].row is not None) == pays


def test_an_answer_says_what_it_rests_on_and_what_it_costs(framed):
    frame = framed([made("a", 1.25, params={"model.weights.source": "random"})])
    ((answer,), _) = answers(frame)
    assert words.place(answer) == "flux-tiny, 256 px, batch 1, one call of the denoiser"
    assert words.weights(answer).startswith("random weights: ")
    assert [*words.sentence(answer.picks[0])] == [
        "int8dq · default",
        "1.25× (1.24–1.26) helps, 40 pairs of rounds in 1 process",
        "84.2 → 67.4 ms, 71.7 → 37.3 MiB of weights",
        "SQNR 33.8 dB: the error is 2 % of the output",
    ]
    assert (
        words.weights(answers(framed([made("b", 1.2, params={"model.weights.source": "hub"})]))[0][0]) == ""
    )


@pytest.mark.parametrize(
    ("sqnr_db", "told"), [(0.0, "as large as"), (-3.0, "is larger than"), (60.0, "is 0.1 % of")]
)
def test_quality_in_words(framed, sqnr_db, told):
    run = made("a", 1.25)
    run.record.metrics["quality/sqnr_db"] = sqnr_db
    assert told in words.quality(framed([run]).iloc[0])


def test_no_sqnr_is_asked_of_pictures(framed):
    run = made("a", 1.25, target="pipeline")
    run.record.metrics["quality/psnr_db"] = 31.0
    frame = framed([run])
    assert set(picks(frame)) == {FASTEST, SMALLEST}
    assert words.quality(frame.iloc[0]) == "PSNR 31.0 dB against the unquantized"


def test_devices_and_workloads_are_answered_apart_and_single_layers_not(framed):
    runs = [
        made("a", 1.2),
        made("b", 1.3, batch=4),
        made("c", 1.1, device="other"),
        made("d", 2.0, shape=(1, 512, 512)),
    ]
    assert [(a.first["device"], a.first["batch"]) for a in answers(framed(runs))[0]][1:] == [
        ("AMD EPYC 9R14, 2 threads", 4), ("other", 1)]  # fmt: skip


def test_pictures_of_runs_are_in_the_page(framed, tmp_path):
    random = {"model.weights.source": "random"}
    frame = framed([made("a", 1.2, quant="int4wo", params=random), made("b", 0.9, params=random)])
    assert pictures_section(frame, Filters(frame), tmp_path) == ""
    drawn = torch.rand(2, 3, 16, 16)
    for key, unquantized in (("a", drawn), ("b", (drawn + 0.01).clamp(max=1))):
        folder = run_folder(tmp_path, key, 1)
        folder.mkdir(parents=True)
        keep_pictures(unquantized, torch.rand(2, 3, 16, 16), folder)
    html = pictures_section(frame, Filters(frame), tmp_path)
    assert html.count('src="data:image/png;base64,') == 1 + 2 * 2
    assert "random weights" in html
    keep_pictures(torch.rand(2, 3, 16, 16), drawn, run_folder(tmp_path, "b", 1))  # of other noise
    assert pictures_section(frame, Filters(frame), tmp_path).count('src="data:image/png;base64,') == 2 * 3
    assert "random weights: flux-tiny; their quality says nothing" in random_weights(frame)


def timed(run, base_ms, sqnr_db=None):
    run.record.metrics |= {"latency/baseline_median_ms": base_ms,
                           "latency/median_ms": base_ms / run.record.metrics["speedup/ratio"]}  # fmt: skip
    if sqnr_db is not None:
        run.record.metrics["quality/sqnr_db"] = sqnr_db
    return run


def test_what_is_in_both_arms_has_a_scale_of_its_own(framed):
    """The larger speedup is over a slower baseline: of the same mode, with other options of the compiler."""
    plain = timed(made("a", 1.10, params={"compile.tuning": "none"}), 100.0)
    tuned = timed(made("b", 1.06, params={"compile.tuning": "recommended"}), 90.0)
    found = picks(framed([plain, tuned]))
    assert found[FASTEST].row["variant"] == "tuning=recommended"


def test_baselines_of_two_dtypes_have_a_scale_each(store, framed):
    runs = [timed(made("a", 1.10, quant="int8wo"), 80.0), timed(made("b", 1.30), 100.0)]
    name, _ = store.experiment(runs)
    for run, dtype in zip(runs, ("float32", "bfloat16"), strict=True):
        store.client.set_tag(run.run_ids[0], "baseline_dtype", dtype)
    found = attempts(Runs(Tracker(TrackingConf(name="s", uri=store.uri), name).runs()))
    assert picks(standing(tidied(found, 0.02)))[FASTEST].row["quant"] == "int8wo"


def test_the_mode_to_leave_it_unquantized_in_is_the_fastest_of_all(framed):
    fast = timed(made("a", 0.9, quant="int4wo", compile="regional"), 100.0, 18.0)
    slow = timed(made("b", 1.2, quant="int8wo", compile="none"), 150.0, 41.0)
    found = picks(framed([fast, slow]))
    assert (
        found[GOOD].why == "what helps is not surely faster than the model unquantized with compile=regional"
    )


def test_what_cannot_be_told_apart_is_not_called_slower(framed):
    runs = [made("a", 1.10, quant="int8wo", spread=0.02), made("b", 1.11, spread=0.02),
            made("c", 1.5, quant="none", spread=0.002)]  # fmt: skip
    assert words.rivals_lead(picks(framed(runs))[SMALLEST]) != "As small, and slower"
