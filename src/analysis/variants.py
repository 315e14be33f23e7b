"""What tells runs of one scheme on one workload apart: the options of the treatment in which they differ."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from src.records.key import PROSE

_TREATED_BY = ("quant.", "compile.", "model.")  # parameters that can tell two treatments apart
_FREE = ("quant.config.", "compile.options.", "model.factory.")
_NOT_A_VARIANT = (".name", ".description", "._target_", ".dims.M", ".dims.K", ".dims.N")
_LAYERS = "quant.layers."  # the rules for layers, and the name of their preset
_PRESET = _LAYERS + "name"
_EVERY_LAYER = "all"  # conf/layers


def variants(rows: Sequence[dict[str, Any]], axes: Sequence[str]) -> list[str]:
    """Per row, the treatment's parameters by which it differs from others with the same axes.

    That only some of the layers were quantized is told where all runs of a scheme have it in common, too.
    """
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[tuple(row.get(name) for name in axes)].append(index)
    found = [""] * len(rows)
    for members in groups.values():
        params = [rows[index]["params"] for index in members]
        differing = [name for name in _options(params) if len({p.get(name, "") for p in params}) > 1]
        differing = _by_preset(differing, params)
        if not any(name.startswith(_LAYERS) for name in differing) and _PRESET in params[0]:
            differing += [_PRESET] * (params[0][_PRESET] != _EVERY_LAYER)
        for index, given in zip(members, params, strict=True):
            found[index] = ", ".join(f"{_short(name)}={given.get(name, 'default')}" for name in differing)
    return found


def _options(params: Sequence[dict[str, str]]) -> list[str]:
    """Parameters to compare: those that all runs have, and what can be added to a configuration freely.

    One that only some have otherwise comes of another version of the schema.
    """
    names = {
        n for given in params for n in given if n.startswith(_FREE) or all(n in other for other in params)
    }
    return sorted(
        n for n in names if n.startswith(_TREATED_BY) and not n.endswith(_NOT_A_VARIANT) and not _is_prose(n)
    )


def _is_prose(name: str) -> bool:
    """Whether a parameter is one of a scheme's words, which its run key does not hold either.

    An argument of a torchao config counts whatever it is called.
    """
    parts = name.split(".")
    said = parts[: parts.index("config")] if "config" in parts else parts
    return parts[0] == "quant" and not PROSE.isdisjoint(said[1:])


def _by_preset(differing: list[str], params: Sequence[dict[str, str]]) -> list[str]:
    """The rules for layers in one word, their preset's name, where that tells the runs apart just as well."""
    rules = [name for name in differing if name.startswith(_LAYERS)]
    settings = {tuple(given.get(name, "") for name in [_PRESET, *rules]) for given in params}
    if not rules or len(settings) > len({preset for preset, *_ in settings}):
        return differing
    return [*(name for name in differing if name not in rules), _PRESET]


def _short(name: str) -> str:
    return name.split(".", 1)[1].removeprefix("config.").removesuffix(".name")
