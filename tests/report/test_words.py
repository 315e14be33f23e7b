import numpy as np
import pytest

from src.analysis.runs.frame import standing, tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.shapes import breakeven_table, shapes
from src.config.schema.root import TrackingConf
from src.records.record import Outcome
from src.report.words import sentences
from tests.analysis.synthetic import linear_runs, made, model_runs


@pytest.fixture
def told(store):
    def told(runs):
        name, _ = store.experiment(runs)
        frame = standing(tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02))
        return sentences(frame, breakeven_table(frame), 0.02), breakeven_table(frame), frame

    return told


def line(ms, speedups, **more):
    return [made(f"m{m}{more}", s, shape=(m, 512, 512), **more) for m, s in zip(ms, speedups, strict=True)]


def test_three_to_eleven_sentences_for_a_full_experiment(told):
    many = [made(f"d{n}", 1.1, device=f"device {n}") for n in range(5)]
    said, _, _ = told([*model_runs(), *linear_runs(((512, 512),), (1, 64, 4096)), *many])
    assert 3 <= len(said) <= 11
    assert any("2 more models and targets are in the table" in sentence for sentence in said)


def test_nothing_is_said_without_runs(told):
    assert told([])[0] == []


def test_one_run_is_told_with_its_interval(told):
    said, _, _ = told([made("a", 1.3)])
    assert "flux-tiny: int8dq helps (1.30×, 1.29–1.31)." in said[1]


def test_a_run_that_opened_no_device_adds_none(told):
    ended = made("k", outcome=Outcome.KILLED, device="", gpu="auto", batch=4)
    said, *_ = told([made("a", 1.2), ended])
    assert said[0].startswith("2 runs on 1 device;")
    assert told([ended])[0][0].startswith("1 run;")


def test_cases_that_no_axes_tell_are_counted(told):
    runs = [made(f"{b}{r}", 1.3 if (b, r) in ((1, 256), (4, 512)) else 0.8, batch=b, resolution=r)
            for b in (1, 4) for r in (256, 512)]  # fmt: skip
    assert "int8dq helps in 2 of 4 cases (1.29–1.31× in 2 runs), hurts in 2 of 4 cases" in told(runs)[0][1]


@pytest.mark.parametrize(
    ("speedups", "case", "says"),
    [((1.1, 1.2, 1.3), "helps", "int8dq helps at every measured M (1 K×N)"),
     ((0.9, 0.8, 0.7), "hurts", "int8dq hurts at every measured M (1 K×N)"),
     ((1.001, 0.999, 1.002), "neutral", "int8dq makes no difference at any measured M"),
     ((1.005, 1.2, 1.3), "faster", "is faster at every measured M, not always beyond the margin"),
     ((0.8, 0.9, 0.995), "slower", "is slower at every measured M, not always beyond the margin"),
     ((0.8, 1.0, 1.25), "crosses", "int8dq starts to pay between M = 4 and 64: 16 if straight in between (1 K×N)"),
     ((1.25, 1.0, 0.8), "crosses", "int8dq stops paying between M = 4 and 64: 16 if straight in between (1 K×N)"),
     ((0.8, 0.9, 1.005), "crosses", "int8dq crosses 1, but not beyond the margin on both sides")],
)  # fmt: skip
def test_each_case_of_a_curve_is_told(told, speedups, case, says):
    said, table, _ = told(line((4, 16, 64), speedups))
    assert set(table["case"]) == {case}
    assert says in said[1]
    assert "compile=default, M = 4–64: " in said[1]


@pytest.mark.parametrize("speedups", [(1.01, 1.015), (0.985, 0.99), (1.015,)])
def test_what_is_nowhere_beyond_the_margin_is_called_neither_faster_nor_slower(told, speedups):
    said, table, _ = told(line((4, 16), speedups) if len(speedups) > 1 else line((4,), speedups))
    assert set(table["case"]) == {"unclear"}
    assert "int8dq is not beyond the margin at any measured M (1 K×N)" in said[1]


def test_curves_of_one_shape_that_differ_in_an_option_are_not_counted_as_shapes(told):
    runs = [
        each
        for size, last in ((32, 1.3), (128, 0.9))
        for each in line((4, 16), (0.8, last), params={"quant.config.group_size": str(size)})
    ]
    said = told(runs)[0][1]
    assert "(1 of 2 K×N and options)" in said
    assert "hurts at every measured M (1 of 2 K×N and options)" in said


def test_a_withheld_verdict_and_the_control_are_in_no_curve(told):
    busy = line((256,), (3.0,), params={"measure.margin": "0.02"})
    busy[0].record.verdict = "inconclusive"
    _, _, frame = told([*line((4, 16), (0.9, 1.2)), *busy, *line((4, 16), (1.0, 1.0), quant="none")])
    (curve,) = shapes(frame)
    assert curve.runs["M"].tolist() == [4, 16]


def test_several_crossings_are_rows_each(told):
    _, table, _ = told(line((1, 4, 16, 64), (0.8, 1.25, 1.25, 0.8)))
    assert table["direction"].tolist() == ["up", "down"]
    assert table["m"].to_numpy() == pytest.approx([2, 32])
    assert table["decided"].all()
    assert np.isfinite(table["m_low"]).all()


def test_ends_without_a_verdict_are_named_by_their_kind(told):
    runs = [
        made("a", 1.1),
        *(made(f"o{b}", outcome=Outcome.OOM, reason="out of memory", batch=b) for b in (2, 4)),
    ]
    assert "int8dq ended in oom (2 runs): out of memory." in told(runs)[0][-2]


def test_runs_that_ended_for_different_reasons_are_counted_by_reason(told):
    reasons = ["a bug"] * 6 + ["no memory"] * 3 + ["x", "y"]
    runs = [made(f"f{i}", outcome=Outcome.FAILED, reason=reason, batch=i) for i, reason in enumerate(reasons)]
    said = " ".join(told(runs)[0])
    assert "int8dq ended in failed (11 runs): 6 of them: a bug, 3 of them: no memory, " in said
    assert said.endswith("1 for other reasons.")
