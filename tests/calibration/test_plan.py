"""Every kind in every process, both ways round, in an order that the seed decides."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from src.calibration.experiments.plan import Kind, plan


@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 5))
def test_each_kind_is_dealt_out_evenly_and_both_ways_round(
    experiments: int, processes: int, seed: int
) -> None:
    batches = plan(experiments, (0.02, 0.1), processes, seed)
    assert len(batches) == min(experiments, processes)
    compared = [spec for batch in batches for spec in batch if spec.kind in (Kind.AA, Kind.SLOWDOWN)]
    assert Counter(spec.slowdown for spec in compared) == dict.fromkeys((0.0, 0.02, 0.1), experiments)
    for batch in batches:
        assert [spec.kind for spec in batch].count(Kind.HARNESS) == 1
        for slowdown in (0.0, 0.02, 0.1):
            sides = Counter(spec.swapped for spec in batch if spec.kind != Kind.HARNESS
                            and spec.kind != Kind.BESIDE and spec.slowdown == slowdown)  # fmt: skip
            assert abs(sides[True] - sides[False]) <= 1
            assert abs(sides.total() - experiments / len(batches)) < 1


def test_kinds_are_mixed_and_the_seed_decides_how() -> None:
    assert plan(12, (0.03,), 3, 1) == plan(12, (0.03,), 3, 1)
    assert plan(12, (0.03,), 3, 1) != plan(12, (0.03,), 3, 2)
    assert any(
        [s.slowdown for s in batch] != sorted(s.slowdown for s in batch) for batch in plan(12, (0.03,), 3, 1)
    )
