"""What earlier runs know of layers: trials of plans, and runs of one Linear that were measured as a trial is.

Known is what was measured on the same device by the same versions, compiled alike, in the same dtype. Of a candidate
whose interval holds the least gain, or of which two runs contradict each other, nothing is known.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.autoquant.plan import UNQUANTIZED, Choice, Shape, Trial, read_plan
from src.compilation.inductor import asked_options, merged_options
from src.config.errors import ConfigError
from src.config.schema.arms import compiled_as
from src.config.schema.quant import QuantConf
from src.config.schema.root import RootConf
from src.devices.device import Device
from src.records.environment import counted_variables, versions
from src.records.record import EMULATED, RECORD_NAME, Outcome, Record, RecordError, read_record

PLAN_NAME = "plan.json"
DETAIL = "layer_settings"  # in the details of a record whose layers others may know
_TREATED = "latency/median_ms"
_RATIO = ("ratio", "ci_low", "ci_high")
_TIMED = str(Outcome.OK)  # what else a trial may end in, it ends in soon: it is tried again


@dataclass(frozen=True)
class Seen:
    """A candidate that an earlier run timed on a shape."""

    trial: Trial  # its `run` says which
    baseline_ms: float | None  # of one call of the unquantized layer


Told = dict[tuple[Shape, str], Seen]  # by shape and candidate


def layer_settings(cfg: RootConf, device: Device, *, cold: bool, launches: bool) -> str:
    """Equal for runs that time a layer alike: 16 hex digits.

    Args:
        cfg: of the run, its dtype settled.
        device: that it is on.
        cold: whether each call finds the caches cold.
        launches: whether launching is part of the times.
    """
    conf = compiled_as(cfg)
    options = merged_options(asked_options(conf, cfg.quant, device.kind))
    compiled = [conf.backend, conf.mode, conf.dynamic, options] if conf.scope != "none" else []
    if conf.package:  # inductor makes other code ahead of time, and other calls run it
        compiled += ["package", conf.dynamic_shapes]
    content = {
        "device": [device.identity or device.name, device.toolchain],
        "versions": versions(),
        "variables": counted_variables(os.environ),
        "compiled": compiled,
        "measured": [cfg.dtype, cold, launches, cfg.measure.confidence],
    }
    return _hashed(content)


def layer_config(conf: QuantConf, device: Device) -> str:
    """The same for schemes that make the same kernels of a layer."""
    return _hashed(conf.on(device.kind).config)


def by_run(found: Mapping[tuple[Shape, str], Seen]) -> dict[str, dict[str, list[str]]]:
    """For the record: which run timed which candidates on which shape (``MxKxN``)."""
    told: dict[str, dict[str, list[str]]] = {}
    for (shape, name), seen in found.items():
        told.setdefault(seen.trial.run, {}).setdefault("x".join(map(str, shape)), []).append(name)
    return told


class Known:
    """What is known of candidates on shapes.

    Args:
        outputs: folder with the runs of earlier.
        settings: of this run (`layer_settings`).
        configs: candidate -> its `layer_config`.
        least: speedup from which on a candidate gains.
    """

    def __init__(self, outputs: Path, settings: str, configs: Mapping[str, str], least: float) -> None:
        self.configs, self.least = configs, least
        self._seen: dict[tuple[Shape, str], list[Seen]] = defaultdict(list)
        found = [each for each in _records(outputs, settings) if not each[0].details.get("withheld")]
        for record, folder in sorted(found, key=lambda each: each[0].started_at, reverse=True):
            for shape, config, seen in _of_run(record, folder):
                self._seen[shape, config].append(seen)

    def of(self, shape: Shape, candidate: str) -> Seen | None:
        """The newest that was seen of it; None: nothing, or there is doubt."""
        found = self._seen.get((shape, self.configs[candidate]), [])
        if not found or any(self._doubtful(found[0].trial, other.trial) for other in found):
            return None
        newest = found[0]
        return replace(newest, trial=replace(newest.trial, scheme=candidate))

    def of_all(self, shapes: Iterable[Shape]) -> Told:
        """Of shapes and all candidates what need not be timed."""
        asked = {(shape, name): self.of(shape, name) for shape in shapes for name in self.configs}
        return {key: seen for key, seen in asked.items() if seen}

    def tried(self) -> list[Choice]:
        """All shapes that were seen, of any model, without layers: with the trials of which there is no doubt."""
        trials: dict[Shape, list[Trial]] = defaultdict(list)
        for (shape, _), seen in self.of_all({shape for shape, _ in self._seen}).items():
            trials[shape].append(seen.trial)
        return [Choice(*shape, [], UNQUANTIZED, "", trials=own) for shape, own in trials.items()]

    def _doubtful(self, newest: Trial, other: Trial) -> bool:
        spans = [_span(newest), _span(other)]
        holds = spans[0][0] <= self.least < spans[0][1]
        apart = max(low for low, _ in spans) > min(high for _, high in spans)
        return holds or apart


def _span(trial: Trial) -> tuple[float, float]:
    """Its interval; of one that was dropped at first sight all that gains nothing."""
    if trial.ci_low is None or trial.ci_high is None:
        return 0.0, 1.0
    return trial.ci_low, trial.ci_high


def _records(outputs: Path, settings: str) -> Iterator[tuple[Record, Path]]:
    """The records of runs of these settings; others are looked at, not read."""
    for path in outputs.glob(f"runs/*/*/{RECORD_NAME}"):
        try:
            if settings in path.read_text(encoding="utf-8"):
                yield read_record(path), path.parent
        except (OSError, ValueError, RecordError):
            continue


def _of_run(record: Record, folder: Path) -> Iterator[tuple[Shape, str, Seen]]:
    """Shape, config and what was seen: of a plan the trials that it timed itself, else of the run's one Linear."""
    run = f"{record.run_key}/{record.attempt:03d}"
    details = record.details[DETAIL]
    if not record.shape or "config" not in details:
        yield from _of_plan(folder / PLAN_NAME, run)
        return
    family = "speedup_same_dtype" if "speedup_same_dtype/ratio" in record.metrics else "speedup"
    metrics, names = record.metrics, [f"{family}/{part}" for part in _RATIO]
    of_quantizing = record.verdict != EMULATED and "treatment" not in record.axes
    if not (of_quantizing and {*names, _TREATED} <= metrics.keys()):
        return
    ratio, low, high = (metrics[name] for name in names)
    trial = Trial("", _TIMED, "", ratio, low, high, run=run)
    shape = (record.shape["M"], record.shape["K"], record.shape["N"])
    yield shape, details["config"], Seen(trial, ratio * metrics[_TREATED])


def _of_plan(path: Path, run: str) -> Iterator[tuple[Shape, str, Seen]]:
    try:
        plan = read_plan(path)
    except ConfigError:
        return
    for choice in plan.choices:
        for trial in choice.trials:
            if trial.outcome == _TIMED and not trial.run and trial.scheme in plan.configs:
                seen = Seen(replace(trial, run=run, sqnr_db=None, below_floor=False), choice.baseline_ms)
                yield (choice.M, choice.K, choice.N), plan.configs[trial.scheme], seen


def _hashed(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
