"""serialize.load of checkpoints that diffusers quantized: what a latency run refuses is examined here."""

import json

import pytest

from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.serialization import fresh
from src.serialization.info import check_same_run, read_info
from src.serialization.pretrained import PRETRAINED, layers_apart
from tests.workloads.factories import SEARCHED

KEPT_IN_FLOAT32 = "quant.layers.modules_to_not_convert=[condition_embedder.time_embedder]"


def test_a_checkpoint_of_diffusers_equals_what_the_run_makes(compose, execute_run, checkpoints, monkeypatch):
    """The work of the fresh process is done in this one."""
    monkeypatch.setattr(
        "src.tasks.serialize.call_fresh", lambda cfg, _, folder, asked: fresh._answer(cfg, folder, asked)
    )
    plain = ("model.weights.source=local", f"model.weights.id={checkpoints / 'plain'}")
    run = (SEARCHED, "model=tiny-wan", "quant=int8wo", "task=serialize", *plain)
    record = execute_run(compose(*run, f"serialize.load={checkpoints / 'int8'}", KEPT_IN_FLOAT32))
    assert record.outcome is Outcome.OK, record.reason
    found = record.details["serialize"]
    assert (found["equal"], found["format"], found["layers_apart"]) == (True, PRETRAINED, "")
    assert found["tensor_classes"] == ["Int8Tensor"]
    assert record.metrics["serialize/size_gib"] > 0


def test_one_that_quantizes_other_layers_says_which(compose, execute_run, checkpoints, monkeypatch):
    monkeypatch.setattr("src.tasks.serialize.call_fresh", lambda *_: pytest.fail("differs already here"))
    plain = ("model.weights.source=local", f"model.weights.id={checkpoints / 'plain'}")
    run = (SEARCHED, "model=tiny-wan", "quant=int8wo", "task=serialize", *plain)
    record = execute_run(compose(*run, f"serialize.load={checkpoints / 'partly_int8'}"))
    assert record.outcome is Outcome.BAD_NUMERICS
    assert record.remedy.startswith("quantized are 16 here alone (")
    assert layers_apart([{"fqn": "a"}, {"fqn": "b"}], ["b", "c"]) == (
        "quantized are 1 here alone (c), 1 there alone (a): quant.layers says which"
    )


def test_the_quantized_layers_of_a_pickled_checkpoint_are_listed(checkpoints):
    pickled, whole = read_info(checkpoints / "pickled"), read_info(checkpoints / "int8")
    assert pickled.tensor_classes == ["Int8Tensor"]
    apart = layers_apart(pickled.layers, [layer["fqn"] for layer in whole.layers])
    assert apart.startswith("quantized are 2 there alone (condition_embedder.time_embedder.linear_1)")


def test_what_is_of_another_class_is_told(compose, checkpoints, tmp_path):
    info = read_info(checkpoints / "int8")
    check_same_run(checkpoints / "int8", info, compose(SEARCHED, "model=tiny-wan"))
    with pytest.raises(
        RunEndedError, match="of another class: WanTransformer3DModel, not FluxTransformer2DModel"
    ):
        check_same_run(checkpoints / "int8", info, compose("model=flux-tiny"))
    (tmp_path / "config.json").write_text(json.dumps({"anything": 1}))
    with pytest.raises(RunEndedError, match=r"not written by task=serialize, nor by save_pretrained"):
        read_info(tmp_path)
