"""Devices that have the same name and are not the same: told apart by what differs between them."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

Device = tuple[str, str]  # name, and identity as JSON; runs of before there were identities have none


def told_apart(devices: Iterable[Device]) -> dict[Device, str]:
    """What each device is called: its name, and where several have that name what differs: ``... [cache_mib=16]``."""
    same: dict[str, dict[Device, dict[str, Any]]] = defaultdict(dict)
    for device in devices:
        name, identity = device
        same[name][device] = json.loads(identity) if identity else {}
    return {
        device: f"{name}{_differs(identity, [*members.values()])}"
        for name, members in same.items()
        for device, identity in members.items()
    }


def called(pairs: pd.DataFrame) -> "pd.Series[str]":
    """What each run's device is called, by its name and identity."""
    number = pairs.groupby([*pairs], sort=False).ngroup().to_numpy()
    each = [(str(name), str(identity)) for name, identity in pairs.drop_duplicates().itertuples(index=False)]
    names_of = told_apart(each)
    names = np.array([names_of[pair] for pair in each], dtype=object)
    return pd.Series(names[number], pairs.index, dtype="str")


def _differs(identity: dict[str, Any], all_of_them: list[dict[str, Any]]) -> str:
    if len(all_of_them) == 1:
        return ""
    if not identity:
        return " [identity not recorded]"
    known = [each for each in all_of_them if each]
    names = [name for name in identity if any(each.get(name) != identity[name] for each in known)]
    told = ", ".join(f"{name}={_text(identity[name])}" for name in names)
    return f" [{told}]" if told else ""


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(f"{name} {_text(inner)}" for name, inner in value.items())
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
