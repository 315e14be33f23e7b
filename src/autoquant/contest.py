"""The candidates against each other: tried on one layer of each shape, which gets the fastest of those that gain.

Of layers of one shape those with a bias are decided on by themselves: they have other kernels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from src.autoquant.foregone import foregone
from src.autoquant.known import Seen
from src.autoquant.plan import NOT_TRIED, UNQUANTIZED, Choice, Shape, Trial
from src.autoquant.trials import Bench
from src.config.schema.quant import QuantConf
from src.treatments.layers import LayerRow
from src.treatments.scheme import TorchaoScheme


class Contest:
    """Decides shape after shape; what came out on earlier ones may say that a candidate need not be tried."""

    def __init__(
        self, candidates: Mapping[str, TorchaoScheme], conf: QuantConf, earlier: Sequence[Choice] = ()
    ) -> None:
        """Args: earlier: shapes that other runs tried candidates on."""
        self.candidates, self.conf, self.earlier = candidates, conf, earlier
        self.choices: list[Choice] = []  # in the order in which they were made

    def decide(self, layers: list[LayerRow], bench: Bench, known: Mapping[str, Seen]) -> None:
        """Try the candidates on one layer of a shape, and choose.

        Args:
            layers: of that shape, all with a bias or all without.
            bench: to try them on.
            known: what earlier runs timed, by candidate: of that only the output is looked at.
        """
        choice, shape = unquantized(layers), layers[0].shape
        choice.trials, choice.baseline_ms = self._tried(shape, bench, known)
        for trial in choice.trials:
            trial.below_floor = is_below_floor(trial, self.conf)
        good = [trial for trial in choice.trials if self._gains(trial)]
        if good:
            best = max(good, key=lambda trial: trial.speedup or 0.0)
            by = f", timed by {best.run}" if best.run else ""
            choice.scheme, choice.reason = best.scheme, f"{best.speedup:.2f}x in its shape{by}"
        else:
            choice.reason = "no candidate is faster beyond noise and above the quality floor"
        self.choices.append(choice)

    def _tried(
        self, shape: Shape, bench: Bench, known: Mapping[str, Seen]
    ) -> tuple[list[Trial], float | None]:
        """A trial per candidate, also of those that need none; milliseconds of a call of the unquantized layer."""
        tried = [*self.choices, *self.earlier]
        needless = {name: foregone(name, shape, tried) for name in self.candidates if name not in known}
        wanted = [name for name, why in needless.items() if not why]
        made = {name: Trial(name, NOT_TRIED, why) for name, why in needless.items()}
        try:
            trials, timed_ms = bench.try_schemes(self.candidates[name] for name in wanted)
            made |= dict(zip(wanted, trials, strict=True))
            made |= {name: bench.look(self.candidates[name], seen.trial) for name, seen in known.items()}
        finally:
            torch._dynamo.reset()
        times_ms = [timed_ms, *(seen.baseline_ms for seen in known.values())]
        baseline_ms = min((ms for ms in times_ms if ms is not None), default=None)
        return [made[name] for name in self.candidates], baseline_ms

    def _gains(self, trial: Trial) -> bool:
        if trial.ci_low is None or trial.ci_low <= 1 + self.conf.min_gain:
            return False
        if trial.below_floor:
            trial.reason = (
                f"faster, but {trial.sqnr_db:.1f} dB is below quant.min_sqnr_db={self.conf.min_sqnr_db}"
            )
            return False
        return True


def is_below_floor(trial: Trial, conf: QuantConf) -> bool:
    """Whether its output is too far off."""
    return trial.sqnr_db is not None and trial.sqnr_db < conf.min_sqnr_db


def by_bias(module: nn.Module, layers: Sequence[LayerRow]) -> list[list[LayerRow]]:
    """Layers of a module: those without a bias and those with one, where there are any."""
    kinds: dict[bool, list[LayerRow]] = {False: [], True: []}
    for row in layers:
        kinds[module.get_submodule(row.fqn).bias is not None].append(row)
    return [rows for rows in kinds.values() if rows]


def unquantized(layers: Sequence[LayerRow]) -> Choice:
    """The layers of a shape before anything is chosen for them."""
    choice = Choice(*layers[0].shape, layers=[row.fqn for row in layers], scheme=UNQUANTIZED, reason="")
    choice.calls = sum(row.calls for row in layers)
    return choice
