"""A few runs, analysed once for the tests that only look at what came out."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.analysis.conftest import Store, run_analysis
from tests.analysis.conftest import analysing as analysing
from tests.analysis.conftest import framed as framed
from tests.analysis.conftest import store as store
from tests.analysis.synthetic import linear_runs, model_runs, write_records

SIDES, MS = ((512, 512), (4096, 4096)), (1, 16, 256, 4096)


@dataclass
class Analysed:
    """What one analysis left behind."""

    status: int
    printed: str
    report: Path
    experiment: str
    experiment_id: str


@pytest.fixture(scope="session")
def analysed(store: Store) -> Analysed:
    runs = [*model_runs(), *linear_runs(SIDES, MS)]
    name, experiment_id = store.experiment(runs)
    write_records(store.outputs, runs)
    status, printed = run_analysis(store.conf(name))
    return Analysed(status, printed, store.outputs / "reports" / name, name, experiment_id)
