"""What the report says of baselines: a faster dtype, a faster compile mode."""

import pytest

from src.analysis.answers.picks import answers
from src.analysis.baselines import faster_dtypes, fastest_modes
from src.analysis.runs.frame import tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.config.schema.root import TrackingConf
from src.report.answer_words import place
from tests.analysis.conftest import verdicts_table
from tests.analysis.synthetic import CPU, made


def frame_of(store, runs, baseline_dtype=None):
    name, _ = store.experiment(runs)
    for run in runs:
        if baseline_dtype:
            store.client.set_tag(run.run_ids[0], "baseline_dtype", baseline_dtype)
    return tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02)


def test_a_faster_dtype_is_said_with_both_speedups(store):
    """The numbers of an EPYC without bf16: 241 ms unquantized in float32, 812 in bfloat16, int8wo 268."""
    run = made("a", 241 / 268, quant="int8wo")
    run.record.metrics |= {"latency/baseline_median_ms": 241.0, "latency/median_ms": 268.0,
                           "latency/baseline_same_dtype_median_ms": 812.0,
                           "speedup_same_dtype/ratio": 812 / 268}  # fmt: skip
    frame = frame_of(store, [run], "float32")
    assert frame["verdict"].item() == "hurts"
    assert list(faster_dtypes(frame)) == [
        f"On {CPU}, unquantized float32 is 3.4× faster than the bfloat16 baseline: 1 verdict is against it; "
        "against bfloat16 the speedup would be 3.03×."
    ]
    assert "3.03× against bfloat16" in verdicts_table(frame)


def test_a_disturbed_run_says_nothing_of_dtypes(store):
    run = made("a", 0.9, quant="int8wo")
    run.record.metrics |= {"latency/baseline_same_dtype_median_ms": 812.0, "speedup_same_dtype/ratio": 3.0}
    run.record.withhold("other processes used 1.7 of 2 CPUs", "a quiet machine")
    assert list(faster_dtypes(frame_of(store, [run], "float32"))) == []


def test_nothing_is_said_where_the_own_dtype_is_the_fastest(store):
    assert list(faster_dtypes(frame_of(store, [made("a", 1.2)]))) == []
    assert list(faster_dtypes(frame_of(store, [made("a", 1.2)], "bfloat16"))) == []


def in_mode(key, mode, baseline_ms, ms, **axes):
    run = made(key, baseline_ms / ms, compile=mode, **axes)
    run.record.metrics |= {"latency/baseline_median_ms": baseline_ms, "latency/median_ms": ms}
    return run


def test_a_treatment_is_compared_with_the_fastest_unquantized_mode_too(store):
    """It helps where nothing is compiled, and loses against what compiling alone gives."""
    runs = [
        in_mode("a", "none", 20.0, 15.0),
        in_mode("b", "max-autotune", 10.0, 9.9),
        in_mode("c", "none", 20.0, 15.0, batch=4),
    ]
    frame = frame_of(store, runs).set_index("run_key")
    assert frame["speedup/fastest_mode"].to_dict() == pytest.approx(
        {"a": 10 / 15, "b": 10 / 9.9, "c": float("nan")}, nan_ok=True
    )
    assert frame.loc["a", "verdict"] == "helps"
    assert list(fastest_modes(frame.reset_index(), 0.02)) == [
        f"On {CPU}, 1 workload was measured in several compile modes. Of the 1 run that help in their own mode, "
        "0 also beat the fastest unquantized mode; the best of all is int8dq with compile=max-autotune, 1.01× "
        "against compile=max-autotune (across runs, no interval)."
    ]
    assert "0.67× against compile=max-autotune" in verdicts_table(frame.reset_index())


def of_mode(key, mode, baseline_ms, ms, params=None, **axes):
    run = made(key, baseline_ms / ms, quant="int8wo", compile=mode, params=params, **axes)
    run.record.metrics |= {"latency/baseline_median_ms": baseline_ms, "latency/median_ms": ms}
    return run


def test_models_of_one_name_and_step_caches_are_workloads_of_their_own(store):
    """A model of 2 layers is no faster mode of one of 8, and one that leaves out steps none of one that does not."""
    runs = [
        of_mode(
            f"{layers}{mode}", mode, ms * layers, 0.8 * ms * layers, {"model.factory.num_layers": str(layers)}
        )
        for layers in (2, 8)
        for mode, ms in (("none", 5.0), ("regional", 4.5))
    ]
    frame = frame_of(
        store, [*runs, of_mode("c", "none", 1.0, 0.9, runs[0].params, recipe="cache=first_block")]
    )
    against = frame.set_index("run_key")["speedup/fastest_mode"].dropna()
    assert {key: round(value, 3) for key, value in against.items()} == {
        "2none": 1.125, "8none": 1.125, "2regional": 1.25, "8regional": 1.25,
    }  # fmt: skip
    found, _ = answers(frame)
    assert {place(each) for each in found} == {
        f"flux-tiny, 256 px, batch 1, one call of the denoiser, {told}"
        for told in (
            "factory.num_layers=2",
            "factory.num_layers=8",
            "factory.num_layers=2, cache=first_block",
        )
    }
    assert {each.runs for each in found} == {1, 2}


def test_the_baseline_of_a_busy_machine_is_not_the_fastest(store):
    busy = of_mode("busy", "regional", 40.0, 30.0)
    busy.record.verdict = "inconclusive"  # against what its interval says
    runs = [busy, of_mode("a", "none", 84.0, 60.0), of_mode("b", "default", 80.0, 60.0)]
    frame = frame_of(store, runs).set_index("run_key")
    assert {*frame["fastest_mode"]} == {"default"}


def test_the_fastest_mode_is_of_one_set_of_compiler_options(store):
    """Two settings of one mode are no median of each other."""
    runs = [
        in_mode("a", "none", 20.0, 15.0),
        in_mode("b", "max-autotune", 10.0, 9.9, params={"compile.tuning": "none"}),
        in_mode("c", "max-autotune", 8.0, 7.9, params={"compile.tuning": "recommended"}),
    ]
    frame = frame_of(store, runs).set_index("run_key")
    assert frame.loc["a", "speedup/fastest_mode"] == pytest.approx(8 / 15)


def test_devices_that_are_not_told_of_are_counted(store):
    runs = [
        in_mode(f"{device}{mode}", mode, ms, 9.0, device=device)
        for device in ("one", "two", "three")
        for mode, ms in (("none", 20.0), ("default", 10.0))
    ]
    *told, left = fastest_modes(frame_of(store, runs), 0.02)
    assert len(told) == 2
    assert left == "1 more device with several compile modes in the table."
