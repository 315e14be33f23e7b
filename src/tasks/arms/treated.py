"""The treated arm: the scheme applied to a second copy of the model, compiled and called once."""

from dataclasses import replace

from src.context import RunContext
from src.tasks.arms.arm import Arm, prepare
from src.tasks.arms.untreated import Untreated
from src.treatments.layers import LayerRow
from src.treatments.routes.making import make_treated
from src.treatments.scheme import Scheme
from src.workloads.workload import Workload


class Treatment:
    """How the treated arm comes about: the scheme is applied, and what comes of it is measured."""

    def __init__(self, scheme: Scheme, given: Untreated, run: RunContext) -> None:
        self.scheme, self.given, self.run = scheme, given, run
        self.rows = _copied(given.rows)  # of all layers, with what was done to each

    def arm(self) -> Arm:
        """Make it.

        Raises:
            RunEndedError: `unsupported`, when no layer can be quantized.
        """
        return self.made(self.given.rows)

    def made(self, rows: list[LayerRow]) -> Arm:
        """The scheme applied to the layers that these rows leave to it."""
        self.rows = _copied(rows)
        baseline = self.given.arms.baseline.workload
        workload = make_treated(self.scheme, baseline, self.second, self.rows, self.run)
        return replace(prepare("treated", workload, self.run), rows=self.rows)

    def second(self) -> Workload:
        """The unquantized workload once more, to be treated."""
        return self.given.second(self.run)

    def gives_up(self) -> bool:
        """Whether what was measured does not count, for the scheme has another arm to be measured in its place."""
        return False

    def note(self) -> None:
        """Say in the record what else there is to say of the scheme once its arm was measured."""


def _copied(rows: list[LayerRow]) -> list[LayerRow]:
    return [replace(row) for row in rows]
