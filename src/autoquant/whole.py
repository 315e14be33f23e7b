"""Which plan the whole model runs fastest: what the trials of single layers promise is a guess until it does.

The plan and the best uniform scheme are measured against the unquantized model. Where the better one gives less than
was predicted, its shapes are taken back one by one, the smallest promised gain first, and what is no slower for it
stays without. Only what clearly does not win is given up.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from src.autoquant.plan import UNQUANTIZED, Plan, WholeLook
from src.statistics.speedup import SpeedupEstimate, Verdict

_HOPELESS = 0.95  # a uniform scheme of which the trials promise less is not measured
_IN_VAIN = 2  # shapes taken back in a row for nothing: then the others, which promise more, stay


@dataclass(frozen=True)
class Seen:
    """A plan measured as a whole."""

    estimate: SpeedupEstimate
    verdict: Verdict
    disturbed: str = ""  # why the estimate is in doubt; empty: it is not


Measure = Callable[[Plan], Seen | None]  # None: as a whole it does not run


@dataclass
class _Look:
    plan: Plan
    predicted: float
    seen: Seen

    @property
    def clearly_no_win(self) -> bool:
        """Noise and disturbances are no such thing."""
        return not self.seen.disturbed and self.seen.verdict in (Verdict.NEUTRAL, Verdict.HURTS)

    @property
    def wins(self) -> bool:
        return not self.seen.disturbed and self.seen.verdict is Verdict.HELPS

    def keeps_its_promise(self, margin: float) -> bool:
        """Whether it gives what was predicted, by its interval and the margin; that may be no win."""
        return self.predicted <= (1 + margin) * self.seen.estimate.ci_high


class WholeSearch:
    """The search with its looks, in the order taken.

    Args:
        measure: measures a plan as a whole.
        model_ms: a call of the unquantized model.
        margin: of the verdict; a promise may be missed by as much.
        budget_s: no shape is taken back after that; the plan and the uniform scheme are always measured.
        clock: in seconds.
    """

    def __init__(
        self,
        measure: Measure,
        model_ms: float,
        margin: float,
        budget_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.measure, self.model_ms, self.margin, self.budget_s = measure, model_ms, margin, budget_s
        self.clock = clock
        self.wholes: list[WholeLook] = []

    def settle(self, plan: Plan) -> Plan:
        """The plan to apply, with all that was measured to find it; an empty one where nothing wins."""
        looks = [look for what, each in self._contenders(plan) if (look := self._look(what, each))]
        if not looks:
            return plan
        undecided = any(look.seen.disturbed for look in looks)  # then the plan stays, which the trials prefer
        best = self._take_back(
            looks[-1] if undecided else max(looks[::-1], key=lambda look: look.seen.estimate.ratio)
        )
        settled = best.plan
        if best.clearly_no_win or not (plan.schemes() or best.wins):  # where no trial won, the whole has to
            settled = settled.emptied("chosen by its trial, but as a whole the plan did not win")
        return replace(settled, wholes=self.wholes)

    def _contenders(self, plan: Plan) -> list[tuple[str, Plan]]:
        """The uniform scheme first: the plan, which is taken more often, is then the arm that is still there."""
        found = []
        uniform = plan.best_uniform()
        another = uniform is not None and uniform.schemes() != plan.schemes()
        if uniform is not None and another and uniform.predicted_speedup(self.model_ms) >= _HOPELESS:
            found.append((f"{next(iter(uniform.schemes().values()))} wherever it runs", uniform))
        return [*found, ("the plan", plan)] if plan.schemes() else found

    def _take_back(self, best: _Look) -> _Look:
        began, in_vain = self.clock(), 0
        shapes = sorted(
            (choice for choice in best.plan.choices if choice.scheme != UNQUANTIZED),
            key=lambda c: c.saved_ms(),
        )
        for shape in shapes:
            if in_vain == _IN_VAIN or best.seen.disturbed or best.keeps_its_promise(self.margin):
                break
            fewer = best.plan.without(
                shape, f"{shape.scheme} was taken back: the whole is no slower without it"
            )
            if not fewer.schemes() or self.clock() - began > self.budget_s:
                break
            look = self._look(f"without {shape.scheme} in {shape.M}x{shape.K}x{shape.N}", fewer)
            if look and not look.seen.disturbed and look.seen.estimate.ratio >= best.seen.estimate.ratio:
                best, in_vain = look, 0
            else:
                in_vain += 1
        return best

    def _look(self, what: str, plan: Plan) -> _Look | None:
        """Measure a plan; once more where something disturbed it."""
        seen = self.measure(plan)
        if seen is not None and seen.disturbed:
            seen = self.measure(plan)
        if seen is None:
            return None
        predicted, found = plan.predicted_speedup(self.model_ms), seen.estimate
        layers = dict(Counter(plan.schemes().values()))
        self.wholes.append(
            WholeLook(
                what,
                layers,
                predicted,
                found.ratio,
                found.ci_low,
                found.ci_high,
                str(seen.verdict),
                seen.disturbed,
            )
        )
        return _Look(plan, predicted, seen)
