"""What would fit where a workload does not: estimates from one footprint, and the remedy of a run out of memory."""

import re

import pytest

from src.planning.needs.arms import arms_of
from src.planning.needs.footprint import Footprint, Footprints
from src.planning.needs.smaller import SMALLER, sizes_that_fit
from src.planning.needs.work import least_of_run_s, linear_flop, rate_elsewhere_tflop_s
from src.records.record import Outcome

HERE = __name__
GIB = 2**30
VIDEO = ("model=wan-tiny", "quant=int8wo", "dtype=float32")


def out_of_memory(run):
    """A task."""
    raise MemoryError


def footprint(weights_gib, activations_gib):
    return Footprint(
        weights=weights_gib * GIB,
        activations=activations_gib * GIB,
        building=(weights_gib + activations_gib) * GIB,
    )


def arms(cfg, made):
    return arms_of(cfg, lambda _: made, "cuda")


def test_of_a_video_fewer_frames_or_a_smaller_picture(compose):
    cfg = compose(*VIDEO, "frames=81", "resolution=160", "batch=4")
    said = sizes_that_fit(cfg, arms(cfg, footprint(1, 10)), "cuda", 10.0)
    sizes = {axis: int(size) for axis, size in re.findall(r"(\w+)=(\d+)", said)}
    assert sizes == {"frames": 53, "resolution": 128, "batch": 2}  # at most 9 GiB with both arms' weights
    assert said.endswith("would fit, by estimate; or a larger device")


def test_what_leaves_next_to_nothing_free_may_just_fit(compose):
    cfg = compose(*VIDEO, "frames=81", "batch=4")
    said = sizes_that_fit(cfg, arms(cfg, footprint(9.2, 1)), "cuda", 10.0)  # in turn, each 9.2 and more
    assert said.endswith("may just fit, by estimate; or a larger device")
    assert "batch=3" in said


def test_where_the_weights_are_too_large_no_size_helps(compose):
    cfg = compose(*VIDEO, "frames=81")
    assert "at no smaller size" in sizes_that_fit(cfg, arms(cfg, footprint(20, 1)), "cuda", 10.0)
    unknown = arms(cfg, Footprint(1, trouble="it reads values"))
    assert sizes_that_fit(cfg, unknown, "cuda", 10.0) == SMALLER


def test_a_run_out_of_memory_says_what_would_fit(compose, execute_run):
    record = execute_run(compose(*VIDEO, f"task._target_={HERE}.out_of_memory"))
    assert record.outcome is Outcome.OOM
    assert re.search(r"frames=1 or resolution=\d+ would fit|at no smaller size", record.remedy)


def test_a_pipelines_time_is_that_of_its_steps(compose):
    known, denoiser = Footprints(), compose(*VIDEO)
    pipeline = compose(*VIDEO, "target=pipeline", "model.pipeline.steps=3")
    flop = linear_flop(known.of(denoiser).rows)
    one_s = least_of_run_s(denoiser, 1.0, known)
    assert least_of_run_s(pipeline, 1.0, known) == pytest.approx(3 * 2 * one_s, rel=0.1)  # guidance is twice
    slow = flop / 1e12 / one_s * 1e-3  # so slow that attention and convolutions are counted too
    assert least_of_run_s(denoiser, slow, known) > 1.001 * one_s / slow


def test_a_card_that_is_not_here_reaches_what_was_measured_on_one():
    assert 300 < rate_elsewhere_tflop_s("h100", "bfloat16") < 1000
    assert rate_elsewhere_tflop_s("rtx4090", "bfloat16") >= rate_elsewhere_tflop_s("h100", "bfloat16")
    assert rate_elsewhere_tflop_s("h100", "float64") is None
