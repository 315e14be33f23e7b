"""What a run's time goes into: the rounds, what they need, and what a setting would leave out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from src.config.schema.root import RootConf

ROUNDS, COMPILE, AGAIN, SEARCH, ENERGY = "rounds", "compile", "compile again", "autoquant's search", "energy"
TRAINED, PACKAGES, STARTS = "training steps", "packages", "starts"
MEMORY, CEILINGS, PROFILE, FURTHER, ELSE = "memory", "ceilings", "profile", "further processes", "all else"
CEILINGS_S = 6.0  # their budget, once per device
PROFILE_S = 5.0  # where no earlier run was profiled; on an H200 one of FLUX.1-dev took 3.5 s
_AGAIN_S, _MEMORY_S = 5.0, 1.0  # where no earlier run of the kind says more
_WINDOWS = 4  # on the energy counter


@dataclass(frozen=True)
class Part:
    """The phases of a record that it is made of, and the setting that leaves it out, if one does."""

    phases: tuple[str, ...] = ()
    without: str = ""


PARTS = {
    ROUNDS: Part(("measure", "power blocks")),
    COMPILE: Part(
        ("compile baseline", "compile treated", "compile float32", "compile bfloat16", "compile float16")
    ),
    "build and quantize": Part(
        ("build", "calibrate", "try layers", "rules", "look at outputs", "check numbers", "quantize")
    ),
    TRAINED: Part(("train", "loss curves")),
    PACKAGES: Part(
        (
            *("package baseline", "package treated", "load package baseline", "load package treated"),
            "compare with eager",
        )
    ),
    STARTS: Part(("start in fresh processes",), "measure.startup=false"),
    SEARCH: Part(("autoquant search", "autoquant wholes", "compile candidates")),
    AGAIN: Part(("compile again, cached",), "measure.warm_compile=false"),
    ENERGY: Part(("energy",), "measure.energy_s=0"),
    MEMORY: Part(("memory",)),
    "host time": Part(("host time",)),
    PROFILE: Part(("profile",), "measure.profile=false"),
    CEILINGS: Part(("ceilings",), "measure.ceilings=false"),
    FURTHER: Part((), "measure.processes=1"),
    ELSE: Part(),
}
_PART_OF = {phase: name for name, part in PARTS.items() for phase in part.phases}


def parts_of(phases_s: Mapping[str, float], wall_s: float) -> dict[str, float]:
    """The parts of a run from its record's phases; what no phase names is part of all else."""
    parts = dict.fromkeys(PARTS, 0.0)
    for phase, seconds in phases_s.items():
        parts[_PART_OF.get(phase, ELSE)] += seconds
    parts[ELSE] += max(0.0, wall_s - sum(phases_s.values()))
    return parts


def guessed_parts(cfg: RootConf, kind: str, processes: int, wall_s: float) -> dict[str, float]:
    """The parts of a run that nothing like it went before: by the settings, and what is left is all else.

    Args:
        kind: torch device type of its device.
        processes: that it is measured in.
        wall_s: what it is guessed to take.
    """
    from src.tasks.arms.timing import cold_caches  # imports torch, which a sweep's own process does without

    measure, counts = cfg.measure, kind == "cuda" and not cold_caches(cfg)
    parts = {
        ROUNDS: processes * measure.budget_s if cfg.task.compares else 0.0,
        AGAIN: _AGAIN_S if measure.warm_compile and cfg.compile.scope != "none" else 0.0,
        ENERGY: _WINDOWS * measure.energy_s if counts and cfg.task.compares else 0.0,
        PROFILE: PROFILE_S if measure.profile else 0.0,
        MEMORY: _MEMORY_S,
    }
    return scaled(parts | {ELSE: max(0.0, wall_s - sum(parts.values()))}, wall_s)


def scaled(parts: Mapping[str, float], wall_s: float) -> dict[str, float]:
    """The same parts of another time."""
    whole_s = sum(parts.values())
    return {name: seconds * wall_s / whole_s if whole_s else 0.0 for name, seconds in parts.items()}


def added(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of several runs, in the order of `PARTS`; a part that none has is left out."""
    sums = dict.fromkeys(PARTS, 0.0)
    for parts in each:
        for name, seconds in parts.items():
            sums[name] += seconds
    return {name: seconds for name, seconds in sums.items() if seconds > 0}
