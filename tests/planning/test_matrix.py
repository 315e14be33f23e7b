"""Whatever is predicted of the runs, the counts of a plan add up."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from src.planning.cards import Card
from src.planning.hours import GUESS, Estimate, sources
from src.planning.matrix import Fate, Group, Launch, Matrix, PlannedRun, fates, hours

GROUPS = {name: Group(name, name, Card(None, False, "nowhere")) for name in ("h100", "a100", "cpu")}
RUNS = st.builds(
    PlannedRun,
    axes=st.fixed_dictionaries(
        {
            "gpu": st.sampled_from(sorted(GROUPS)),
            "quant": st.sampled_from(["none", "int8wo", "float8dq"]),
            "batch": st.sampled_from(["1", "4", "16"]),
            "dtype": st.just("bfloat16"),
        }
    ),
    group=st.sampled_from(sorted(GROUPS)),
    fate=st.sampled_from(list(Fate)),
    estimate=st.builds(Estimate, st.floats(0, 1e4), st.sampled_from([GUESS, "the same"])),
    reason=st.sampled_from(["", "no kernel", "too large"]),
)
MATRICES = st.builds(
    Matrix,
    runs=st.lists(RUNS, max_size=80),
    groups=st.just(list(GROUPS.values())),
    launch=st.builds(Launch, at_once=st.sampled_from([None, 1, 4]), elsewhere=st.booleans()),
)


@given(MATRICES)
def test_every_run_is_counted_once(matrix: Matrix) -> None:
    everything = Counter(map(id, matrix.runs))
    assert fates(matrix.runs).total() == len(matrix.runs)
    assert Counter(id(run) for group in matrix.groups for run in matrix.of(group)) == everything
    for most in (1, 5, 60, 1000):
        assert Counter(id(run) for _, runs in matrix.rows(most) for run in runs) == everything
    said = [run for _, _, _, runs in matrix.reasons() for run in runs]
    assert len(said) == sum(run.fate is not Fate.RUN for run in matrix.runs)
    assert sum(sources(run.estimate for run in matrix.runs).values()) == len(matrix.runs)


@given(MATRICES, st.integers(1, 100))
def test_rows_are_no_more_than_asked_and_each_is_of_one_kind(matrix: Matrix, most: int) -> None:
    rows = matrix.rows(most)
    assert len(rows) <= max(1, most)
    for values, runs in rows:
        assert all(run.axes[name] == value for run in runs for name, value in values.items())
    assert len({tuple(values.items()) for values, _ in rows}) == len(rows)


@given(MATRICES)
def test_hours_and_wall_clock(matrix: Matrix) -> None:
    total = hours(matrix.runs)
    assert total * 3600 <= sum(run.estimate.seconds for run in matrix.runs) + 1e-6
    assert abs(sum(hours(matrix.of(group)) for group in matrix.groups) - total) < 1e-6
    longest = max((run.seconds for run in matrix.runs), default=0.0)
    assert longest - 1e-6 <= matrix.wall_s() <= total * 3600 + 1e-6


def test_a_plan_of_this_machine_takes_one_run_after_another_a_cluster_group_beside_group() -> None:
    runs = [
        PlannedRun({"gpu": name}, name, Fate.RUN, Estimate(60.0, GUESS)) for name in ("h100",) * 4 + ("a100",)
    ]
    groups = [GROUPS["h100"], GROUPS["a100"]]
    assert Matrix(runs, groups).wall_s() == 300
    assert Matrix(runs, groups, Launch(at_once=2, elsewhere=True)).wall_s() == 120
    assert Matrix(runs, groups, Launch(at_once=None, elsewhere=True)).wall_s() == 60
