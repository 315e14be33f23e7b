"""First calls of graphs that AOTAutograd's cache does not take: whose code comes from disk is warm all the same."""

from typing import Any

import pytest
import torch
import torch._inductor.config as inductor_config
from torch import nn
from torch._dynamo.utils import counters

from src.compilation.scopes import FirstCall, compile_module, forget_compiled, timed_first_call
from src.config.schema.root import CompileConf
from src.devices.device import Device
from src.training.arm import TrainingArm
from src.workloads.workload import Workload


class Product(torch.autograd.Function):
    """A matmul with a backward of its own, as torchao's float8 training has it."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(given, weight)
        return given @ weight.t()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given, weight = ctx.saved_tensors
        return gradients[0] @ weight, gradients[0].t() @ given


class Layer(nn.Module):
    """A Linear by such a function, or by torch's own."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        self.weight, self.own = nn.Parameter(torch.ones(8, 8)), own

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if self.own:
            product: torch.Tensor = Product.apply(given, self.weight)  # type: ignore[no-untyped-call]
        else:
            product = nn.functional.linear(given, self.weight)
        return torch.relu(product)


def trained(*, own: bool) -> Workload:
    module = Layer(own=own)
    compile_module(module, CompileConf(name="default"))
    optimizer = torch.optim.SGD(module.parameters(), 0.0)
    return TrainingArm(module, (torch.ones(4, 8),), {}, "", [torch.zeros(4, 8)], optimizer)


def first_call(workload: Workload, device: Device) -> FirstCall:
    forget_compiled()
    return timed_first_call(workload, device)[0]


@pytest.mark.usefixtures("cold_cache")
@pytest.mark.parametrize("own", [False, True])
def test_a_step_whose_forward_and_backward_are_on_disk_is_warm(cpu: Device, own: bool) -> None:
    workload = trained(own=own)
    bypassed = counters["aot_autograd"]["autograd_cache_bypass"]
    cold, warm = first_call(workload, cpu), first_call(workload, cpu)
    assert counters["aot_autograd"]["autograd_cache_bypass"] - bypassed == 2 * own
    assert (cold.cache_hits, cold.cache_misses, cold.cold) == (0, 2, True)
    assert (warm.cache_hits, warm.cache_misses, warm.from_cache) == (2, 0, True)


@pytest.mark.usefixtures("cold_cache")
@pytest.mark.parametrize("own", [False, True])
def test_without_a_cache_every_first_call_is_cold(cpu: Device, own: bool) -> None:
    workload = trained(own=own)
    with inductor_config.patch(fx_graph_cache=False):
        for _ in range(2):
            call = first_call(workload, cpu)
            assert (call.cold, call.from_cache) == (True, False)
