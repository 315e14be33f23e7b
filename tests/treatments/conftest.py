"""The treated arm as a run makes it, and whether two of them are the same."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from src.compilation.scopes import compile_module
from src.treatments.layers import capture_layers
from src.treatments.routes.making import make_treated
from src.treatments.scheme import make_scheme
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import build_workload


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that operators made inside and that are still alive; their peak."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            plain = isinstance(tensor, torch.Tensor) and not is_traceable_wrapper_subclass(tensor)
            if plain and not tensor.is_meta:
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.alive.setdefault(reference.cdata, (reference, storage.nbytes()))
        self.alive = {key: kept for key, kept in self.alive.items() if not kept[0].expired()}
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self.alive.values()))
        return found


@pytest.fixture
def make(compose, cpu, run_context):
    """make(*overrides): the treated arm as a run makes it, with real kernels.

    watched: count what is alive, which takes longer than the rest.
    """

    @torch.no_grad()
    def made(*overrides, watched=False):
        cfg = compose(*overrides)
        run, baseline = run_context(cfg), build_workload(cfg, cpu)
        rows, _ = capture_layers(baseline, cfg.quant.components)
        unquantized_bytes = size_bytes(baseline.module)
        compile_module(baseline.denoiser(), cfg.compile)
        if cfg.compile.scope != "none":
            baseline.call()
        if cfg.measure.pairing == "in_turn":
            baseline.module.to_empty(device="meta")
        scheme = make_scheme(cfg.quant)
        scheme.check(cpu, cfg.dtype)
        with LiveBytes() if watched else nullcontext() as live:
            treated = make_treated(scheme, baseline, lambda: build_workload(cfg, cpu), rows, run)
        return SimpleNamespace(
            treated=treated,
            rows=rows,
            record=run.record,
            peak=live.peak if live else None,
            unquantized=unquantized_bytes,
        )

    return made


def same(one, other):
    """Equal to the last bit, inside quantized tensors too."""
    if is_traceable_wrapper_subclass(one):
        names, _ = one.__tensor_flatten__()
        return type(one) is type(other) and all(same(getattr(one, n), getattr(other, n)) for n in names)
    return one.dtype == other.dtype and torch.equal(one, other)


@torch.no_grad()
def assert_same(one, other):
    first, second = one.treated.module.state_dict(), other.treated.module.state_dict()
    assert first.keys() == second.keys()
    assert [name for name in first if not same(first[name], second[name])] == []
    for mine, theirs in zip(tree_leaves(one.treated.call()), tree_leaves(other.treated.call()), strict=True):
        assert torch.equal(mine, theirs)
    assert [row.as_dict() for row in one.rows] == [row.as_dict() for row in other.rows]
