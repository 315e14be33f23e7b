"""Runs of `task=serialize`, from configuration to record.json."""

import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from src.records.key import run_key
from src.records.mlflow.content import artifacts
from src.records.record import Outcome
from src.serialization import fresh
from src.serialization.files import sha256_of
from src.treatments.scheme import Unquantized
from tests.conftest import SMALL_FLUX, SMALL_LINEAR
from tests.serialization.states import Payload

HERE = __name__
SERIALIZE = "task=serialize"
PIPELINE = ("target=pipeline", "model.pipeline.steps=1")
TRAINING = (
    "quant.config._target_=torchao.prototype.quantized_training.int8.Int8WeightOnlyQuantizedTrainingConfig",
    "~quant.config.set_inductor_config",
)
CODEBOOK = (
    "quant.config._target_=torchao.prototype.quantization.codebook.codebook_quantized_tensor.CodebookWeightOnlyConfig",
    "~quant.config.set_inductor_config",
)


class Hooked(Unquantized):
    """A treatment that no state dict holds."""

    def apply(self, workload, rows, run):
        workload.module.register_forward_hook(lambda module, args, output: output * 2)


class Enlarged(Unquantized):
    """A treatment that gives the model one tensor more."""

    def apply(self, workload, rows, run):
        workload.module.register_buffer("observed", torch.ones(1))


class Poison(Unquantized):
    """A treatment that breaks the numbers."""

    def apply(self, workload, rows, run):
        next(workload.module.parameters()).fill_(float("nan"))


class Noisy(nn.Linear):
    """A layer that never gives the same twice."""

    def forward(self, input):
        output = super().forward(input)
        return output + 0.01 * torch.randn_like(output)


@pytest.fixture
def in_this_process(monkeypatch):
    """What the fresh process does, done here: the same function, without the seconds of a new interpreter."""

    def called(cfg, device, folder, asked):
        answer = fresh._answer(cfg, folder, asked)
        assert answer.failure is None, answer.failure
        return answer

    monkeypatch.setattr("src.tasks.serialize.call_fresh", called)


# ---- with a real fresh process


def test_a_fresh_process_gives_the_same_to_the_last_bit(compose, execute_run, tmp_path):
    """Of int4wo, whose tensors' class the new interpreter has not imported when it opens the file."""
    record = execute_run(compose(SERIALIZE, *SMALL_LINEAR, "quant=int4wo", "serialize.keep=true"))
    assert record.details["serialize"]["fresh"]["pid"] != os.getpid()
    is_equal_and_kept(record, tmp_path, "int4wo", "torch", 4.0)


def is_equal_and_kept(record, tmp_path, quant, format, bits):
    """Whether a run says of its checkpoint what it is, and where it was kept."""
    assert record.outcome is Outcome.OK, record.reason
    assert record.verdict == ""
    found, metrics = record.details["serialize"], record.metrics
    assert found["format"] == format
    assert (
        found["equal"]
        is found["loaded"]["equal"]
        is found["fresh"]["equal"]
        is found["deterministic"]
        is True
    )
    assert found["fresh"]["output_sha256"] == found["output_sha256"]
    assert found["warnings"] == []
    assert bits < metrics["serialize/bits_per_weight"] < bits + 0.5
    assert 0 < metrics["serialize/size_gib"] < metrics["serialize/baseline_size_gib"]
    assert metrics["quantize/layers"] > 0
    for name in ("save_s", "load_s", "load_peak_gib", "fresh_load_s", "fresh_load_peak_gib"):
        assert metrics[f"serialize/{name}"] > 0
    assert "serialize/sqnr_db" not in metrics
    folder = tmp_path / "run" / "checkpoint"
    assert found["checkpoint"] == str(folder)
    assert str(folder) in record.reason
    assert sorted(path.name for path in folder.iterdir()) == sorted(["config.json", found["file"]])
    assert not [path for path in artifacts(tmp_path / "run") if path.name in ("checkpoint", found["file"])]
    config = json.loads((folder / "config.json").read_text())
    assert config["sha256"] == found["sha256"]
    assert config["quant"]["name"] == quant
    assert config["model"]["factory"]["_target_"]
    assert {row["scheme"] for row in config["layers"]} >= {quant}
    assert config["versions"]["torch"] == torch.__version__


def test_what_goes_wrong_in_the_fresh_process_is_said(compose, cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count))
    with pytest.raises(Exception, match=r"in a fresh process: .*so this is no checkpoint") as end:
        fresh.call_fresh(compose(SERIALIZE, *SMALL_LINEAR), cpu, tmp_path / "nothing")
    assert end.value.outcome is Outcome.FAILED
    assert end.value.remedy


