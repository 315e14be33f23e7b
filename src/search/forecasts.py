"""What the rules predict along an axis, from the records on this disk and from what others measured."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from src.analysis.runs.recorded import recorded
from src.config.errors import ConfigError
from src.config.schema.root import AUTO, GpuConf, RootConf
from src.forecasts.evidence.cells import OWN, SHAPE, is_cpu, own_cells, together
from src.forecasts.evidence.imports import read_imports
from src.forecasts.forecast import Forecaster, Query, Z
from src.forecasts.queries import named
from src.search.axis import Guess

_FEWEST = 8  # cells that anything is fitted to
Shape = tuple[int, int, int]  # M, K, N


def forecaster(
    outputs: Path,
    imports: Sequence[str],
    aliases: Mapping[str, str],
    margin: float,
    devices: Iterable[str] = (),
) -> Forecaster | None:
    """Everything fitted to what is known; None where that is next to nothing.

    Args:
        imports: files of what others measured.
        aliases: other names of schemes -> this program's.
        margin: a speedup within it is neutral.
        devices: that are measured on, by their full names.

    Raises:
        ConfigError: an imported file cannot be read.
    """
    own, _ = recorded(outputs, margin) if (outputs / "runs").is_dir() else (pd.DataFrame(), {})
    cells = together(own_cells(own), read_imports(imports, aliases).cells, devices)
    return Forecaster(cells, margin) if len(cells) >= _FEWEST else None


def refuse_unchanged(axis: str, first: RootConf, last: RootConf) -> None:
    """Refuse an axis that a single Linear does not have.

    Raises:
        ConfigError: both ends have the same shape.
    """
    shape = _shape(first)
    if shape is not None and shape == _shape(last):
        raise ConfigError(
            f"hydra.sweeper.axis={axis}: changes nothing of model={first.model.name}, whose M x K x N stays "
            f"{' x '.join(map(str, shape))}; accepted: {', '.join([*first.model.dims, 'batch'])}"
        )


def guesses(
    known: Forecaster | None,
    first: RootConf,
    last: RootConf,
    values: Sequence[int],
    words: Sequence[str] = (),
    device: str = "",
) -> list[Guess | None]:
    """The forecast of each value of an axis; None where nothing is known, and for all of a whole model.

    Args:
        first: the run at the first of the values.
        last: the run at the last of them.
        words: overrides of both; options of the scheme among them make another kernel of it.
        device: the name of the one that they run on; empty: not known.
    """
    shapes = _shapes(first, last, values)
    like = None if known is None else device_like(known.cells, first.gpu, device)
    if known is None or like is None or not shapes:
        return [None] * len(values)
    there = known.cells[known.cells["device"] == like]
    dtype = str(there["dtype"].mode().iloc[0]) if first.dtype == AUTO else first.dtype
    place = (like, first.compile.name, dtype)
    quant = named(first, words)
    found = known([Query(*place, *shape, quant) for shape in shapes])
    rows = zip(found["speedup"], found["low"], found["high"], strict=True)
    return [guess_of(*map(float, row)) for row in rows]


def device_like(cells: pd.DataFrame, gpu: GpuConf, device: str = "") -> str | None:
    """The known device that a run's is taken for: of its name, which has a CPU's threads in it.

    Where several of one name are told apart (`NAME [cache_mib=16]`), it is the newest own one. Of an entry for one
    kind of GPU else the newest own one that it matches, else an imported one; of any other only where the device's
    name is not known.
    """
    own = cells[cells["source"] == OWN]["device"]
    names = list(dict.fromkeys([*reversed(own.tolist()), *cells["device"]]))
    if device in names:
        return device
    if gpu.match:
        names = [name for name in names if re.search(gpu.match, name)]
    elif device:
        names = [name for name in names if name.partition(" [")[0] == device]
    elif gpu._target_.endswith(".CpuDevice"):
        names = [name for name in names if is_cpu(name)]
    else:  # any device of this machine: the one that was measured here
        names = [name for name in names if name in set(own)]
    return names[0] if names else None


def _shapes(first: RootConf, last: RootConf, values: Sequence[int]) -> list[Shape]:
    """The Linear at each value; none where it is none, or where a side neither stays nor grows with the axis."""
    low, high = _shape(first), _shape(last)
    if low is None or high is None:
        return []
    sides = []
    for at_first, at_last in zip(low, high, strict=True):
        if at_first == at_last:
            sides.append([at_first] * len(values))
        elif at_first * values[-1] == at_last * values[0]:
            sides.append([at_first * value // values[0] for value in values])
        else:
            return []
    return list(zip(*sides, strict=True))


def _shape(cfg: RootConf) -> Shape | None:
    dims = cfg.model.dims
    if not cfg.model.probe or not set(SHAPE) <= dims.keys():
        return None
    return (dims["M"] * cfg.batch, dims["K"], dims["N"])


def guess_of(speedup: float, low: float, high: float) -> Guess | None:
    """What a search is told of a forecast; nothing where it is unknown, without numbers."""
    if not all(math.isfinite(number) and number > 0 for number in (speedup, low, high)):
        return None
    return Guess(math.log(speedup), max(math.log(high / low) / (2 * Z), 1e-3))
