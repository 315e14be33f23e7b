"""A step of training, looked at before it is made: what the model's forward keeps for the backward."""

from functools import partial

import pytest
import torch
from torch import nn

from src.training.arm import FirstLook, train_everything, training_arm
from src.workloads.workload import Workload


def look_at(module: nn.Module, given: torch.Tensor) -> FirstLook:
    train_everything(module)
    return training_arm(Workload(module, (given,), {}, ""), torch.optim.AdamW, 1, 0).first_look()


def test_a_linear_keeps_its_input_and_neither_weights_nor_what_the_loss_does() -> None:
    """The output, which the loss compares in float32 with a target of its size, is eight times the input."""
    given = torch.randn(16, 32, dtype=torch.bfloat16)
    look = look_at(nn.Linear(32, 256, dtype=torch.bfloat16), given)
    assert look.saved_bytes == given.nbytes
    assert look.gradients.keys() == {"weight", "bias"}
    assert all(gradient.abs().sum() > 0 for gradient in look.gradients.values())


@pytest.mark.parametrize("layers", [1, 3])
def test_what_several_layers_keep_adds_up_and_what_two_keep_counts_once(layers: int) -> None:
    given = torch.randn(16, 32)
    looks = look_at(nn.Sequential(*(nn.Linear(32, 32) for _ in range(layers))), given)
    twice = look_at(Both(nn.Linear(32, 32), nn.Linear(32, 32)), given)
    assert looks.saved_bytes == layers * given.nbytes
    assert twice.saved_bytes == given.nbytes


class Sliced(nn.Module):
    """Multiplies by the lower half of its weight, as attention whose projections are one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight[32:].t()


def test_a_part_of_a_weight_is_a_weight() -> None:
    given = torch.randn(16, 32)
    assert look_at(nn.Sequential(nn.Linear(32, 32), Sliced()), given).saved_bytes == 2 * given.nbytes


class Both(nn.Module):
    """Two layers of the same input."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.first(given) + self.second(given)
        return found


def test_each_step_of_the_curve_begins_one_and_those_done_already_do_not() -> None:
    module = nn.Linear(32, 8)
    arm = training_arm(
        Workload(module, (torch.randn(16, 32),), {}, ""), partial(torch.optim.SGD, lr=0.1), 4, 0
    )
    arm.call()
    seen: list[tuple[int, float]] = []
    losses = arm.curve(lambda: seen.append((len(arm.losses), float(module.weight.detach().sum()))))
    assert [done for done, _ in seen] == [1, 2, 3], "before the step"
    assert len({weights for _, weights in seen}) == 3
    assert len(losses) == 4
    assert arm.curve(pytest.fail) == losses


def test_what_a_step_is_given_counts_each_storage_once() -> None:
    given, spread = torch.randn(16, 32), torch.zeros(1, 32).expand(16, 32)
    arm = training_arm(Workload(nn.Linear(32, 8), (given,), {}, ""), torch.optim.AdamW, 1, 0)
    target = 16 * 8 * 4
    assert arm.given_bytes() == given.nbytes + target
    arm.kwargs = {"again": given, "spread": spread}
    assert arm.given_bytes() == given.nbytes + target + 32 * 4
