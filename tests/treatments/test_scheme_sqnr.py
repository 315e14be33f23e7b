"""What a scheme does to one real Linear on real kernels, against its number format in float64: within 1 dB."""

from itertools import product

import pytest
import torch
from torch import nn

from src.devices.capability import Status, capability
from src.treatments.layers import capture_layers
from src.treatments.scheme import make_scheme
from src.workloads.workload import Whole, Workload
from tests.conftest import int8_matmul_saturates
from tests.treatments.reference_formats import FORMATS

SHAPES = [(1, 256, 64), (7, 512, 160), (33, 251, 77)]  # M, K, N; a scheme takes those that it has kernels for
CASES = [(*case, seed) for seed, case in enumerate(product(SHAPES, (False, True)))]  # shape, outliers, seed
SOME_CASES = {"codebook": [((7, 128, 64), False, 0), ((33, 64, 77), True, 1)]}  # k-means takes seconds
NO_FORMAT = {"none", "autoquant", "regime"}  # they change no number, or choose among the formats of others
INT8_MATMUL = {"int8dq", "int8_static"}
DIVIDES_BY_ZERO = {"float8wo", "float8wo_e5m2", "float8_e4m3_row"}


def sqnr_db(exact, got):
    return float(20 * torch.log10(exact.norm() / (exact - got).norm()))


def numbers(rows, columns, outliers, generator):
    """Normal, with a little shift; one in 200 is 20 times as large where there are outliers."""
    t = torch.randn(rows, columns, generator=generator) + 0.1
    return torch.where(torch.rand(rows, columns, generator=generator) < 0.005, 20 * t, t) if outliers else t


def linear(shape, outliers, seed, dtype):
    """A Linear with a bias, and its input [M, K]."""
    m, k, n = shape
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(k, n)
    layer.weight.data = 0.02 * numbers(n, k, outliers, generator)
    layer.bias.data = 0.1 * torch.randn(n, generator=generator)
    return layer.to(dtype).requires_grad_(False), numbers(m, k, outliers, generator).to(dtype)


@torch.no_grad()
def by_scheme(layer, x, run):
    """The treated layer's output; nothing where the scheme does not take the layer's shape."""
    workload = Workload(Whole(layer), (x,), {})
    rows, _ = capture_layers(workload)
    scheme = make_scheme(run.cfg.quant)
    scheme.check(run.device, run.cfg.dtype)
    if not scheme.select([*rows], run.device) and "multiple" in rows[0].reason:
        return None
    scheme.search(workload, rows, run)
    scheme.apply(workload, rows, run)
    assert rows[0].scheme == run.cfg.quant.name, rows[0].reason
    return workload.call()


@pytest.mark.parametrize("quant", FORMATS)
def test_sqnr_is_that_of_the_format(compose, run_context, quant):
    if quant in INT8_MATMUL and int8_matmul_saturates():
        pytest.skip("torch._int_mm saturates on this CPU")
    form = FORMATS[quant]
    dtype = str(form.dtype).removeprefix("torch.")
    run = run_context(compose("model=linear", f"quant={quant}", "quant.emulate=true", f"dtype={dtype}"))
    seen = {}
    for shape, outliers, seed in SOME_CASES.get(quant, CASES):
        layer, x = linear(shape, outliers, seed, form.dtype)
        values = x.double(), layer.weight.double(), layer.bias.double()
        output = by_scheme(layer, x, run)
        if output is not None:
            exact = nn.functional.linear(*values)
            measured, expected = sqnr_db(exact, output.double()), sqnr_db(exact, form.linear(*values))
            seen[shape, outliers, seed] = (measured, expected)
    assert len({shape for shape, *_ in seen}) >= 2, (
        "a scheme that takes hardly any shape is not tested by these"
    )
    apart = {case: found for case, found in seen.items() if not abs(found[0] - found[1]) <= 1}
    assert not apart, f"{quant}: dB measured and of the format: {apart}"


def test_every_scheme_that_gives_numbers_here_has_a_reference(entries, cpu):
    predicted = {quant: capability(entry, cpu, "bfloat16").status for quant, entry in entries.items()}
    give_numbers = {quant for quant, status in predicted.items() if status is not Status.UNSUPPORTED}
    assert give_numbers - NO_FORMAT == set(FORMATS)


@pytest.mark.parametrize("quant", FORMATS)
def test_a_row_of_zeros(compose, run_context, quant):
    """torchao's float8 divides 0 by 0: its scale, max / 448, has no lower bound; all others give the bias."""
    form = FORMATS[quant]
    dtype = str(form.dtype).removeprefix("torch.")
    run = run_context(compose("model=linear", f"quant={quant}", "quant.emulate=true", f"dtype={dtype}"))
    layer, x = linear((8, 128 if quant == "codebook" else 256, 64), False, 0, form.dtype)
    layer.weight[3], x[5] = 0.0, 0.0
    output = by_scheme(layer, x, run)
    assert bool(output.isfinite().all()) == (quant not in DIVIDES_BY_ZERO)
