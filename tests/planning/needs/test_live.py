"""Bytes of live tensors during a call, on fake tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from src.planning.needs.live import LiveBytes

KB = 1024


def _kilobyte() -> torch.Tensor:
    return torch.empty(KB, dtype=torch.uint8)


@pytest.fixture
def fake():
    with FakeTensorMode() as mode:
        yield mode


def test_what_is_freed_no_longer_counts(fake):
    with LiveBytes() as live:
        first = _kilobyte()
        second = first + 1
        del first
        third = second + 1
        del second, third
    assert (live.peak, live.live) == (2 * KB, 0)


def test_what_was_there_before_does_not_count(fake):
    weight = _kilobyte()
    with LiveBytes() as live:
        kept = weight * 2
    assert live.peak == live.live == KB
    assert kept.numel() == KB


def test_views_and_changes_in_place_take_nothing(fake):
    with LiveBytes() as live:
        made = _kilobyte()
        view = made.view(2, -1).t()
        view.add_(1)
        made[3:5].zero_()
    assert live.peak == KB


def test_a_chain_of_layers_holds_two_activations_at_a_time(fake):
    with torch.no_grad():
        layers = torch.nn.Sequential(*[torch.nn.Linear(256, 256, bias=False) for _ in range(8)])
        x = torch.empty(64, 256)
        with LiveBytes() as live:
            layers(x)
    assert live.peak == 2 * 64 * 256 * 4


def test_fake_tensors_of_any_size_take_no_memory(fake):
    with LiveBytes() as live:
        torch.empty(2**40, dtype=torch.uint8).add_(1)
    assert live.peak == 2**40


def test_real_tensors_are_counted_alike():
    with LiveBytes() as live:
        made = torch.ones(KB, dtype=torch.uint8)
        made = made + made
    assert (live.peak, live.live) == (2 * KB, KB)
