"""Classes and arguments are checked against the source, without importing it."""

import subprocess
import sys
from dataclasses import fields

import pytest
import torchao.quantization as q

from src.config.app import ROOT
from src.config.quant_schema import QuantConf
from src.config.signatures import arguments, mistakes

AO = "torchao.quantization"


@pytest.mark.parametrize(
    "name",
    [
        "Int8WeightOnlyConfig",
        "Int8DynamicActivationInt8WeightConfig",
        "Float8DynamicActivationFloat8WeightConfig",
        "Int4WeightOnlyConfig",
        "IntxWeightOnlyConfig",
        "PerGroup",
        "PerTensor",
    ],
)
def test_what_the_source_says_is_what_the_class_takes(name: str) -> None:
    assert list(arguments(f"{AO}.{name}") or ()) == [field.name for field in fields(getattr(q, name))]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("hydra.utils.get_object", ("path",)),
        ("src.treatments.autoquant.Autoquant", ("conf",)),
        ("torchao.sparsity.sparse_api.SemiSparseWeightConfig", ("alg_id",)),
        ("torchao.quantization.MappingType.ASYMMETRIC", None),
        ("torch.nn.Linear", None),
    ],
)
def test_functions_classes_and_what_cannot_be_known(target: str, expected: tuple[str, ...] | None) -> None:
    assert arguments(target) == expected


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (f"{AO}.Int8WeightOnlyConfg", f"{AO} has no Int8WeightOnlyConfg; did you mean Int8WeightOnlyConfig?"),
        ("torchao.quantizaton.PerRow", "torchao has no quantizaton"),
        ("torchaoo.quantization.PerRow", "no package torchaoo is installed"),
    ],
)
def test_what_is_not_there(target: str, said: str) -> None:
    with pytest.raises(LookupError) as raised:
        arguments(target)
    assert said in str(raised.value)


def test_mistakes_are_named_by_their_key() -> None:
    config = {
        "_target_": f"{AO}.Int4WeightOnlyConfig",
        "group_siz": 32,
        "deep": [{"_target_": f"{AO}.PerGrup", "group_size": 1}],
    }
    found = list(mistakes(config, "quant.config"))
    assert len(found) == 3
    assert found[0].startswith(
        f"quant.config.group_siz: {AO}.Int4WeightOnlyConfig takes no such argument; did you"
    )
    assert found[1].startswith("quant.config.deep: ")
    assert found[2].startswith(
        f"quant.config.deep[0]._target_={AO}.PerGrup: {AO} has no PerGrup; did you mean"
    )


def test_nothing_is_imported_to_find_out() -> None:
    script = (
        "import sys; from src.config.signatures import arguments\n"
        f"print(arguments('{AO}.Int8WeightOnlyConfig'), 'torch' in sys.modules, 'torchao' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip().endswith("False False"), done.stderr


def test_every_entry_of_the_project_is_known_through_and_through(entries: dict[str, QuantConf]) -> None:
    """None of their classes is one that the check cannot read."""
    for name, conf in entries.items():
        configs = [conf.config, conf.emulation.config, *(each.config for each in conf.per_device.values())]
        for config in filter(None, configs):
            assert list(mistakes(config, name)) == []
            assert arguments(config["_target_"]) is not None, name
