"""What travels with the program stays beside what was measured, for as much as the two agree."""

import pandas as pd
import pytest

from src.forecasts.evidence.cells import SHAPE
from src.forecasts.forecast import Forecast, Place
from src.forecasts.knowledge import Knowledge
from tests.forecasts.synthetic import made_cells, speedup

CARD = "Made-up 6000"
HERE = f"{CARD} (80 GiB, 700 W)"
KNOWN = made_cells("conf/gpu/made_up.csv", device=CARD)


def measured(most_m: int, times: float = 1.0) -> pd.DataFrame:
    """Own cells of few rows."""
    own = made_cells(device=HERE)
    return (
        own[own["M"] <= most_m].assign(speedup=lambda cells: cells["speedup"] * times).reset_index(drop=True)
    )


def predicted(knowledge: Knowledge) -> Forecast:
    """Of many rows."""
    return knowledge.of(HERE).one(Place(HERE, "default", "bfloat16").query((2048, 3072, 9216), "float8dq"))


@pytest.mark.parametrize("cells", [1, 5, 42])
def test_a_cell_that_is_measured_does_not_make_a_device_known_less(cells):
    knowledge = Knowledge(measured(256).iloc[:cells], 0.02, known=KNOWN)
    found = predicted(knowledge)
    assert found.speedup == pytest.approx(speedup(2048, 3072, 9216, "float8dq"), rel=0.08)
    assert found.verdict == "helps"
    assert knowledge.note(HERE) == (
        f"{cells} cells were measured here on {HERE}; others came with this program (conf/gpu/made_up.csv)"
    )


def test_what_was_measured_stands_before_what_travels():
    own = measured(32)
    beyond = Knowledge(own, 0.02, known=KNOWN).beyond
    assert set(beyond["device"]) == {HERE}
    assert len(beyond) == len(KNOWN) - len(own)
    assert not set(own[SHAPE].itertuples(index=False)) & set(beyond[SHAPE].itertuples(index=False))


def test_what_travels_counts_less_where_what_was_measured_differs():
    alike, faster = (Knowledge(measured(256, times), 0.02, known=KNOWN).beyond for times in (1.0, 1.2))
    for beyond, width in ((alike, 1.0), (faster, 1.2**3.92)):
        assert (beyond["high"] / beyond["low"]).median() == pytest.approx(width, rel=0.1)


def test_a_device_that_only_models_ran_on_has_what_travels_under_its_own_name():
    only_models = Knowledge(measured(32).iloc[:0], 0.02, [HERE], known=KNOWN)
    assert set(only_models.beyond["device"]) == {HERE}
    assert predicted(only_models).verdict == "helps"
