"""On which device a command measures what runs on gpu=auto measured: said where this machine would take another."""

import json
import re
from functools import cache
from pathlib import Path

import yaml

from src.analysis.runs.frame import Plain, Row
from src.config.paths import config_folders
from src.hardware.nvidia import nvidia_names


def gpu_of(row: Row | Plain) -> str:
    """The option of conf/gpu that names a run's device; empty where gpu=auto finds such a one here, or none fits."""
    cards, name, here = cards_of(*config_folders()), str(row["device_name"]), nvidia_names()
    if _kind(row) == "cpu":
        return "cpu" if here else ""
    own = next((card for card, pattern in cards.items() if re.search(pattern, name)), "")
    return "" if not own or any(re.search(cards[own], each) for each in here) else own


def elsewhere(row: Row | Plain) -> str:
    """The device's name, where it is a card that is not here and that no option names; else empty."""
    name = str(row["device_name"])
    unnamed = _kind(row) == "cuda" and str(row["gpu"]) == "auto" and not gpu_of(row)
    known = any(re.search(pattern, name) for pattern in cards_of(*config_folders()).values())
    return "" if not unnamed or known or any(each in name for each in nvidia_names()) else name


def _kind(row: Row | Plain) -> str:
    """Torch's type of the device, by its identity; empty where that is not recorded."""
    text = row["device_identity"]
    return str(json.loads(text).get("kind", "")) if isinstance(text, str) and text else ""


@cache
def cards_of(*folders: Path) -> dict[str, str]:
    """The options of gpu/ in these folders that are cards, each with the pattern of its devices' names.

    Of a file of one name the first folder's counts, as to Hydra. One that cannot be read is told of where it is
    chosen.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for path in (path for folder in folders for path in sorted((folder / "gpu").glob("*.yaml"))):
        if path.stem in seen:
            continue
        seen.add(path.stem)
        try:
            entry = yaml.safe_load(path.read_bytes())
            if isinstance(entry, dict) and entry.get("match"):
                re.compile(entry["match"])
                found[path.stem] = entry["match"]
        except (OSError, yaml.YAMLError, re.error, TypeError):
            continue
    return found
