"""The layer table: every Linear of a workload, the shapes it sees, and what was applied to it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import gcd
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from src.config.paths import command
from src.config.schema.model import DENOISER
from src.config.schema.quant import LayersConf, QuantConf, RequiresConf
from src.workloads.hooks import before, input_of, linears, own_code
from src.workloads.workload import Whole, Workload

GROUP_SIZES = (16, 32, 64, 128)  # usual ones, where the kernel takes any
_NO_LINEAR_REMEDY = (
    "another model or target (torch.nn.MultiheadAttention and the like use their weights without calling a layer); "
    "quant=none measures this one as it is"
)
RULES_REMEDY = "other quant.layers, or layers=all: layers.json lists every layer with the rule that took it"


@dataclass
class LayerRow:
    """One Linear: y[M, N] = x[M, K] W[N, K]^T, `calls` times per forward of the target."""

    fqn: str
    M: int  # rows of the largest call
    K: int
    N: int
    calls: int
    scheme: str = ""  # what was applied
    reason: str = ""  # why nothing was
    component: str = DENOISER  # of a pipeline
    name: str = ""  # inside the whole model, of a pipeline inside the component; what quant.layers speaks of
    least_m: int = 0  # rows of the smallest call: of a pipeline maybe one for a shorter negative prompt

    def __post_init__(self) -> None:
        self.name = self.name or self.fqn
        self.least_m = self.least_m or self.M

    @property
    def shape(self) -> tuple[int, int, int]:
        """(M, K, N)."""
        return (self.M, self.K, self.N)

    @property
    def rows(self) -> list[int]:
        """M of the smallest and of the largest call; of one alone where they are the same."""
        return sorted({self.least_m, self.M})

    def as_dict(self) -> dict[str, Any]:
        """For layers.json."""
        return asdict(self)


@torch.no_grad()
def capture_layers(
    workload: Workload, components: Sequence[str] = (DENOISER,), *, keep: bool = True
) -> tuple[list[LayerRow], dict[tuple[int, int, int], torch.Tensor]]:
    """Run one forward, uncompiled, and list every Linear that was called.

    A row that comes with a reason is not for a scheme to take: it belongs to none of the components.

    Returns:
        The rows in module order, and one real input per distinct shape, [M, K]; none without `keep`.
    """
    rows: dict[str, LayerRow] = {}
    samples: dict[tuple[int, int, int], torch.Tensor] = {}

    def hear(fqn: str, layer: nn.Linear, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = input_of(args, kwargs)
        m, k, n = x.numel() // layer.in_features, layer.in_features, layer.out_features
        component, name = workload.place(fqn)
        reason = "" if component in components else f"{component} is not in quant.components"
        row = rows.setdefault(fqn, LayerRow(fqn, m, k, n, 0, "", reason, component, name))
        row.calls += 1
        row.M, row.least_m = max(row.M, m), min(row.least_m, m)
        if keep:
            samples.setdefault((m, k, n), x.detach().reshape(m, k).clone())

    with own_code(workload.module), before(linears(workload.module), hear):
        workload.call()
    return list(rows.values()), samples


def why_not(row: LayerRow, layers: LayersConf, requires: RequiresConf) -> str:
    """Why a scheme leaves this layer alone: the first rule that says so; empty when it takes it."""
    return next(_reasons(row, layers, requires), "")


def _reasons(row: LayerRow, layers: LayersConf, requires: RequiresConf) -> Iterator[str]:
    if not any(re.search(pattern, row.name) for pattern in layers.include):
        yield "not in quant.layers.include"
    yield from (f"quant.layers.exclude: {p}" for p in layers.exclude if re.search(p, row.name))
    named = [name for name in layers.modules_to_not_convert if _diffusers_matches(name, row.name)]
    yield from (f"quant.layers.modules_to_not_convert: {name}" for name in named)
    if min(row.K, row.N) < layers.min_side:
        yield f"a side below quant.layers.min_side={layers.min_side}"
    if layers.min_m > row.M:
        yield f"M below quant.layers.min_m={layers.min_m}"
    if layers.max_m is not None and layers.max_m < row.M:
        yield f"M above quant.layers.max_m={layers.max_m}"
    if row.K % layers.k_multiple:
        yield f"K={row.K} is not a multiple of quant.layers.k_multiple={layers.k_multiple}"
    if row.N % layers.n_multiple:
        yield f"N={row.N} is not a multiple of quant.layers.n_multiple={layers.n_multiple}"
    if row.K % requires.k_multiple:
        yield f"K={row.K} is not a multiple of {requires.k_multiple}"
    if row.N % requires.n_multiple:
        yield f"N={row.N} is not a multiple of {requires.n_multiple}"
    if row.K * row.N % requires.kn_multiple:
        yield f"K x N={row.K}x{row.N} is not a multiple of {requires.kn_multiple}"
    if requires.least_m > row.least_m:
        yield f"M={row.least_m} is below {requires.least_m}"
    yield from (
        f"M={m} is not a multiple of {requires.m_multiple}" for m in row.rows if m % requires.m_multiple
    )


def _diffusers_matches(module: str, layer: str) -> bool:
    """Whether diffusers 0.42 keeps a layer's weight for an entry of its list (TorchAoHfQuantizer)."""
    weight = f"{layer}.weight"
    return f"{module}." in weight or module == weight


