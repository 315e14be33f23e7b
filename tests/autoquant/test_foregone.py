"""Which of autoquant's trials are not made, since those of other shapes say enough."""

import pytest

from src.autoquant.foregone import foregone, telling_order
from src.autoquant.plan import Choice, Trial


def tried(shape, **speedups):
    """A shape with its trials; of a speedup given as a pair the second is the interval's upper end."""
    found = []
    for name, given in speedups.items():
        speedup, high = given if isinstance(given, tuple) else (given, given * 1.02)
        found.append(Trial(name, "ok", "", speedup, high and speedup * 0.98, high))
    return Choice(*shape, layers=[], scheme="none", reason="", trials=found)


SMALL_M, LARGE_M = (1, 512, 3072), (320, 2560, 512)


@pytest.mark.parametrize("shape", [(1, 512, 1536), (64, 512, 2048), (320, 512, 2048)])
def test_what_lost_on_both_sides_is_not_tried_between(shape):
    both = [tried(SMALL_M, a=0.7), tried(LARGE_M, a=0.85)]
    assert foregone("a", shape, both) == "slower in 1x512x3072 and in 320x2560x512"


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((64, 512, 2048), [tried(LARGE_M, a=0.5)]),  # weights only: a small M may still gain
        ((64, 512, 2048), [tried(SMALL_M, a=0.5)]),  # quantized activations: a large one
        ((1, 512, 1024), [tried(SMALL_M, a=0.5)]),  # one shape is no two
        ((640, 512, 2048), [tried(SMALL_M, a=0.5), tried(LARGE_M, a=0.5)]),
        ((64, 512, 4096), [tried(SMALL_M, a=0.5), tried(LARGE_M, a=0.5)]),  # a larger weight gains more
        ((256, 512, 64), [tried(SMALL_M, a=0.5), tried(LARGE_M, a=0.5)]),  # a tiny one is another matter
        ((64, 512, 2048), [tried(SMALL_M, a=0.5), tried(LARGE_M, a=(0.88, 0.91))]),  # not clearly
        ((64, 512, 2048), [tried(SMALL_M, a=1.5), tried(LARGE_M, a=0.5)]),
        ((64, 512, 2048), [tried(SMALL_M, b=0.5), tried(LARGE_M, a=0.5)]),
        ((64, 512, 2048), [tried(SMALL_M, a=0.5), tried(LARGE_M)]),  # its kernel refused the other
        ((320, 512, 2048), [tried(LARGE_M, a=0.5), tried(LARGE_M, a=0.6)]),  # one shape, timed twice
        ((64, 512, 2048), []),
    ],
)
def test_what_may_gain_is_tried(shape, found):
    assert foregone("a", shape, found) == ""


def test_what_was_dropped_at_first_sight_has_lost():
    dropped = [tried(SMALL_M, a=(0.4, None)), tried(LARGE_M, a=(0.6, None))]
    assert foregone("a", (64, 512, 1024), dropped)


def test_shapes_that_say_something_of_others_come_first():
    shapes = [(256, 64, 512), (64, 512, 2048), (1, 512, 3072), (320, 512, 2048), (256, 2048, 512)]
    assert telling_order(shapes) == [
        (1, 512, 3072),
        (64, 512, 2048),
        (320, 512, 2048),
        (256, 2048, 512),
        (256, 64, 512),
    ]
