"""Files that were merged stay merged as long as they stay as they are, the first of them apart from the last.

Merging costs several times as much as anything else in a composition. Runs differ in the scheme more often than in
the model, and in the model more often than in what comes before both.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import cast

from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.default_element import ResultDefault
from omegaconf import DictConfig

from src.app.composing.repository import Repository

_PARTS = ("model/", "quant/")  # each begins with the first file of this group
_KEPT = 300  # merged files, of about 50 kB each
_Files = tuple[Sequence[object], bytes]  # their states, and what they are when merged
_MERGED: dict[tuple[object, ...], _Files] = {}


class Before(ResultDefault):
    """Stands in a list of defaults for the files that are merged already."""

    def __init__(self, merged: DictConfig) -> None:
        super().__init__("before")
        self.merged = merged


def start_of_last_part(defaults: Sequence[ResultDefault]) -> int:
    """Index of the first file of the last part; 0 where they are one part."""
    paths = [str(each.config_path) for each in defaults]
    starts = (next((i for i, path in enumerate(paths) if path.startswith(part)), 0) for part in _PARTS)
    return max(starts)


def kept(
    kind: str, defaults: Sequence[ResultDefault], repo: IConfigRepository, merged: Callable[[], DictConfig]
) -> DictConfig:
    """What `merged` makes of the files; of the same kind and files, as they were, a copy of what it made before."""
    key = (kind, *((each.config_path, each.package, each.primary) for each in defaults))
    files = cast(Repository, cast(CachingConfigRepository, repo).delegate)
    states = [files.state(str(each.config_path)) for each in defaults]
    known = _MERGED.get(key)
    if None in states:  # whether they are as they were cannot be told
        return merged()
    if known is not None and known[0] == states:
        return cast(DictConfig, pickle.loads(known[1]))  # noqa: S301 - our own bytes
    config = merged()
    if len(_MERGED) >= _KEPT:
        del _MERGED[next(iter(_MERGED))]
    _MERGED[key] = states, pickle.dumps(config)
    return config
