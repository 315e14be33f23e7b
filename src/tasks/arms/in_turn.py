"""Arms that do not fit on the device together: each is measured by itself, and freed before the next one is made."""

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from src.compilation.scopes import forget_compiled
from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.measurement.memory import give_back
from src.measurement.rounds import Rounds, rounds_in_turn
from src.records.record import write_json
from src.records.settled import settled
from src.serialization.package import unload_packages
from src.tasks.arms.arm import Arm
from src.tasks.arms.baseline import prepare_rival
from src.tasks.arms.components import time_components
from src.tasks.arms.loops import ROUNDS_NAME, alone, watched_run
from src.tasks.arms.profiled import profile_arms
from src.tasks.arms.timing import Timed, energy_j, host_times
from src.timers.host import HostTime
from src.workloads.weights.parameters import let_go


@dataclass
class InTurn:
    """The unquantized arms, measured and freed."""

    baseline: Arm  # without its weights
    measured: Timed  # its rounds, and beside them those of a further arm in a faster dtype

    together: ClassVar[bool] = False
    beside_bytes: ClassVar[int] = 0  # what they hold while a treated arm is measured

    def there(self, treated: Arm) -> dict[str, Arm]:
        """The run's own arms that can be called, by metric prefix."""
        return {"": treated}

    def compile_again(self, run: RunContext) -> None:
        """There is nothing left of them."""

    def measure(self, treated: Arm, run: RunContext) -> Timed:
        """The treated arm by itself, after them; the rounds of all are on disk on return."""
        arms = {run.cfg.dtype: self.measured, **self.measured.others}
        dtype = self._counting_dtype(run)
        counting = arms.pop(dtype)
        timed = time_alone(treated, run, "", against=counting.rounds)
        others = {name: each.rounds for name, each in arms.items()}
        faster = "" if counting is self.measured else dtype
        rounds = rounds_in_turn(counting.rounds, timed.rounds, others, faster)
        write_json(run.folder / ROUNDS_NAME, asdict(rounds))
        if counting.energy_told:  # of several unquantized arms the last one has told of itself
            run.record.details["energy"] = timed.energy_told | counting.energy_told
        watches = [watch for each in (counting, *arms.values(), timed) for watch in each.watches]
        energy, host = counting.energy_j | timed.energy_j, counting.host | timed.host
        return Timed(rounds, watches, energy, host=host)

    def look(self, treated: Arm, conf: MeasureConf, run: RunContext, phase: str) -> Timed:
        """Rounds of a treated arm by itself, by another protocol; nothing is kept of them."""
        with watched_run(run, treated.call) as watch:
            rounds = alone(treated, watch, run, conf=conf, phase=phase)
        return Timed(rounds_in_turn(self.measured.rounds, rounds), [*self.measured.watches, watch])

    def call_ms(self, run: RunContext) -> float:
        """A call of the baseline."""
        return float(np.median(self.measured.rounds.baseline_ms))

    def host(self, call_ms: float, run: RunContext) -> dict[str, HostTime]:
        """What launching a call of the baseline took."""
        return self.measured.host

    def _counting_dtype(self, run: RunContext) -> str:
        """Of the unquantized arm that the verdict is against."""
        others = {name: each.rounds for name, each in self.measured.others.items()}
        known = rounds_in_turn(self.measured.rounds, Rounds(), others)
        known.settled = settled(run.record, "against")
        return known.fastest_other() or run.cfg.dtype


def in_turn(baseline: Arm, faster: str | None, run: RunContext) -> InTurn:
    """The baseline, and the unquantized workload in a faster dtype, measured and freed one after the other."""
    measured = measure_and_free(baseline, run, look=True)
    if rival := prepare_rival(faster, run):
        measured.others[rival.name] = measure_and_free(rival, run, look=False)
    return InTurn(baseline, measured)


def measure_and_free(arm: Arm, run: RunContext, *, look: bool) -> Timed:
    """Rounds of an unquantized arm by itself, and its energy; `look`: at components and profile too, if asked."""
    timed = time_alone(arm, run, "baseline_")
    if look:
        time_components(run, {"baseline_": arm})
        profile_arms(run, arm)
    unload_packages(arm.workload.module)
    let_go(arm.workload.module)
    forget_compiled(keep_reasons=True)  # else CUDA graphs keep their memory, and frozen weights stay
    give_back(run.device)
    return timed


def time_alone(arm: Arm, run: RunContext, prefix: str, against: Rounds | None = None) -> Timed:
    """Rounds of one arm by itself, as `measure_alone` gives them, then its energy under the metric prefix."""
    with watched_run(run, arm.call) as watch:
        rounds = alone(arm, watch, run, against=against)
    write_json(run.folder / f"rounds_{arm.name}.json", asdict(rounds))
    joules = energy_j({prefix: (arm, rounds.calls_per_round[0])}, watch.monitor, run)
    host = host_times({prefix: (arm, rounds.baseline_ms)}, run)
    return Timed(rounds, [watch], joules, host=host, energy_told=dict(run.record.details.get("energy", {})))
