"""States of real torchao tensors to files and back."""

import pickle
import sys

import pytest
import torch

from src.serialization.formats import (
    RefusedError,
    read_safetensors,
    read_torch,
    tensor_classes,
    write_safetensors,
    write_torch,
)
from tests.serialization.states import Payload, same, small

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("quant", "write", "read"),
    [
        *((quant, write_safetensors, read_safetensors) for quant in ("none", "int8wo", "int8dq", "float8wo")),
        *((quant, write_torch, read_torch) for quant in ("none", "int8wo", "int8dq", "float8wo", "int4wo")),
    ],
)
def test_what_is_read_is_what_was_written(tmp_path, quant, write, read):
    state = small(quant).state_dict()
    assert write(state, tmp_path / "file") == []
    found = read(tmp_path / "file", CPU, tensor_classes(state), False)
    assert set(found) == set(state) >= {"shift", "stored"}
    assert [name for name in state if not same(state[name], found[name])] == []


def test_what_is_loaded_does_not_need_its_file(tmp_path):
    state = small("int8wo").state_dict()
    write_safetensors(state, tmp_path / "file")
    found = read_safetensors(tmp_path / "file", CPU, (), False)
    (tmp_path / "file").write_bytes(b"")
    assert same(state["layers.0.weight"], found["layers.0.weight"])


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (lambda: small("int4wo").state_dict(), "Int4OpaqueTensor"),
        (lambda: {"w": torch.zeros(4, 4).t()[1:], "v": torch.zeros(2)}, "contiguous"),
        (lambda: dict.fromkeys(("tied", "also"), torch.zeros(4)), "share memory"),
        (lambda: {"w": torch.zeros(4, dtype=torch.complex128)}, "complex128"),
    ],
)
def test_what_safetensors_cannot_carry_is_refused_in_one_line(tmp_path, state, why):
    with pytest.raises(RefusedError, match=why) as refused:
        write_safetensors(state(), tmp_path / "file")
    assert "\n" not in str(refused.value)


def test_a_class_that_torchao_does_not_register_needs_trust(tmp_path):
    state = small("training").state_dict()
    unsafe = write_torch(state, tmp_path / "file")
    assert any("Int8QuantizedTrainingLinearWeight" in name for name in unsafe)
    with pytest.raises(RefusedError, match=r"brings .*Int8QuantizedTrainingLinearWeight"):
        read_torch(tmp_path / "file", CPU, tensor_classes(state), False)
    found = read_torch(tmp_path / "file", CPU, tensor_classes(state), True)
    assert same(state["layers.0.weight"], found["layers.0.weight"])


@pytest.mark.parametrize("zipped", [True, False], ids=["torch.save", "plain pickle"])
def test_code_in_a_pickle_does_not_run(tmp_path, zipped):
    marker, path = tmp_path / "marker", tmp_path / "file"
    content = {"w": torch.zeros(2), "x": Payload(marker)}
    torch.save(content, path) if zipped else path.write_bytes(pickle.dumps(content))
    with pytest.raises(RefusedError, match="not loaded"):
        read_torch(path, CPU, (), False)
    assert not marker.exists()
    if zipped:
        torch.load(path, weights_only=False)
        assert marker.exists(), "the payload is a real one"


def test_only_known_packages_are_imported_by_name(tmp_path, monkeypatch):
    (tmp_path / "foreign_module.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    torch.save({"w": torch.zeros(2)}, tmp_path / "file")
    read_torch(tmp_path / "file", CPU, ["foreign_module.Tensor"], False)
    assert "foreign_module" not in sys.modules
    assert not (tmp_path / "marker").exists()


def test_a_file_of_other_things_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "file")
    with pytest.raises(RefusedError, match="something else than named tensors"):
        read_torch(tmp_path / "file", CPU, (), False)
