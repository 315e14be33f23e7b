"""Unquantized arms that stay on the device beside the treated one: the rounds of all alternate."""

from dataclasses import dataclass
from typing import ClassVar

from src.config.schema.measure import MeasureConf
from src.context import RunContext
from src.devices.monitor import Monitor
from src.measurement.paired import Arms
from src.measurement.power_blocks import PowerBlocks, measure_power_blocks, stands_at_cap
from src.measurement.rounds import Rounds
from src.records.record import write_json
from src.records.settled import ALTERNATING, BLOCKS, note_otherwise, settled
from src.tasks.arms.arm import Arm, prepare_again
from src.tasks.arms.loops import ROUNDS_NAME, alternate, watched_run
from src.tasks.arms.timing import Timed, Watch, conditions, energy_j, host_times
from src.timers.host import HostTime
from src.timers.steps import mark_step


@dataclass
class SideBySide:
    """The unquantized arms, ready to be timed."""

    baseline: Arm
    rival: Arm | None = None  # in a faster dtype

    together: ClassVar[bool] = True  # all arms are held at once

    @property
    def unquantized(self) -> list[Arm]:
        """All of them."""
        return [self.baseline, self.rival] if self.rival else [self.baseline]

    @property
    def beside_bytes(self) -> int:
        """What they hold while a treated arm is measured."""
        return sum(arm.model_bytes + arm.workload.state_bytes() for arm in self.unquantized)

    @property
    def held_bytes(self) -> int:
        """What they hold between two runs: weights, and the arguments of a call."""
        return self.beside_bytes + sum(arm.workload.given_bytes() for arm in self.unquantized)

    def writes(self) -> tuple[int, ...]:
        """How often each weight was written to since it was made."""
        return tuple(
            weight._version for arm in self.unquantized for weight in arm.workload.module.parameters()
        )

    def there(self, treated: Arm) -> dict[str, Arm]:
        """The run's own arms that can be called, by metric prefix."""
        return {"baseline_": self.baseline, "": treated}

    def again(self, run: RunContext) -> "SideBySide":
        """The same arms for one more run of this process; they are compiled again, from the cache."""
        rival = self.rival
        baseline = prepare_again(self.baseline, rival.model_bytes if rival else 0, run)
        return SideBySide(baseline, prepare_again(rival, baseline.model_bytes, run) if rival else None)

    def compile_again(self, run: RunContext) -> None:
        """Call each outside the rounds: autoquant's trials and warm first calls made Dynamo forget it."""
        with run.phase("compile baseline"):
            for arm in self.unquantized:
                mark_step(run.device)
                arm.call()

    def measure(self, treated: Arm, run: RunContext) -> Timed:
        """Rounds of all arms in turn, then the energy of each; the rounds are on disk whatever happens."""
        rounds = Rounds(settled=settled(run.record, "against"))
        others = {self.rival.name: self.rival.call} if self.rival else {}
        with watched_run(run, self.baseline.call, treated.call, *others.values()) as watch:
            rounds = alternate(
                self.baseline, treated, watch, run, rounds=rounds, others=others, keep=ROUNDS_NAME
            )
            blocks = self.power_blocks(treated, rounds, watch.monitor, run)
        return self.timed(treated, rounds, blocks, watch, run)

    def look(self, treated: Arm, conf: MeasureConf, run: RunContext, phase: str) -> Timed:
        """Rounds of the baseline and a treated arm alone, by another protocol; nothing is kept of them."""
        with run.phase("compile baseline"):
            mark_step(run.device)
            self.baseline.call()
        with watched_run(run, self.baseline.call, treated.call) as watch:
            rounds = alternate(self.baseline, treated, watch, run, conf=conf, phase=phase)
        return Timed(rounds, [watch])

    def call_ms(self, run: RunContext) -> float:
        """A call of the baseline."""
        timer = conditions(run.cfg).timer(run.device)
        return min(timer.ms_per_call(self.baseline.call, 1) for _ in range(3))

    def host(self, call_ms: float, run: RunContext) -> dict[str, HostTime]:
        """What launching a call of the baseline takes."""
        return host_times({"baseline_": (self.baseline, [call_ms])}, run)

    def power_blocks(
        self, treated: Arm, rounds: Rounds, monitor: Monitor, run: RunContext
    ) -> PowerBlocks | None:
        """Blocks of both arms where their alternating rounds stood at the power cap; on disk on return.

        In a further process of a run there are some where the first had some.
        """
        if not _in_blocks(rounds, run):
            return None
        timer = conditions(run.cfg).timer(run.device)
        counting = self._counting(rounds, run)
        arms = Arms(counting.call, treated.call, timer, monitor, rounds.calls_per_round)
        blocks = PowerBlocks()
        try:
            with run.phase("power blocks"):
                measure_power_blocks(arms, run.cfg.measure, blocks)
        finally:
            write_json(run.folder / "power_blocks.json", blocks.as_dict())
        return blocks

    def timed(
        self, treated: Arm, rounds: Rounds, blocks: PowerBlocks | None, watch: Watch, run: RunContext
    ) -> Timed:
        """The rounds, with the energy and the host's time of both arms, measured now."""
        baseline, sizes = self._counting(rounds, run), rounds.calls_per_round
        energies = {"baseline_": (baseline, sizes[0]), "": (treated, sizes[1])}
        timed = Timed(rounds, [watch], energy_j(energies, watch.monitor, run, blocks), blocks=blocks)
        times = {"baseline_": (baseline, rounds.baseline_ms), "": (treated, rounds.treated_ms)}
        timed.host |= host_times(times, run)
        return timed

    def _counting(self, rounds: Rounds, run: RunContext) -> Arm:
        """The arm whose rounds are the baseline's."""
        return self.rival if self.rival and run.cfg.dtype in rounds.others else self.baseline


def _in_blocks(rounds: Rounds, run: RunContext) -> bool:
    capped, way = stands_at_cap(rounds), settled(run.record, "way")
    if capped and way == ALTERNATING:
        note_otherwise(
            run.record, "at the power cap, as the first was not; its alternating rounds count, as there"
        )
    return capped if way is None else way == BLOCKS
