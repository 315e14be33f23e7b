"""What is told beside an answer: other treatments that quantize too, of the same workload alone."""

import pytest

from src.analysis.answers.picks import answers
from src.analysis.ladder import others
from src.analysis.runs.frame import standing, steps_of, tidied
from src.analysis.runs.tracked.source import Runs, attempts
from src.analysis.runs.tracked.tracker import Tracker
from src.config.schema.root import TrackingConf
from tests.analysis.synthetic import made

MORE = {"treatment": "quant, recipe.fused_qkv"}
CACHES = {"treatment": "quant, recipe.cache"}
UNLIKE = {  # of what is beside an answer on the model with the usual options, without step cache
    "unquantized": lambda: made("b", 1.8, quant="none", params=MORE),
    "a training": lambda: made("b", 1.8, params=MORE, task="training"),
    "another model of the name": lambda: made("b", 1.8, params=MORE | {"model.factory.num_layers": "2"}),
    "a step cache in both arms": lambda: made("b", 1.8, params=MORE, recipe="cache=first_block"),
    "other frames": lambda: made("b", 1.8, params=MORE, frames=17),
    "a busy machine": lambda: of_a_busy_machine("b", 1.8, params=MORE),
}


def of_a_busy_machine(*given, **more):
    found = made(*given, **more)
    found.record.verdict = "inconclusive"  # against what its interval says
    return found


def beside(store, *runs):
    """The keys of what is told beside each answer."""
    name, _ = store.experiment([*runs])
    found = attempts(Runs(Tracker(TrackingConf(name="s", uri=store.uri), name).runs()))
    told, _ = answers(standing(tidied(found, 0.02)), others(steps_of(found, 0.02)))
    return [[row["run_key"] for row in each.besides] for each in told]


@pytest.mark.parametrize("unlike", UNLIKE.values(), ids=UNLIKE)
def test_beside_an_answer_are_only_runs_of_the_same_workload(store, unlike):
    alike = made("c", 1.4, quant="float8dq", params=MORE | {"model.factory.num_layers": "8"})
    answered = made("a", 1.33, params={"model.factory.num_layers": "8"})
    assert beside(store, answered, unlike(), alike) == [["c"]]


def test_another_model_of_the_name_is_not_beside_where_it_is_the_only_one(store):
    """Neither the runs of quantizing alone differ in it, nor the others."""
    other = made("b", 1.8, params=MORE | {"model.factory.num_layers": "2"})
    assert beside(store, made("a", 1.33, params={"model.factory.num_layers": "8"}), other) == [[]]


def test_a_step_cache_that_is_added_is_beside_the_answer_without(store):
    added = made("b", 1.8, params=CACHES, recipe="cache=first_block")
    assert beside(store, made("a", 1.33), added) == [["b"]]


def test_a_workload_without_a_size_has_others_beside_it(store):
    assert beside(store, made("a", 1.3, resolution=""), made("b", 1.4, params=MORE, resolution="")) == [["b"]]