def unmatched(
    layers: LayersConf, rows: Iterable[LayerRow], components: Sequence[str] = (DENOISER,)
) -> list[str]:
    """One warning for each pattern and name that matches no layer of the components: a misspelling, as a rule."""
    names = [row.name for row in rows if row.component in components]
    asked: dict[str, Callable[[str, str], object]] = {
        "include": re.search,
        "exclude": re.search,
        "modules_to_not_convert": _diffusers_matches,
    }
    return [
        f"quant.layers.{key}[{index}]={pattern} matches no layer"
        for key, matches in asked.items()
        for index, pattern in enumerate(getattr(layers, key))
        if names and not any(matches(pattern, name) for name in names)
    ]


def tally(rows: Iterable[LayerRow]) -> str:
    """Which rule left how many layers alone: ``12 x a side below quant.layers.min_side=1024, 3 x ...``."""
    listed = [row for row in rows if row.reason]
    counts = Counter(row.reason for row in listed).most_common()
    first = {row.reason: row.fqn for row in reversed(listed)}
    shown = ", ".join(f"{n} x {why}: {first[why]}{', ...' * (n > 1)}" for why, n in counts[:5])
    rest = sum(n for _, n in counts[5:])
    return shown + (f", {rest} for other reasons" if rest else "")


def what_fits(rows: Sequence[LayerRow], conf: QuantConf, requires: RequiresConf) -> str:
    """What to do when no layer is left: other rules where they took all, a group size that divides K, or less.

    Args:
        rows: of the whole table.
        conf: the scheme, with its rules.
        requires: what it asks of a layer on the device.
    """
    asked = [row for row in rows if row.component in conf.components]
    if not asked:
        others = ", ".join(dict.fromkeys(row.component for row in rows))
        return f"quant.components=[{others}]" if others else _NO_LINEAR_REMEDY
    asked = [row for row in asked if not why_not(row, conf.layers, RequiresConf())]
    if not asked:
        return RULES_REMEDY
    divides_all = gcd(*(row.K for row in asked))
    sizes = [size for size in requires.group_sizes or GROUP_SIZES if not divides_all % size]
    if "group_size" in conf.takes and conf.group_size not in sizes and sizes:
        return f"quant.group_size={max(sizes)}: it divides K of every layer"
    return f"another scheme: {command('run', '--list')} says what each asks of K, N and M"


def fits_none(conf: QuantConf, rows: Sequence[LayerRow]) -> str:
    """Why a scheme that takes no layer at all cannot run; each row has its reason."""
    if not any(row.component in conf.components for row in rows):
        what = "the target" if conf.components == [DENOISER] else ", ".join(conf.components)
        return f"{conf.name} quantizes Linear layers, and {what} calls none"
    return f"{conf.name} fits none of the {len(rows)} Linear layers ({tally(rows)})"


def by_component(workload: Workload, rows: Iterable[LayerRow]) -> dict[str, dict[str, float]]:
    """Per component: Linear layers that were called, those that are quantized, and other layers with a matrix.

    torchao's schemes know Linear only: the convolutions that a VAE consists of are among the others, and a text
    encoder's embeddings. ``quantized_share`` is the part of all its weights that lies in quantized layers.
    """
    listed = list(rows)
    found: dict[str, dict[str, float]] = {}
    for component, module in workload.components().items():
        own = [row for row in listed if row.component == component]
        quantized = [row for row in own if row.scheme]
        inside, others = sum(row.K * row.N for row in quantized), _other_weights(module)
        plain = sum(p.numel() for p in module.parameters() if not is_traceable_wrapper_subclass(p))
        found[component] = {
            "linear": len(own),
            "quantized": len(quantized),
            "quantized_share": round(inside / max(inside + plain, 1), 4),
            "other": len(others),
        }
    return found


def mostly_others(workload: Workload, rows: Iterable[LayerRow]) -> list[str]:
    """One warning for each quantized component most of whose weights no scheme takes."""
    listed, warnings = list(rows), []
    for component, counts in by_component(workload, listed).items():
        module = workload.components()[component]
        others = _other_weights(module)
        if counts["quantized"] and 2 * sum(others.values()) > sum(p.numel() for p in module.parameters()):
            counted = Counter(type(m).__name__ for m in others).most_common()
            kinds = ", ".join(f"{n} {kind}" for kind, n in counted)
            warnings.append(
                f"{component}: the {counts['quantized']:.0f} quantized Linear layers hold "
                f"{counts['quantized_share']:.1%} of its weights; {kinds} stay as they are"
            )
    return warnings


def _other_weights(module: nn.Module) -> dict[nn.Module, int]:
    """Layers with a matrix that are not Linear, and how many numbers it has; one that is shared counts once."""
    found: dict[int, tuple[nn.Module, int]] = {}
    for layer in module.modules():
        weight = None if isinstance(layer, nn.Linear) else getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() > 1:
            found.setdefault(id(weight), (layer, weight.numel()))
    return dict(found.values())


def is_quantized(layer: nn.Linear) -> bool:
    """Whether the weight is stored by a tensor subclass: torchao skips layers without a word."""
    return type(layer.weight) not in (nn.Parameter, torch.Tensor)


def linear_shape(workload: Workload, rows: Iterable[LayerRow]) -> dict[str, int]:
    """M, K, N when the target itself is one Linear, called once; else nothing, also of a model that has but one."""
    listed, module = list(rows), workload.module
    if not (isinstance(module, Whole) and isinstance(module.inner, nn.Linear)):
        return {}
    if len(listed) != 1 or listed[0].calls != 1:
        return {}
    return {"M": listed[0].M, "K": listed[0].K, "N": listed[0].N}
