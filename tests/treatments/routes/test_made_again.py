"""Models made again: what their constructors draw and what they tie is the same, however their weights come about."""

from functools import partial

import pytest
import torch

from src.workloads.model import build_model, empty_model
from tests.treatments.conftest import assert_same
from tests.workloads.factories import SEARCHED, Tied

CPU = torch.device("cpu")
FOURIER = (SEARCHED, "model=fourier", "dtype=float32")
TIED = (SEARCHED, "model=tied", "dtype=float32")
build = partial(build_model, device=CPU, dtype=torch.float32)
WAYS = [("quant.where=device",), ("quant.where=cpu",), ("quant.where=streamed",)]


def test_what_a_constructor_draws_is_drawn_from_the_seed(compose):
    conf = compose(*FOURIER).model
    first, state = build(conf, seed=3), torch.get_rng_state()
    torch.rand(1)
    again, other = build(conf, seed=3), build(conf, seed=4)
    assert torch.equal(first.frequencies, again.frequencies)
    assert not torch.equal(first.frequencies, other.frequencies)
    assert torch.equal(empty_model(conf, CPU, torch.float32, seed=3).frequencies, first.frequencies)
    torch.set_rng_state(state)
    build(conf, seed=5)
    assert torch.equal(torch.get_rng_state(), state)  # the process's own generator goes on as it was


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_both_arms_hold_what_a_constructor_drew(make, compose, way):
    treated = make(*FOURIER, *way).treated.module
    cfg = compose(*FOURIER)
    assert torch.equal(treated.frequencies, build(cfg.model, seed=cfg.seed).frequencies)


def test_what_a_constructor_ties_stays_tied(compose):
    conf = compose(*TIED).model
    assert sum(p.numel() for p in Tied(64).parameters()) == 3 * 64 * 64
    for model in (build(conf, seed=0), empty_model(conf, CPU, torch.float32)):
        assert model.first.weight is model.later[0].weight
        assert model.later[2].weight is model.later[3].weight
        assert sum(p.numel() for p in model.parameters()) == 3 * 64 * 64


@pytest.mark.parametrize("target", ["denoiser", "block"])
@pytest.mark.parametrize("way", WAYS[1:], ids=lambda way: way[0])
def test_tied_layers_are_the_same_wherever_they_are_quantized(make, way, target):
    """As of a part whose layer is tied to one outside of it."""
    asked = (*TIED, "quant=int8wo", f"target={target}")
    assert_same(make(*asked), make(*asked, *way))
