"""Every conf/model entry: it is constructed, fed and called on the meta device, at its real size, without memory."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from src.compilation.scopes import repeated_blocks
from src.config.schema import sizes_of_call
from src.workloads.dims import resolve
from src.workloads.inputs import make_inputs
from src.workloads.model import outline
from tests.conftest import ROOT

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
META = torch.device("meta")
NO_BLOCKS = {"linear"}


@pytest.fixture
def meta_inputs(monkeypatch):
    """meta_inputs(cfg): the arguments of one forward, as shapes."""

    def made(cfg):
        seeded = SimpleNamespace(manual_seed=lambda _: None)
        monkeypatch.setattr(torch, "Generator", lambda device: seeded)
        dims = resolve(cfg.model.dims, sizes_of_call(cfg), "model.dims")
        return make_inputs(cfg.model, dims, META, torch.bfloat16, 0)

    return made


def outputs(value):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_one_forward_of_its_real_size(compose, meta_inputs, name):
    cfg = compose(f"model={name}", "batch=2")
    model, inputs, called = outline(cfg.model, torch.bfloat16), meta_inputs(cfg), []
    if published := cfg.model.published_parameters:
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(published, rel=0.005)
    assert set(inputs) <= set(inspect.signature(model.forward).parameters)
    for target, path in cfg.model.targets.items():
        model.get_submodule(path).register_forward_hook(lambda *_, target=target: called.append(target))
    found = outputs(model.to(META, torch.bfloat16)(**inputs))
    assert found
    assert all(tensor.shape[0] % 2 == 0 for tensor in found)
    assert set(called) == set(cfg.model.targets) >= {cfg.target}
    if name not in NO_BLOCKS:
        blocks = repeated_blocks(model)
        assert len(blocks) > 1
        assert model not in blocks


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_it_is(compose, name):
    model = compose(f"model={name}").model
    assert model.name == name
    assert model.description
