"""`predict=model`: from a model's layer table to its speedup; layer rules, candidates, devices, what is unknown."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
from hydra.types import RunMode

from src.analyze import with_workload
from src.app.composing import runs as composing
from src.app.composing.runs import run_configs
from src.config.errors import ConfigError
from src.forecasts.forecast import Place
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.asked import ModelForecaster, device_asked
from src.forecasts.models.layers import asked_layers
from src.forecasts.models.rest import Rest
from src.forecasts.models.whole import Layers, put_together
from src.planning.teaching import SURE
from tests.conftest import SMALL_FLUX
from tests.forecasts.synthetic import DEVICE, made_cells

SMALL = (
    (64, 128),
    (128, 128),
    (128, 256),
    (128, 512),
    (128, 768),
    (512, 128),
    (640, 128),
    (256, 128),
    (128, 64),
)
WORDS = (*SMALL_FLUX, "compile=regional", "dtype=bfloat16")
NO_RUNS = pd.DataFrame({name: [] for name in (
    "M", "model", "target", "batch", "resolution", "dtype", "device", "compile", "latency/baseline_median_ms",
    "started_at", "task", "withheld")})  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _composed_once() -> Iterator[None]:
    """One loader for all, as the jobs of a sweep have."""
    loader = composing._loader()
    master, load = loader.load_configuration("config", [], RunMode.MULTIRUN), loader.load_configuration
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(composing, "_loader", lambda: loader)
        patched.setattr(
            loader,
            "load_configuration",
            lambda *asked: master if asked[2] is RunMode.MULTIRUN else load(*asked),
        )
        yield


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return made_cells(sides=SMALL)


@pytest.fixture(scope="module")
def predict(cells) -> ModelForecaster:
    return ModelForecaster(Knowledge(cells, 0.02, known=cells.iloc[:0]), NO_RUNS)


def asked(predict, *words):
    return [predict(cfg, job) for cfg, job in run_configs([*WORDS, *words])]


def test_a_model_is_the_sum_of_its_layers(predict):
    (found,) = asked(predict, "quant=float8wo")
    whole = found.whole
    assert found.place.device == DEVICE
    assert sum(each.calls for each in whole.layers) > 20
    assert all(each.quant == "float8wo" for each in whole.layers)
    assert found.forecast.low < found.forecast.speedup < found.forecast.high
    assert found.forecast.speedup == pytest.approx(whole.speedup)
    assert found.forecast.verdict == "hurts"
    assert "TFLOP/s" in whole.rest.source


def test_its_layers_are_listed_for_the_map_once(predict):
    found = asked(predict, "quant=float8wo,float8dq")
    layers = [*asked_layers(found)]
    assert sum(each.calls for each in layers) == sum(each.calls for each in found[0].whole.layers)
    assert sum(each.share for each in layers) == pytest.approx(found[0].whole.share)
    assert {each.place for each in layers} == {Place(DEVICE, "default", "bfloat16")}
    assert any(".*." in each.names for each in layers)


def test_layer_rules_apply(predict):
    every, some = asked(predict, "quant=float8wo", "layers=all,field_default")
    left = [each.left for each in some.whole.layers if not each.quant]
    assert every.whole.share > some.whole.share
    assert any("quant.layers.exclude: embed" in why for why in left)
    assert any("quant.layers.min_side" in why for why in left)


def test_autoquant_takes_what_is_predicted_to_help(predict):
    (found,) = asked(predict, "quant=autoquant", "layers=all")
    assert {each.quant for each in found.whole.layers} <= {"", "float8dq"}
    assert found.whole.speedup >= 1


def test_a_scheme_without_cells_withholds_the_answer(predict):
    (found,) = asked(predict, "quant=int8dq")
    assert found.forecast.verdict == "unknown"
    assert math.isnan(found.forecast.speedup)
    assert "no cell of int8dq was measured" in found.forecast.reason


def test_layers_far_from_all_cells_withhold_it_too():
    cells = made_cells()
    (found,) = asked(ModelForecaster(Knowledge(cells, 0.02, known=cells.iloc[:0]), NO_RUNS), "quant=float8dq")
    assert found.forecast.verdict == "unknown"
    assert "of the time is in layers that nothing predicts" in found.forecast.reason
    assert "is more than 3 times beyond" in found.forecast.reason
    assert any("count as unquantized" in note for note in found.whole.notes)


def test_options_of_a_scheme_are_other_kernels(predict):
    (found,) = asked(predict, "quant=int4wo", "quant.group_size=64")
    assert found.quant == "int4wo (group_size=64)"


def test_measured_runs_tell_how_long_the_call_takes(cells):
    row = {"model": "flux-tiny", "target": "denoiser", "batch": 1, "resolution": 64, "dtype": "bfloat16",
           "device": DEVICE, "compile": "regional", "task": "inference", "withheld": False,
           "latency/baseline_median_ms": 9.0}  # fmt: skip
    runs = pd.DataFrame([row | {"M": None, "started_at": pd.Timestamp("2026-01-01")}])
    (found,) = asked(ModelForecaster(Knowledge(cells, 0.02, known=cells.iloc[:0]), runs), "quant=float8wo")
    assert found.whole.baseline_ms == pytest.approx(9.0)
    assert "9 ms by 1 measured run" in found.whole.rest.source


def test_what_is_slow_even_without_its_unknown_layers_surely_hurts(cells, monkeypatch):
    known = Layers(64, 128, 128, 1, "float8wo", 4.0, 9.0, 2.0, 1.8, 2.2)
    unknown = replace(known, baseline_ms=2.0, treated_ms=2.0, unknown="too far")
    whole = put_together([known, unknown], Rest(1.0, 0.05, "a test"))
    monkeypatch.setattr("src.forecasts.models.asked.put_together", lambda *_: whole)
    (found,) = asked(ModelForecaster(Knowledge(cells, 0.02, known=cells.iloc[:0]), NO_RUNS), "quant=float8wo")
    told = found.forecast
    assert (told.verdict, told.high) == ("hurts", pytest.approx(0.7))
    assert told.sure >= SURE


def test_what_cannot_run_or_is_no_single_call_is_said(predict):
    (pipeline,) = asked(predict, "target=pipeline")
    assert "target=pipeline is not predicted" in pipeline.forecast.reason
    (old,) = asked(predict, "quant=float8dq", "gpu=a100")
    assert "unsupported: float8dq needs" in old.forecast.reason


def test_a_device_is_named_by_its_entry(cells):
    both = pd.concat([made_cells(device="NVIDIA H100 80GB HBM3"), cells], ignore_index=True)
    names = {
        gpu: device_asked(run_configs([f"gpu={gpu}"])[0][0], Knowledge(both, 0.02))
        for gpu in ("auto", "h100", "l40s")
    }
    assert names == {"auto": DEVICE, "h100": "NVIDIA H100 80GB HBM3", "l40s": "NVIDIA L40S"}


def test_a_device_that_no_run_knows_borrows_and_says_so(predict):
    (found,) = asked(predict, "quant=float8dq", "gpu=l40s")
    assert any(note.startswith("nothing was measured on NVIDIA L40S: its") for note in found.whole.notes)


def test_a_device_whose_cells_came_with_the_program_is_predicted():
    nothing = Knowledge(made_cells().iloc[:0], 0.02)
    linear = ["model=linear", "model.dims.M=2048", "model.dims.K=4096", "model.dims.N=4096", "quant=float8dq"]
    found, unknown = (
        ModelForecaster(nothing, NO_RUNS)(*run_configs([*linear, f"gpu={gpu}"])[0])
        for gpu in ("h200", "auto")
    )
    assert found.forecast.verdict == "helps"
    assert (
        "its cells came with this program (conf/gpu/h200-layers.csv, conf/gpu/h200.csv)"
        in found.whole.notes[0]
    )
    assert unknown.forecast.verdict == "unknown"
    assert (
        "no single layer was measured undisturbed here; cells of NVIDIA H100 80GB HBM3, NVIDIA H200"
        in unknown.forecast.reason
    )


def test_words_about_the_model_are_handed_on():
    of_model = ["model=flux-dev", "quant=a,b", "~quant.candidates.int4wo"]
    told = with_workload(["predict=model", *of_model, "margin=0.05", "tracking=none"])
    assert told[:3] == ["predict=model", "margin=0.05", "tracking=none"]
    assert told[3] == 'workload=["model=flux-dev","quant=a,b","~quant.candidates.int4wo"]'
    assert with_workload(["model=flux-dev"]) == ["model=flux-dev"]


@pytest.mark.parametrize("trace", [None, lambda *_: None], ids=["", "under a debugger"])
def test_a_wrong_word_is_one_line(trace):
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        _two_wrong_words()
    finally:
        sys.settrace(before)


def _two_wrong_words():
    with pytest.raises(ConfigError, match="model=flux: no such option; did you mean"):
        run_configs(["model=flux"])
    with pytest.raises(ConfigError, match="unknown key batsch"):
        run_configs(["batsch=2"])