# ---- with its work done in this one


@pytest.mark.usefixtures("in_this_process")
def test_so_does_a_model_of_diffusers(compose, execute_run, tmp_path):
    record = execute_run(
        compose(SERIALIZE, *SMALL_FLUX, "quant=int8wo", "dtype=float32", "serialize.keep=true")
    )
    is_equal_and_kept(record, tmp_path, "int8wo", "safetensors", 8.0)


@pytest.mark.parametrize(
    ("overrides", "format"),
    [
        ((*SMALL_LINEAR, "quant=none"), "safetensors"),
        ((*SMALL_LINEAR, "quant=int8dq"), "safetensors"),
        ((*SMALL_LINEAR, "quant=float8wo"), "safetensors"),
        ((*SMALL_LINEAR, "quant=int8wo", "serialize.format=torch"), "torch"),
        ((*SMALL_LINEAR, "quant=autoquant", "quant.layer_budget_s=0.01"), "safetensors"),
        ((*SMALL_LINEAR, "quant=int8wo", "compile=default", "compile.backend=aot_eager"), "safetensors"),
        ((*SMALL_FLUX, "dtype=float32", "target=block", "quant=int8wo"), "safetensors"),
        ((*SMALL_FLUX, "dtype=float32", *PIPELINE, "quant=int8wo"), "safetensors"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_schemes_formats_and_targets(compose, execute_run, tmp_path, overrides, format):
    record = execute_run(compose(SERIALIZE, *overrides))
    assert record.outcome is Outcome.OK, record.reason
    found = record.details["serialize"]
    assert (found["format"], found["equal"], found["checkpoint"]) == (format, True, None)
    assert re.match(
        rf"{format}: \S+ of \S+ GiB, loaded equal bit for bit here and in a fresh process$", record.reason
    )
    assert ("serialize/bits_per_weight" in record.metrics) == (record.metrics["quantize/layers"] > 0)
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert (tmp_path / "run" / "layers.json").exists()
    assert all(math.isfinite(value) for value in record.metrics.values())


@pytest.mark.parametrize(
    ("overrides", "outcome", "reason", "remedy"),
    [
        (
            ("quant=int8wo", *TRAINING),
            Outcome.UNSUPPORTED,
            "only an unsafe pickle can carry",
            "serialize.trust=true",
        ),
        (("quant=int4wo", "serialize.format=safetensors"), Outcome.UNSUPPORTED, "Int4Opaque", "format=auto"),
        (
            ("quant=int8wo", *CODEBOOK, "model.dims.K=64", "model.dims.N=32"),  # k-means takes seconds
            Outcome.UNSUPPORTED,
            "saving dropped the quantization",
            "another scheme",
        ),
        (("quant=float8dq",), Outcome.UNSUPPORTED, "float8dq needs a cuda device", ""),
        (
            ("quant=none", f"quant._target_={HERE}.Hooked"),
            Outcome.BAD_NUMERICS,
            "gives another output",
            "details",
        ),
        (("quant=none", f"quant._target_={HERE}.Enlarged"), Outcome.UNSUPPORTED, "observed", ""),
        (("quant=none", f"quant._target_={HERE}.Poison"), Outcome.BAD_NUMERICS, "NaN or infinity", ""),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_what_is_not_the_same_or_cannot_be_saved(
    compose, execute_run, tmp_path, overrides, outcome, reason, remedy
):
    record = execute_run(compose(SERIALIZE, *SMALL_LINEAR, *overrides))
    assert record.outcome is outcome, record.reason
    assert reason in record.reason
    assert "\n" not in record.reason
    assert remedy in record.remedy
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.parametrize("components", ["[vae]", "[denoiser,vae]"])
def test_a_component_that_no_checkpoint_holds(compose, execute_run, components):
    """Loaded again it would not be quantized, and the difference would be called bad numerics."""
    record = execute_run(compose(SERIALIZE, *SMALL_FLUX, *PIPELINE, f"quant.components={components}"))
    assert record.outcome is Outcome.UNSUPPORTED, record.reason
    assert record.reason.endswith("saves the denoiser alone, and quant.components names vae")
    assert record.remedy == "quant.components=[denoiser]"
    assert "build" not in record.phases_s


@pytest.mark.usefixtures("in_this_process")
def test_a_trusted_pickle_is_recorded_as_one(compose, execute_run):
    record = execute_run(compose(SERIALIZE, *SMALL_LINEAR, "quant=int8wo", *TRAINING, "serialize.trust=true"))
    assert record.outcome is Outcome.OK, record.reason
    found = record.details["serialize"]
    assert (found["format"], found["equal"]) == ("pickle", True)
    assert any("Int8QuantizedTrainingLinearWeight" in name for name in found["unsafe"])
    assert "Int8QuantizedTrainingLinearWeight" in found["refused"]["safetensors"]
    assert record.reason.startswith("pickle, an unsafe pickle that carries ")


@pytest.mark.usefixtures("in_this_process")
def test_a_model_that_never_gives_the_same_twice(compose, execute_run):
    """Equality to the last bit is not asked of a loaded model when the saved one does not have it."""
    noisy = f"model.factory._target_={HERE}.Noisy"
    record = execute_run(compose(SERIALIZE, *SMALL_LINEAR, "quant=none", noisy))
    assert record.outcome is Outcome.OK, record.reason
    found = record.details["serialize"]
    assert (found["deterministic"], found["equal"]) == (False, False)
    assert record.metrics["serialize/sqnr_db"] > 0
    assert "two calls" in record.reason


def test_outputs_are_compared_bit_for_bit():
    one = [torch.tensor([0.0, 1.0])]
    assert fresh.digest(one) == fresh.digest([torch.tensor([0.0, 1.0])])
    different = [torch.tensor([-0.0, 1.0])], [torch.tensor([[0.0, 1.0]])], [one[0].double()], [*one, *one]
    assert len({fresh.digest(outputs) for outputs in (one, *different)}) == 5


# ---- a checkpoint that was kept: serialize.load


@pytest.fixture
def kept(compose, execute_run, tmp_path, in_this_process):
    """The folder of a checkpoint that an earlier run kept."""
    record = execute_run(compose(SERIALIZE, *SMALL_LINEAR, "quant=uint4wo", "serialize.keep=true"))
    assert record.outcome is Outcome.OK, record.reason
    return (tmp_path / "run" / "checkpoint").rename(tmp_path / "kept")


def loading(kept, *overrides):
    return (SERIALIZE, *SMALL_LINEAR, "quant=uint4wo", f"serialize.load={kept}", *overrides)


def test_a_kept_checkpoint_is_compared_and_stays(compose, execute_run, tmp_path, kept):
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    record = execute_run(compose(*loading(kept)))
    assert record.outcome is Outcome.OK, record.reason
    assert record.reason.endswith(f"loaded equal bit for bit here and in a fresh process; kept in {kept}")
    assert record.metrics["serialize/size_gib"] > 0
    assert "serialize/save_s" not in record.metrics
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert not (tmp_path / "run" / "checkpoint").exists()


def cut(kept):
    path = kept / "weights.pt"
    path.write_bytes(path.read_bytes()[:-100])


def not_torch(kept):
    (kept / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')


def malicious(kept):
    marker, path = kept / "marker", kept / "weights.pt"
    torch.save({"x": Payload(marker)}, path)
    info = json.loads((kept / "config.json").read_text())
    info |= {"format": "pickle", "unsafe": ["a.B"], "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (kept / "config.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("damage", "overrides", "outcome", "reason", "remedy"),
    [
        (cut, (), Outcome.FAILED, "truncated, or another file", "save it again"),
        (not_torch, (), Outcome.FAILED, "of another class: FluxTransformer2DModel, not Linear", "its own model="),
        (malicious, (), Outcome.FAILED, "an unsafe pickle", "serialize.trust=true, but only if you trust"),
        (None, ("quant=int8wo",), Outcome.FAILED, "saved with quant=uint4wo, this is quant=int8wo", "quant=uint4wo"),
        (None, ("dtype=float32",), Outcome.FAILED, "saved with dtype=bfloat16", "dtype=bfloat16"),
        (None, ("model.dims.K=512",), Outcome.FAILED, "of another model: 1 of another shape", "the model"),
        (None, ("seed=1",), Outcome.BAD_NUMERICS, "another output than this configuration makes", "the seed"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_not_of_this_run(
    compose, execute_run, kept, damage, overrides, outcome, reason, remedy
):
    if damage:
        damage(kept)
    record = execute_run(compose(*loading(kept, *overrides)))
    assert (record.outcome, reason in record.reason) == (outcome, True), record.reason
    assert remedy in record.remedy
    assert kept.is_dir()
    assert not (kept / "marker").exists()


def test_the_key_of_a_run_knows_the_checkpoint_it_loads(compose, kept):
    cfg = compose(*loading(kept))
    keys = [run_key(cfg, {})]
    cut(kept)
    keys.append(run_key(cfg, {}))
    keys.append(run_key(compose(SERIALIZE, *SMALL_LINEAR, "quant=uint4wo"), {}))
    assert len(set(keys)) == 3
