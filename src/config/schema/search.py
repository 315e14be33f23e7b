"""The typed schema of `hydra/sweeper=breakeven`: what `hydra.sweeper.KEY=VALUE` sets (docs/breakeven.md)."""

from dataclasses import dataclass, field


@dataclass
class SearchConf:
    """A search along one axis for where the speedup crosses 1, for each combination of everything else."""

    axis: str = "M"  # a key whose value is a whole number; a model's dimension (M, K) by its own name
    range: list[int] = field(default_factory=lambda: [1, 16384])  # both ends are measured
    resolution: float = field(default=1.25, metadata={"min": 1.01, "max": 4.0})  # between neighbouring values
    multiple: int = field(default=1, metadata={"min": 1})  # values are multiples of this
    values: list[int] = field(default_factory=list)  # instead of range, resolution and multiple
    max_runs: int | None = field(default=None, metadata={"min": 2})  # in all; null: a quarter of the grid's
    imports: list[str] = field(default_factory=list)  # CSV files of what others measured, to predict by
    params: dict[str, str] = field(default_factory=dict)  # the other axes: key -> values, 1,4,16
