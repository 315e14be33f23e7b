"""Where numbers first leave float16's range."""

import pytest
import torch
from torch import nn

from src.quality.finite import NotFinite, first_not_finite, is_finite

BIG = 60000.0


class Scale(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x * self.by


class Clamped(nn.Module):
    """Overflows inside, and hides it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(Scale(1.0), Scale(BIG), Scale(2.0))

    def forward(self, x):
        return {"out": self.inner(x).clamp(-1, 1)}


X = torch.full((2, 3), 4.0, dtype=torch.float16)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_the_innermost_first_module_is_named(backend):
    module = Clamped()
    if backend:
        module.compile(backend=backend)
        module(X)
    assert is_finite(module(X))
    found = first_not_finite(module, lambda: module(X))
    assert found == NotFinite("inner.1", "Scale", "float16", "infinity")
    assert not any(inner._forward_hooks for inner in module.modules())


def test_nothing_is_found_where_all_is_finite_or_in_between():
    module = Clamped().to(torch.bfloat16)
    assert first_not_finite(module, lambda: module(X.bfloat16())) is None
    plain = nn.Sequential(nn.Identity())
    assert first_not_finite(plain, lambda: plain(X) / 0) is None


def test_nan_and_infinity_are_told_apart():
    module = nn.Sequential(nn.Identity())
    for values, holds in (([1.0, float("nan")], "NaN"), ([float("-inf"), float("nan")], "infinity and NaN")):
        assert first_not_finite(module, lambda v=values: module(torch.tensor(v))).holds == holds


def test_integers_do_not_count():
    assert is_finite([torch.tensor([1]), None, "text", (torch.ones(2),)])
    assert not is_finite({"a": torch.tensor([float("inf")])})
