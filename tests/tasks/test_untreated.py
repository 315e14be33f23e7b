"""What runs of one process hand on to each other, and what they are told of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.config.schema.root import RootConf
from src.context import RunContext
from src.local.sharing.group import as_equal_pair
from src.local.sharing.process import LEFT, Sharing
from src.records.record import Outcome, Record, read_record
from src.run import execute
from src.statistics.speedup import SpeedupEstimate
from src.statistics.speedup import verdict as verdict_of
from src.tasks.equal_pair import came_out_equal, measure_equal_pair
from tests.composing import Compose
from tests.conftest import SMALL_LINEAR, identity, synthetic_rounds

HERE = __name__


def scribble(run: RunContext) -> None:
    """A treatment that reaches the baseline's weights."""
    from src.tasks.latency import measure_latency

    measure_latency(run)
    assert run.kept is not None
    weight = next(run.kept.content.arms.baseline.workload.module.parameters())
    with torch.no_grad():
        weight.add_(1)


@pytest.fixture
def shared(tmp_path: Path) -> Callable[..., Record]:
    """shared(cfg, ...) -> the record of each run on disk, all in one process: this one, whose first is a pair."""
    sharing, taken = Sharing(execute), 0

    def run(cfg: RootConf) -> Record:
        nonlocal taken
        taken += 1
        folder = tmp_path / str(taken)
        folder.mkdir()
        sharing([(cfg, identity(cfg), folder)], lambda _: None)
        return read_record(folder / "record.json")

    return run


def test_a_later_run_says_what_a_first_one_says_but_for_how_the_baseline_was_made(
    compose: Compose, shared: Callable[[RootConf], Record]
) -> None:
    options = (*SMALL_LINEAR, "compile=default")
    pair = shared(as_equal_pair(compose(*options, "quant=int8wo")))
    assert pair.outcome is Outcome.OK, pair.reason
    first, second = (shared(compose(*options, f"quant={quant}")) for quant in ("int8wo", "int8wo"))
    assert (first.outcome, first.details.get(LEFT)) == (Outcome.OK, None), first.reason
    assert second.metrics["quality/sqnr_db"] == first.metrics["quality/sqnr_db"]
    assert set(second.metrics) == set(first.metrics) - {"compile/cold_s"}
    assert not [name for name in second.metrics if name.startswith(("compile/baseline_", "memory/build"))]
    assert second.details["baseline_made_by"] == first.run_key
    assert second.details["inductor"].keys() == {"baseline", "treated"}
    assert second.metrics["compile/cache_misses"] == 0
    assert second.metrics["compile/graph_breaks"] == 0
    assert second.shape == {"M": 16, "K": 256, "N": 128}


def test_another_workload_replaces_what_was_kept(
    compose: Compose, shared: Callable[[RootConf], Record]
) -> None:
    shared(as_equal_pair(compose(*SMALL_LINEAR)))
    other = shared(compose("model=linear", "model.dims={M:8,K:128,N:64}", "quant=int8wo"))
    again = shared(compose("model=linear", "model.dims={M:8,K:128,N:64}", "quant=none"))
    assert (other.outcome, again.outcome) == (Outcome.OK, Outcome.OK)
    assert "baseline_made_by" not in other.details
    assert "baseline_made_by" in again.details
    assert other.shape == again.shape == {"M": 8, "K": 128, "N": 64}
    assert other.details.get(LEFT) is again.details.get(LEFT) is None


def test_weights_of_the_baseline_that_a_run_wrote_to_are_told(
    compose: Compose, shared: Callable[[RootConf], Record]
) -> None:
    shared(as_equal_pair(compose(*SMALL_LINEAR)))
    record = shared(compose(*SMALL_LINEAR, "quant=int8wo", f"task._target_={HERE}.scribble"))
    assert record.details[LEFT] == ["weights of the baseline that were written to"]


def test_without_memory_for_a_second_copy_there_is_no_equal_pair(
    compose: Compose, shared: Callable[[RootConf], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.tasks.arms.untreated.fits_twice", lambda *_: False)
    record = shared(as_equal_pair(compose(*SMALL_LINEAR)))
    assert record.outcome is Outcome.UNSUPPORTED
    assert "second copy" in record.reason


@pytest.mark.parametrize(
    ("speedups", "verdict"),
    [([1.0], "neutral"), ([1.1, 1.0], "neutral"), ([1.1, 1.1], "helps")],
)
def test_an_equal_pair_is_tried_with_another_twin_before_it_counts(
    compose: Compose,
    run_context: Callable[[RootConf], RunContext],
    monkeypatch: pytest.MonkeyPatch,
    speedups: list[float],
    verdict: str,
) -> None:
    given = iter(speedups)

    def rounds(*_: object, rounds: object, **__: object) -> object:
        vars(rounds).update(vars(synthetic_rounds(next(given))))
        return rounds

    monkeypatch.setattr("src.tasks.arms.loops.measure_interleaved", rounds)
    cfg = as_equal_pair(compose(*SMALL_LINEAR, "quant=int8wo"))
    run = run_context(cfg)
    measure_equal_pair(run)
    assert (run.record.verdict, list(given)) == (verdict, [])
    assert run.record.details.get("equal", False) == (verdict == "neutral")


@pytest.mark.parametrize(
    ("low", "high", "equal"),
    [
        (0.995, 1.003, True),
        (0.978, 1.007, True),  # a little beside 1, undecided
        (0.95, 1.05, False),  # too wide to say anything
        (0.97, 0.995, False),  # told apart from 1
        (1.03, 1.05, False),
    ],
)
def test_a_pair_comes_out_equal_if_narrow_and_around_1(low: float, high: float, equal: bool) -> None:
    estimate = SpeedupEstimate((low + high) / 2, low, high, 30, 1)
    assert came_out_equal(estimate, verdict_of(estimate, 0.02), 0.02) == equal
