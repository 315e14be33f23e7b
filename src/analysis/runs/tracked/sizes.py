"""Sizes of a model in terms of others (`resolution // 16`): whether two come to the same in whatever words."""

from collections.abc import Mapping, Sequence

from src.config.errors import ConfigError
from src.workloads.dims import evaluate

SIZES = "model.dims."
_SAMPLES = (  # of the workloads' axes: what divides some of the sizes leaves a remainder of others
    {"resolution": 512, "frames": 1, "batch": 1},
    {"resolution": 704, "frames": 17, "batch": 2},
    {"resolution": 720, "frames": 49, "batch": 1},
    {"resolution": 1000, "frames": 6, "batch": 3},
    {"resolution": 1024, "frames": 81, "batch": 1},
)


def come_to_the_same(name: str, runs: Sequence[Mapping[str, str]]) -> bool:
    """Whether a size is the same in all runs on every sample where it can be evaluated in several.

    There must be a sample where it can be in all of them; else only the same text is the same.

    Args:
        name: of the option, with `SIZES`.
        runs: the options of each: its other sizes may be part of this one.
    """
    size = name.removeprefix(SIZES)
    found = [[_sizes(run, axes).get(size) for run in runs] for axes in _SAMPLES]
    known = [{value for value in values if value is not None} for values in found]
    return all(len(values) < 2 for values in known) and any(None not in values for values in found)


def _sizes(run: Mapping[str, str], axes: Mapping[str, int]) -> dict[str, int]:
    """Axes and sizes by name; without those that cannot be evaluated, in whatever order they are given."""
    left = {name.removeprefix(SIZES): text for name, text in run.items() if name.startswith(SIZES)}
    known = {name: size for name, size in axes.items() if name not in left}
    while found := _evaluated(left, known):
        known |= found
        left = {name: text for name, text in left.items() if name not in found}
    return known


def _evaluated(texts: Mapping[str, str], known: Mapping[str, int]) -> dict[str, int]:
    found = {}
    for name, text in texts.items():
        try:
            found[name] = evaluate(text, known, f"{SIZES}{name}")
        except ConfigError:
            continue
    return found
