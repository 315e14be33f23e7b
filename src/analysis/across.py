"""What claims across runs have to hold: each run was measured in processes of its own, and processes differ.

A run in one process does not know by how much, and where other runs of its device do not tell it either, its interval
has nothing of it (`interval` says so). Against its own baseline, which was in the same process, it needs no more;
against another run it does.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from src.analysis.runs.frame import Row
from src.config.schema.root import CompareConf
from src.records.pooled import ESTIMATE
from src.statistics.bootstrap import Array
from src.statistics.pooling import in_words

BETWEEN: float = CompareConf.between  # relative standard deviation between processes


def lacking(runs: pd.DataFrame | Row, confidence: npt.ArrayLike, between: float = BETWEEN) -> Array:
    """Half widths, as logarithms, that intervals of speedups lack of what processes differ by; 0: they have it.

    Args:
        runs: one or several, with ``interval``.
        confidence: of the intervals.
        between: relative standard deviation between processes.
    """
    alone = np.asarray(runs["interval"] == in_words(1, None))
    return np.where(alone, ndtri((1 + np.asarray(confidence, dtype=np.float64)) / 2) * between, 0.0)


def ends(runs: pd.DataFrame | Row) -> tuple[Array, Array]:
    """Both ends of speedups' intervals, with what processes differ by: to be held against those of other runs."""
    ratio, low, high = (np.log(np.asarray(runs[name], dtype=np.float64)) for name in ESTIMATE)
    more = lacking(runs, runs["confidence"])
    return np.exp(ratio - np.hypot(ratio - low, more)), np.exp(ratio + np.hypot(high - ratio, more))
