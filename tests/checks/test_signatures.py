"""Classes and arguments are checked against the source, without importing it."""

import inspect
import subprocess
import sys
import warnings
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import torchao.quantization as q
from hydra.utils import get_class

from src.checks.signatures import Signature, defined_as, lacks_method, method, mistakes, signature
from src.config.paths import ROOT
from src.config.schema.quant import QuantConf

AO = "torchao.quantization"


def anything(**arguments: Any) -> None:
    """A function of which the source does not say what it takes."""


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
    wanted = fields(getattr(q, name))
    assert signature(f"{AO}.{name}") == Signature(
        tuple(field.name for field in wanted),
        tuple(f.name for f in wanted if f.default is MISSING and f.default_factory is MISSING),
    )


@pytest.mark.parametrize(
    ("target", "names", "required"),
    [
        ("hydra.utils.get_object", "path", "path"),
        ("src.autoquant.search.Autoquant", "conf", "conf"),  # of a base class
        ("torchao.sparsity.sparse_api.SemiSparseWeightConfig", "alg_id", ""),
        ("torch.nn.Linear", "in_features out_features bias device dtype", "in_features out_features"),
        ("transformers.CLIPTextModel", "config", "config"),  # behind hundreds of star imports
        ("torchao.quantization.MappingType.ASYMMETRIC", None, ""),  # inside of a class
        ("transformers.T5Config", None, ""),  # its decorators make its arguments
        ("tests.checks.test_signatures.anything", None, ""),
        ("math.sqrt", None, ""),
    ],
)
def test_functions_classes_and_what_cannot_be_known(target: str, names: str | None, required: str) -> None:
    expected = None if names is None else Signature(tuple(names.split()), tuple(required.split()))
    assert signature(target) == expected


@pytest.mark.parametrize(
    "target", ["diffusers.UNet2DConditionModel", "diffusers.FluxPipeline", "diffusers.AutoencoderKL"]
)
def test_models_and_pipelines_are_read_as_python_reads_them(target: str) -> None:
    cls = get_class(target)
    for found, real in ((signature(target), cls.__init__), (method(target, "__call__"), cls.__call__)):
        if found is None:  # nn.Module's __call__ takes anything
            continue
        parameters = list(inspect.signature(real).parameters.values())[1:]
        assert found.names == tuple(p.name for p in parameters)
        assert found.required == tuple(p.name for p in parameters if p.default is p.empty)


def test_methods_of_base_classes() -> None:
    assert method("torch.nn.Linear", "forward") == Signature(("input",), ("input",))
    assert (method("diffusers.FluxTransformer2DModel", "forward") or Signature(())).required == (
        "hidden_states",
    )
    assert not lacks_method("diffusers.FluxTransformer2DModel", "from_pretrained")
    assert not lacks_method("transformers.CLIPTextModel", "from_pretrained")
    assert lacks_method("torch.nn.Linear", "from_pretrained")
    assert lacks_method("hydra.utils.get_object", "from_pretrained")


def test_a_name_is_followed_to_where_it_is_defined() -> None:
    names = ("torchao.quantization.FqnToConfig", "torchao.quantization.AOPerModuleConfig")
    assert {defined_as(name) for name in names} == {"torchao.quantization.quant_api.FqnToConfig"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (f"{AO}.Int8WeightOnlyConfg", f"{AO} has no Int8WeightOnlyConfg; did you mean Int8WeightOnlyConfig?"),
        ("torchao.quantizaton.PerRow", "torchao has no quantizaton"),
        ("torchaoo.quantization.PerRow", "no package torchaoo is installed"),
        (
            "diffusers.SanaTransfomer2DModel",
            "diffusers has no SanaTransfomer2DModel; did you mean SanaTransformer2D",
        ),
        ("transformers.CLIPTextModl", "transformers has no CLIPTextModl; did you mean CLIPTextModel"),
        ("torch.nn.Linera", "torch.nn has no Linera; did you mean Linear"),
        ("tests.workloads.factories.wann", "factories has no wann; did you mean wan?"),
        ("torch.nn", "a module; name a class or a function in it, as torch.nn.Class"),
        ("Linear", "a dotted path is wanted"),
        ("torch.nn.two words", "a dotted path is wanted"),
        ("..x", "a dotted path is wanted"),
    ],
)
def test_what_is_not_there(target: str, said: str) -> None:
    with pytest.raises(LookupError) as raised:
        signature(target)
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
        "import sys; from src.checks.signatures import signature\n"
        "signature('diffusers.FluxTransformer2DModel')\n"
        f"print(signature('{AO}.Int8WeightOnlyConfig'), 'torch' in sys.modules, 'torchao' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.strip().endswith("False False"), done.stderr


def test_every_entry_of_the_project_is_known_through_and_through(entries: dict[str, QuantConf]) -> None:
    """None of their classes is one that the check cannot read."""
    for name, conf in entries.items():
        configs = [conf.config, conf.emulation.config, *(each.config for each in conf.per_device.values())]
        for config in filter(None, configs):
            assert list(mistakes(config, name, later=True)) == []
            assert signature(config["_target_"]) is not None, name


def test_what_python_thinks_of_a_librarys_source_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 and later print a line for a docstring with an invalid escape, such as torchao's."""
    (tmp_path / "with_escape.py").write_text(
        'class Taken:\n    """\\."""\n\n    def __init__(self, a): ...\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert signature("with_escape.Taken") == Signature(("a",), ("a",))
    assert not told
