"""layers=sensitive: of a scheme's layers those are left alone that cost the most quality per millisecond gained.

Kinds of layers are quantized one at a time, in copies that are put in place of the layers for one call. What a kind
gains is predicted by the rules, as for quant=regime; shapes of which they know nothing are timed, as autoquant does.
"""

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from src.autoquant.plan import Shape
from src.autoquant.trials import Bench
from src.config.schema.model import DENOISER
from src.config.schema.quant import QuantConf
from src.context import RunContext
from src.devices.device import Device
from src.forecasts.models.asking import Rules
from src.outcomes import RunEndedError, unsupported
from src.quality.sqnr import on_cpu
from src.records.record import Outcome, write_json
from src.regimes.noise import copied, noise_of, one_call, rounded_otherwise
from src.regimes.sensitivity import Kind, Settled, by_kind, curve, in_db, settle, together
from src.treatments.applied import Choices
from src.treatments.layers import LayerRow, capture_layers
from src.treatments.observing import Inputs
from src.treatments.scheme import Scheme, TorchaoScheme
from src.workloads.hooks import after, own_code
from src.workloads.workload import Workload

NAME = "sensitive.json"
RULES, PROBE = "rules", "probe"
_BASELINE = "baseline"  # the folder of a quantized baseline's own files
_UNKNOWN = "unknown"  # a verdict of the rules
_KEY = "quant.layers.sensitive.min_sqnr_db"
Gains = dict[Shape, tuple[float, str]]  # ms of a call of one such layer, and who says so


class Sensitive:
    """A scheme that is applied to fewer layers than it could take."""

    def __init__(self, conf: QuantConf, scheme: Scheme) -> None:
        self.conf, self.scheme = conf, scheme
        self.min_sqnr_db = conf.layers.sensitive.min_sqnr_db

    def check(self, device: Device, dtype: str) -> None:
        """What the scheme needs."""
        self.scheme.check(device, dtype)

    def observes(self, device: Device) -> bool:
        """The workload is called for every kind of layer."""
        return True

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """What the scheme takes of the layers that were not left alone."""
        return self.scheme.choose(rows, run)

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Quantize these."""
        self.scheme.apply(workload, rows, run)

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Give the layers their reason that are to be left alone; what was found goes to ``sensitive.json``.

        Only the denoiser's layers are weighed: a scheme takes those of other components as it would without this.

        Raises:
            RunEndedError: `unsupported`, where no kind can be quantized within the target.
        """
        self.scheme.search(workload, rows, run)
        taken = self.scheme.choose(rows, run)
        kinds = by_kind(
            workload.module, [row for row in rows if row.fqn in taken and row.component == DENOISER]
        )
        if not kinds:
            return
        measured = _earlier(kinds, run) or self._measured(workload, kinds, run)
        settled = settle(measured, self.min_sqnr_db)
        self._note(settled, run)
        for kind in settled.left:
            for row in kinds[kind.name]:
                row.reason = f"layers={self.conf.layers.name}: {_cost(kind)}"
        if measured and not settled.quantized:
            raise _unmet(settled, self.conf)

    def _measured(
        self, workload: Workload, kinds: Mapping[str, list[LayerRow]], run: RunContext
    ) -> list[Kind]:
        with run.phase("noise of kinds"):
            noises = dict(self._noises(workload, kinds, run))
        shapes = {row.shape: row for name in noises for row in reversed(kinds[name])}
        gains = self._gains(workload, shapes, run)
        return [_kind(name, kinds[name], noise, gains) for name, noise in noises.items()]

    def _noises(
        self, workload: Workload, kinds: Mapping[str, list[LayerRow]], run: RunContext
    ) -> Iterator[tuple[str, tuple[float, float]]]:
        """Each kind with the noise of the output when it alone is quantized; not one that torchao refuses.

        What rounding makes of it stands apart: any small change has all later layers round otherwise, which in a
        narrow dtype is as much as some kinds' own noise.
        """
        with own_code(workload.module):
            call = one_call(workload)
            plain = on_cpu(call())
            for number, (name, rows) in enumerate(kinds.items(), 1):
                run.report(f"noise of kind {number} of {len(kinds)}: {name}")
                with copied(workload.module, [row.fqn for row in rows]):
                    try:
                        self.scheme.apply(workload, [replace(row) for row in rows], run)
                    except RunEndedError as end:
                        if end.outcome is not Outcome.UNSUPPORTED:
                            raise
                        continue
                    noise = noise_of(plain, on_cpu(call()))
                rounding = min(self._rounding(workload, rows, plain, call), noise)
                yield name, (noise - rounding if noise < math.inf else noise, rounding)

    def _rounding(
        self, workload: Workload, rows: list[LayerRow], plain: Any, call: Callable[[], Any]
    ) -> float:
        """The noise of the output when these layers' outputs are rounded up or down at random."""
        layers = ((row.fqn, workload.module.get_submodule(row.fqn)) for row in rows)
        with after(layers, rounded_otherwise):
            return noise_of(plain, on_cpu(call()))

    def _gains(self, workload: Workload, shapes: Mapping[Shape, LayerRow], run: RunContext) -> Gains:
        """What one call of a layer of each shape gains, by the rules where they know it, else by timing it."""
        with run.phase("rules"):
            found: Gains = {shape: (ms, RULES) for shape, ms in told(self.conf.name, shapes, run).items()}
        if all(shape in found for shape in shapes):
            return found
        _, samples = capture_layers(workload, self.conf.components)
        unknown = [row for shape, row in shapes.items() if shape not in found]
        with run.phase("probe kinds"):
            for number, row in enumerate(unknown, 1):
                run.report(f"probe {number} of {len(unknown)}, M,K,N = {row.shape}")
                gain_ms = self._probed(workload.module, row, samples[row.shape], run)
                if gain_ms is not None:
                    found[row.shape] = (gain_ms, PROBE)
        return found

    def _probed(self, module: nn.Module, row: LayerRow, x: torch.Tensor, run: RunContext) -> float | None:
        """ms that one call of a layer gains, by rounds of it; None: it cannot be timed alone."""
        layer, scheme = module.get_submodule(row.fqn), self.scheme
        assert isinstance(layer, nn.Linear)
        assert isinstance(scheme, TorchaoScheme), "validated: a single scheme"
        own = copy.copy(scheme)
        if scheme.inputs:
            own.inputs = scheme.inputs | {"inner": Inputs(x.abs().amax(), {x.dim()})}  # a bench's name for it
        try:
            (trial,), baseline_ms = Bench(layer, row, x, run, host_bound=False).try_schemes([own])
        finally:
            torch._dynamo.reset()
        return baseline_ms * (1 - 1 / trial.speedup) if trial.speedup and baseline_ms else None

    def _note(self, settled: Settled, run: RunContext) -> None:
        """What was found, in a file, and the short of it in the record."""
        predicted_db, left = in_db(settled.predicted_noise), [kind.name for kind in settled.left]
        found: dict[str, Any] = {
            "min_sqnr_db": self.min_sqnr_db,
            "predicted_sqnr_db": predicted_db,
            "predicted_saved_ms": round(sum(kind.gain_ms for kind in settled.quantized), 6),
            "left": left,
        }
        kinds = [kind.as_dict() for kind in settled.order]
        write_json(run.folder / NAME, found | {"kinds": kinds, "curve": curve(settled.order)})
        told_left = {kind.name: _cost(kind) for kind in settled.left}
        run.record.details["sensitive"] = found | {"left": told_left, "kinds": len(kinds)}
        run.record.metrics["sensitive/kinds_left"] = float(len(left))
        if predicted_db is not None and settled.quantized:
            run.record.metrics["sensitive/predicted_sqnr_db"] = predicted_db


