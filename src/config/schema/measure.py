"""The typed schema of `conf/measure`: how long and how exactly a run is measured (docs/measurement.md)."""

from dataclasses import dataclass

from omegaconf import MISSING

from src.config.schema.fields import aside, bounded, one_of


@dataclass
class MeasureConf:
    """The measurement protocol's numbers; presets say what they cost and resolve."""

    name: str = aside(MISSING)
    description: str = aside("")
    min_round_ms: float = bounded(10.0, min=0.01)  # calls are batched until a round is this long
    max_warmup_s: float = bounded(5.0, min=0.0)
    min_pairs: int = bounded(12, min=3)
    max_pairs: int = bounded(400, min=3)
    target_ci_width: float = bounded(0.01, min=0.0001, max=1.0)  # of the speedup, relative
    clear_width: float = bounded(
        0.2, min=0.0, max=1.0
    )  # an interval this narrow, of its distance from the margin, ends measuring: the verdict is clear; 0: never
    budget_s: float = bounded(10.0, min=0.1)  # of the paired loop
    processes: int = bounded(
        1, min=1, max=50, key=False
    )  # that measure a run, one after the other, and are pooled
    confidence: float = bounded(0.95, min=0.5, max=0.999)
    margin: float = bounded(0.02, min=0.0, max=0.5)  # a verdict needs the interval beyond it
    bootstrap_samples: int = bounded(2000, min=200, max=100000)
    pairing: str = one_of("auto", "auto", "interleaved", "in_turn")
    in_turn_drift: float = bounded(
        0.05, min=0.0, max=1.0
    )  # arms in turn: relative standard deviation of what differs between the two spans of time, unseen by rounds
    cache: str = one_of(
        "auto", "auto", "cold", "warm"
    )  # auto: cold for a part of a model, flushed before each call
    energy_s: float = bounded(
        2.0, min=0.0, key=False
    )  # at least, of each of an arm's two windows on the energy counter; at the power cap the blocks tell of energy
    warm_compile: bool = True  # time the first call again from the cache, after the steady state
    startup: bool = aside(True)  # of packages: start in fresh processes, from them and by torch.compile
    ceilings: bool = aside(True)  # measure the device's bandwidth and matmul rates, once per device
    profile: bool = aside(False)  # traces, kernel table and memory of one call per arm, after timing
    components: bool = aside(
        True
    )  # of a pipeline, after timing: what each component and step takes, and samples of both arms as files
    timeout_s: float = bounded(
        900.0, min=1.0, key=False
    )  # of each process of the run; past it: outcome timeout
