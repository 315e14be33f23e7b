"""What is not Linear: by a profile, else by the measured call, else by what it computes."""

import pandas as pd
import pytest

from src.devices.device import GIB
from src.forecasts.forecast import Place
from src.forecasts.models.rest import Work, computed_rest, measured_rest, runs_of

PLACE = Place("Made-up 5000", "regional", "bfloat16")


def run(**changed: object) -> dict[str, object]:
    row = {"M": None, "model": "flux-tiny", "target": "denoiser", "batch": 1, "resolution": 256, "dtype": "bfloat16",
           "device": PLACE.device, "compile": "default", "task": "inference", "withheld": False,
           "latency/baseline_median_ms": 100.0}  # fmt: skip
    return row | changed


def test_only_runs_of_the_same_workload_count(compose):
    cfg = compose("model=flux-tiny", "compile=regional")
    runs = pd.DataFrame(
        [
            run(),
            run(batch=2),
            run(device="another"),
            run(M=64),
            run(compile="none"),
            run(task="training"),  # a step of it is no call
            run(withheld=True),
            run(**{"latency/baseline_median_ms": None}),
        ]
    )
    assert runs_of(runs, cfg, PLACE, GIB).index.tolist() == [0]


def test_runs_of_a_model_of_other_options_do_not_count(compose):
    cfg = compose("model=flux-tiny", "compile=regional")
    runs = pd.DataFrame([run(**{"memory/baseline_model_gib": gib}) for gib in (1.0, 0.5, None)])
    assert runs_of(runs, cfg, PLACE, GIB).index.tolist() == [0, 2]


def test_without_a_profile_the_layers_are_taken_off_the_call():
    rest = measured_rest(pd.DataFrame([run(), run()]), 60.0)
    assert rest is not None
    assert rest.ms == pytest.approx(40.0)
    assert "100 ms by 2 measured runs less 60 ms" in rest.source
    assert measured_rest(pd.DataFrame([run()]), 130.0).ms == 0.0  # type: ignore[union-attr]
    assert measured_rest(pd.DataFrame([run()]).iloc[:0], 60.0) is None


def test_a_profile_tells_the_parts():
    times = {
        "total": 80.0,
        "matmul": 48.0,
        "attention": 16.0,
        "quantize": 0.0,
        "quantize_fused": 0.0,
        "other": 16.0,
    }
    metrics = {f"profile/baseline_{kind}_ms": ms for kind, ms in times.items()}
    profiled = run(**metrics, **{"profile/baseline_idle_share": 0.2})
    rest = measured_rest(pd.DataFrame([run(), profiled]), 60.0)
    assert rest is not None
    assert rest.linear_ms == pytest.approx(48.0)
    assert rest.ms == pytest.approx(52.0)
    assert rest.parts_ms["attention"] == pytest.approx(16.0)
    assert rest.parts_ms["idle"] == pytest.approx(20.0)
    assert "profile" in rest.source


def test_at_the_ceilings_it_takes_so_long_at_least():
    rest = computed_rest(Work(flop=10e12, moved_bytes=20e9, tflop_s=500, gb_s=2000))
    assert rest.ms == pytest.approx(30 * 2**0.5)
    assert "take 30 ms at least" in rest.source
    assert rest.spread > 0.1
