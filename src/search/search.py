"""The searches of all combinations together: which values go into the next batch, within one budget of runs."""

from collections.abc import Callable, Sequence

from src.search.axis import AxisSearch, Point

SHARE = 4  # a search takes at most one of so many runs of the grid that it stands for
_NARROWS = 1.0  # urgency from which a value narrows something that is there

Asked = tuple[int, int]  # number of the combination, index of the value
Measure = Callable[[list[Asked]], list[Point | None]]


def budget(searches: Sequence[AxisSearch]) -> int:
    """Runs that the searches may take: a quarter of all that a grid over the same values has."""
    return sum(len(each.values) for each in searches) // SHARE


class Search:
    """Asks the combinations in turn what they want, and never for more runs than there may be.

    Args:
        searches: one per combination.
        most: runs in all, those among them that were measured before.
    """

    def __init__(self, searches: Sequence[AxisSearch], most: int) -> None:
        self.searches, self.most = list(searches), most
        self.asked: list[Asked] = []  # in the order asked
        self.batches = 0

    def run(self, measure: Measure, again: Sequence[Asked] = ()) -> bool:
        """Batch after batch, until nothing is wanted or the budget is spent.

        Args:
            measure: what came out at each value of a batch; None where that is not known yet.
            again: what was asked before this process: asked first, and all at once.

        Returns:
            Whether all that was asked for has come out; else the same search goes on from there later.
        """
        batch = list(again) or self.batch()
        while batch:
            self.asked += batch
            self.batches += 1
            points = measure(batch)
            for (number, index), point in zip(batch, points, strict=True):
                if point is not None:
                    self.searches[number].tell(index, point)
            if None in points:
                return False
            batch = self.batch()
        return True

    def batch(self) -> list[Asked]:
        """What is measured next: what narrows crossings first, and then what might hide others.

        Nobody looks for a crossing that there would be no runs left to narrow, unless nothing else is to do.
        """
        wants = [(want, number) for number, each in enumerate(self.searches) for want in each.wanted()]
        wants.sort(key=lambda item: (-item[0].urgency, item[1], item[0].index))
        narrowing = [(want, number) for want, number in wants if want.urgency >= _NARROWS]
        left = max(0, self.most - len(self.asked))  # more may have been asked before, under a larger budget
        batch = [(number, want.index) for want, number in narrowing[:left]]
        left -= sum(want.cost for want, _ in narrowing)
        for want, number in wants[len(narrowing) :]:
            if left >= want.cost or (not batch and len(self.asked) < self.most):
                batch.append((number, want.index))
                left -= want.cost
        return batch
