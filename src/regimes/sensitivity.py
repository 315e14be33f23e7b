"""Which kinds of layers to leave alone: noise against time, as numbers; `sensitive.py` measures them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from src.config.schema.model import DENOISER
from src.treatments.layers import LayerRow


@dataclass(frozen=True)
class Kind:
    """The layers of one name in all blocks, and what quantizing them alone does to one call of the model."""

    name: str  # block numbers left out: transformer_blocks.*.attn.to_q
    layers: int
    noise: float  # power of the output's error over the output's, without rounding's; inf: NaN or infinity
    gain_ms: float  # of one call of the target; below 0: it becomes slower
    gain_by: str = ""  # rules, probe, both; empty: not known, and taken as 0
    rounding: float = (
        0.0  # likewise, of what happens when nothing but the rounding of these layers' outputs changes
    )

    @property
    def noise_per_ms(self) -> float:
        """What is paid for a millisecond; inf where nothing is gained."""
        return self.noise / self.gain_ms if self.gain_ms > 0 else math.inf

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the noise in dB beside it; noise: None where it is no number."""
        noise = self.noise if self.noise < math.inf else None
        return asdict(self) | {"noise": noise, "sqnr_db": in_db(together([self]))}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Kind":
        """Of `as_dict`."""
        kept = {name: value for name, value in content.items() if name != "sqnr_db"}
        return cls(**kept | {"noise": math.inf if kept["noise"] is None else kept["noise"]})


@dataclass(frozen=True)
class Settled:
    """What is left alone, and the way there."""

    order: list[Kind]  # that which costs most per millisecond first
    left: list[Kind]
    quantized: list[Kind]  # empty: the target cannot be met

    @property
    def predicted_noise(self) -> float:
        """Of the output, with what stays quantized."""
        return together(self.quantized)


def together(kinds: Sequence[Kind]) -> float:
    """The noise of several kinds: powers add up.

    But for what rounding makes of any change in later layers: that comes once, however many kinds are quantized.
    """
    return max((kind.rounding for kind in kinds), default=0.0) + sum(kind.noise for kind in kinds)


def settle(kinds: Iterable[Kind], min_sqnr_db: float) -> Settled:
    """Leave kinds alone by noise per millisecond until the target is predicted.

    A kind that is noisy, and gains so much that it comes late, can make all before it go in vain: what then fits
    beside the others, and gains, is taken back, the cheapest first.

    Args:
        kinds: measured one by one.
        min_sqnr_db: of the output, with the noise powers of the quantized kinds added up.
    """
    order = sorted(kinds, key=lambda kind: (kind.noise_per_ms, kind.noise), reverse=True)
    most = 10 ** (-min_sqnr_db / 10)
    first = next(n for n in range(len(order) + 1) if together(order[n:]) <= most)
    kept = [*order[first:]]
    for kind in reversed(order[:first]):
        fits = together([*kept, kind]) <= most
        if fits and (kind.gain_ms > 0 or not kept):
            kept.append(kind)
    return Settled(order, [kind for kind in order if kind not in kept], kept)


def curve(order: Sequence[Kind]) -> list[dict[str, Any]]:
    """From all quantized to the last one: which kind is left next, and the SQNR and the time saved predicted then."""
    points = []
    for n in range(len(order)):
        rest = order[n:]
        noise, saved_ms = together(rest), sum(kind.gain_ms for kind in rest)
        left = order[n - 1].name if n else ""
        points.append({"left": left, "sqnr_db": in_db(noise), "saved_ms": round(saved_ms, 6)})
    return points


def in_db(noise: float) -> float | None:
    """A relative noise power as SQNR; None where there is none, or where it is no number."""
    return round(-10 * math.log10(noise), 3) if 0 < noise < math.inf else None


def by_kind(module: nn.Module, rows: Iterable[LayerRow]) -> dict[str, list[LayerRow]]:
    """The rows by kind: a number that counts blocks is left out of the name, one that tells layers apart is not."""
    found: dict[str, list[LayerRow]] = {}
    for row in rows:
        found.setdefault(kind_name(module, row), []).append(row)
    return found


def kind_name(module: nn.Module, row: LayerRow) -> str:
    """The layer's name with a star for each number of a block: ``transformer_blocks.*.ff.net.2``.

    Blocks are the members of a list that are of one class, and that class none of torch's own layers.
    """
    inside, here, starred = row.fqn.split("."), module, []
    for part in inside:
        starred.append("*" if part.isdigit() and _are_blocks(here) else part)
        here = here.get_submodule(part)
    parts = row.name.split(".")  # of a block, longer: it has a number of its own; of a pipeline shorter
    for n in range(1, len(parts) + 1):
        if n <= len(inside) and inside[-n] == parts[-n]:
            parts[-n] = starred[-n]
        elif parts[-n].isdigit():
            parts[-n] = "*"
    return ("" if row.component == DENOISER else f"{row.component}: ") + ".".join(parts)


def _are_blocks(parent: nn.Module) -> bool:
    classes = {type(child) for child in parent.children()}
    return len(classes) == 1 and not next(iter(classes)).__module__.startswith("torch.nn.")