def told(scheme: str, shapes: Iterable[Shape], run: RunContext) -> dict[Shape, float]:
    """ms that a call of a layer of each shape is predicted to gain; of what the rules do not know nothing."""
    with Rules(run.cfg, run.record.device) as rules:
        said = rules.layers({shape: [scheme] for shape in shapes})
    promises = {shape: (layer.baseline_ms, layer.candidates[scheme]) for shape, layer in said.shapes.items()}
    return {
        shape: ms * (1 - 1 / promise.speedup)
        for shape, (ms, promise) in promises.items()
        if promise.verdict != _UNKNOWN and promise.speedup > 0
    }


def _kind(name: str, rows: list[LayerRow], noises: tuple[float, float], gains: Gains) -> Kind:
    known = [(row.calls, *gains[row.shape]) for row in rows if row.shape in gains]
    by, (noise, rounding) = sorted({by for _, _, by in known}), noises
    return Kind(name, len(rows), noise, sum(calls * ms for calls, ms, _ in known), " and ".join(by), rounding)


def _earlier(kinds: Iterable[str], run: RunContext) -> list[Kind]:
    """What was measured of these kinds for a quantized baseline, or in an earlier process of the run.

    So both arms, and all processes, leave the same alone, whatever a probe would say now.
    """
    places = [run.folder / _BASELINE]
    if "process" in run.record.details:
        places.append(run.folder.parents[1])  # where the files of the first one are
    for place in places:
        if (place / NAME).is_file():
            content = json.loads((place / NAME).read_text(encoding="utf-8"))
            found = [Kind.from_dict(each) for each in content["kinds"]]
            if {kind.name for kind in found} == {*kinds}:
                return found
    return []


def _cost(kind: Kind) -> str:
    """A kind's noise and gain in words."""
    alone, noise = together([kind]), "no error"
    if alone:
        noise = f"{-10 * math.log10(alone):.1f} dB alone" if alone < math.inf else "NaN or infinity"
    gain = f"gains {kind.gain_ms:.3g} ms" if kind.gain_by else "its gain is not known"
    return f"{kind.name} gives {noise}, {gain} ({kind.gain_by or 'no probe ran'})"


def _unmet(settled: Settled, conf: QuantConf) -> RunEndedError:
    least = min(settled.order, key=lambda kind: together([kind]))
    reason = (
        f"layers={conf.layers.name}: no kind of layer can be quantized within {_KEY}="
        f"{conf.layers.sensitive.min_sqnr_db:g}; of {len(settled.order)} the least noisy: {_cost(least)}"
    )
    return unsupported(reason, f"a lower {_KEY}, a scheme with more bits, or layers=field_default")
