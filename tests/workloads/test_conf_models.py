"""Every conf/model entry: it is constructed, fed and called on the meta device, at its real size, without memory."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from accelerate import init_empty_weights
from hydra.utils import get_class

from src.workloads.dims import resolve
from src.workloads.inputs import make_inputs
from tests.conftest import ROOT

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
META = torch.device("meta")


def on_meta(conf):
    factory = dict(conf.factory)
    with init_empty_weights():
        model = get_class(factory.pop("_target_"))(**factory)
    return model.to(META, torch.bfloat16).eval()


@pytest.fixture
def meta_inputs(monkeypatch):
    """meta_inputs(cfg): the arguments of one forward, as shapes."""

    def made(cfg):
        seeded = SimpleNamespace(manual_seed=lambda _: None)
        monkeypatch.setattr(torch, "Generator", lambda device: seeded)
        dims = resolve(cfg.model.dims, {"batch": cfg.batch, "resolution": cfg.resolution}, "model.dims")
        return make_inputs(cfg.model, dims, META, torch.bfloat16, 0)

    return made


def outputs(value):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_one_forward_of_its_real_size(compose, meta_inputs, name):
    cfg = compose(f"model={name}", "batch=2")
    model, inputs = on_meta(cfg.model), meta_inputs(cfg)
    accepted = inspect.signature(model.forward).parameters
    assert set(inputs) <= set(accepted)
    found = outputs(model(**inputs))
    assert found
    assert all(tensor.shape[0] % 2 == 0 for tensor in found)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_every_target_is_called_in_a_forward(compose, meta_inputs, name):
    cfg = compose(f"model={name}")
    assert cfg.target in cfg.model.targets
    model, called = on_meta(cfg.model), []
    for target, path in cfg.model.targets.items():
        model.get_submodule(path).register_forward_hook(lambda *_, target=target: called.append(target))
    model(**meta_inputs(cfg))
    assert set(called) == set(cfg.model.targets)


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_it_is(compose, name):
    model = compose(f"model={name}").model
    assert model.name == name
    assert model.description
