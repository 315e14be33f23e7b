"""What runs that share a process and rounds are guessed to take."""

from dataclasses import replace

import pytest

from src.local.sharing.grouping import together
from src.planning.guessed import in_shared_rounds
from src.planning.matrix import Launch
from src.planning.parts import ELSE, ROUNDS
from src.planning.planning import plan_runs
from tests.conftest import SMALL_LINEAR

HERE = Launch(together=together)
SCHEMES = ("none", "int8wo", "float8wo", "float8dq")  # the last one cannot run on a CPU
GIVEN = (*SMALL_LINEAR, "gpu=cpu", "measure.budget_s=20", "measure.ceilings=false")


@pytest.fixture
def planned(compose, tmp_path):
    """planned(options, sizes) -> the runs of a plan, all schemes of a size beside each other."""

    def made(*options, sizes=(1, 16)):
        each = [(f"model.dims={{M:{m},K:256,N:128}}", f"quant={quant}") for m in sizes for quant in SCHEMES]
        configs = [compose(*GIVEN, f"outputs={tmp_path}", *options, *more) for more in each]
        return plan_runs(configs, HERE).runs

    return made


def test_probes_of_one_group_share_their_rounds_and_their_start(planned):
    runs = planned("launch.share=auto")
    rounds_s = [run.estimate.parts_s.get(ROUNDS, 0.0) for run in runs]
    assert rounds_s == [20.0, 0.0, 0.0, 0.0] * 2, "once for each size"
    assert [run.estimate.parts_s[ELSE] > 0 for run in runs] == [True, *[False] * 7], "one process"
    apart = planned("launch.share=never")
    assert [run.estimate.parts_s.get(ROUNDS) for run in apart] == [20.0, 20.0, 20.0, None] * 2
    assert sum(run.seconds for run in runs) < sum(run.seconds for run in apart) / 2


def test_calls_that_take_longer_than_the_budget_take_that_each(planned, monkeypatch):
    monkeypatch.setattr("src.planning.times.Times.least_s", lambda *_: 1000.0)
    runs = planned("launch.share=auto", sizes=[16])
    assert min(run.seconds for run in runs[:3]) > 800


def test_of_runs_that_share_no_rounds_the_guess_knows_nothing(planned):
    for options in (["measure.processes=2"], ["model.probe=false"]):
        runs, apart = (planned(f"launch.share={how}", *options, sizes=[16]) for how in ("auto", "never"))
        assert [run.seconds for run in runs] == [run.seconds for run in apart]


def test_earlier_runs_know_better(compose, tmp_path):
    configs = [
        compose(*GIVEN, f"outputs={tmp_path}", "launch.share=auto", f"quant={name}") for name in SCHEMES
    ]
    matrix = plan_runs(configs)
    known = [replace(run, estimate=replace(run.estimate, source="the same")) for run in matrix.runs]
    groups = {group.name: group for group in matrix.groups}
    assert in_shared_rounds(known, configs, groups, HERE) == known
    assert in_shared_rounds(matrix.runs, configs, groups, HERE) != matrix.runs
