"""`predict=model`: whole models of which a speedup is asked, from their layer tables on fake tensors."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from src.config.schema.model import PIPELINE
from src.config.schema.quant import QuantConf, RequiresConf
from src.config.schema.root import AUTO, RootConf
from src.devices.capability import Status, capability, quant_conf
from src.forecasts.evidence.cells import is_cpu
from src.forecasts.forecast import UNKNOWN, Forecast, Place
from src.forecasts.knowledge import Knowledge
from src.forecasts.models.layer_times import Chosen, LayerTimes, untimed
from src.forecasts.models.notes import notes
from src.forecasts.models.rest import Rest, Work, computed_rest, measured_rest, runs_of
from src.forecasts.models.whole import Whole, put_together
from src.forecasts.queries import kernels_of, named, usual_place
from src.forecasts.reach import Shape
from src.planning.cards import card_of
from src.planning.needs.footprint import Footprints
from src.statistics.speedup import Verdict
from src.treatments.layers import LayerRow, why_not

_SURE = 0.95  # that what is slower than 1 even without its unknown layers hurts; the rest of it is a forecast
NO_GAIN = "no candidate is predicted to help"
_OWN_DEVICE = "AutoDevice"  # of conf/gpu: whatever this machine has


@dataclass(frozen=True)
class AskedModel:
    """One model with one treatment: what was asked, what is predicted; without a `whole` the forecast says why."""

    cfg: RootConf
    place: Place
    quant: str  # with its options
    forecast: Forecast
    whole: Whole | None = None
    rows: Sequence[LayerRow] = ()  # its layers, of a `whole`


class ModelForecaster:
    """Predicts whole models.

    Args:
        knowledge: of single layers.
        runs: standing runs, of which those of the same model tell how long it takes.
        footprints: that are made already.
        device: that all runs are on; empty: the one that gpu= means.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        runs: pd.DataFrame,
        footprints: Footprints | None = None,
        device: str = "",
    ) -> None:
        self.knowledge, self.runs, self.device = knowledge, runs, device
        self._footprints = footprints or Footprints()
        self._times: dict[Place, LayerTimes] = {}

    def __call__(self, cfg: RootConf, words: Sequence[str] = ()) -> AskedModel:
        """What is predicted of one run.

        Args:
            cfg: the run.
            words: its overrides; options of its scheme among them are part of the scheme's name.
        """
        asked = self.asked(cfg, words)
        if why := self.unknown_layers(asked) or self._unknown_whole(asked):
            return replace(asked, forecast=Forecast(UNKNOWN, reason=why))
        return self._put(asked, self._chosen(asked))

    def asked(self, cfg: RootConf, words: Sequence[str] = ()) -> AskedModel:
        """What is asked; nothing is predicted yet."""
        place = self._place(cfg)
        return AskedModel(replace(cfg, dtype=place.dtype), place, named(cfg, words), Forecast(UNKNOWN))

    def of_layers(self, asked: AskedModel, chosen: Chosen) -> AskedModel:
        """What is predicted of a run whose layers are treated so."""
        why = self.unknown_layers(asked) or self._unknown_whole(asked)
        return replace(asked, forecast=Forecast(UNKNOWN, reason=why)) if why else self._put(asked, chosen)

    def times(self, place: Place) -> LayerTimes:
        """What predicts the layers of models in a place, of whose layers something is known (`unknown_layers`)."""
        if place not in self._times:
            self._times[place] = LayerTimes(self.knowledge.of(place.device), place, self.runs)
        return self._times[place]

    def unknown_layers(self, asked: AskedModel) -> str:
        """Why nothing can be said of any layer; empty where something can."""
        cfg, place = asked.cfg, asked.place
        if not place.device:
            names = ", ".join(self.knowledge.beyond["device"].unique())
            nothing = f"gpu={cfg.gpu.name}: no single layer was measured undisturbed here"
            return f"{nothing}; cells of {names} came with this program"
        card = card_of(cfg.gpu)
        if card.device is not None and (not card.here or card.device.name == place.device):
            found = capability(cfg.quant, card.device, place.dtype)
            if found.status is not Status.OK:
                return f"{found.status}: {found.reason}"
        query, forecaster = place.query((1, 1, 1), asked.quant), self.knowledge.of(place.device)
        fitted = forecaster.family(query)
        return forecaster.one(query).reason if fitted is None else untimed(fitted)

    def _unknown_whole(self, asked: AskedModel) -> str:
        """Why nothing can be said of the whole although something is known of layers; empty where something can."""
        cfg = asked.cfg
        if cfg.target == PIPELINE:
            return "target=pipeline is not predicted; target=denoiser is, which a pipeline calls once a step"
        footprint = self._footprints.of(cfg)
        if footprint.trouble:
            return f"its layers could not be listed: {footprint.trouble}"
        return "" if footprint.rows else f"target={cfg.target} calls no Linear layer"

    def _place(self, cfg: RootConf) -> Place:
        """Where it would run; dtype=auto stands for that of most cells of the device, else of all."""
        cells = self.knowledge.cells
        device = self.device or device_asked(cfg, self.knowledge)
        there = cells[cells["device"] == device]
        usual = str((there if len(there) else cells)["dtype"].mode().iloc[0])
        return Place(device, cfg.compile.name, usual if cfg.dtype == AUTO else cfg.dtype)

    def _chosen(self, asked: AskedModel) -> Chosen:
        """What each layer of the model would get."""
        conf, kind = asked.cfg.quant, "cpu" if is_cpu(asked.place.device) else "cuda"
        asks = {name: quant_conf(entry).on(kind).requires for name, entry in conf.candidates.items()}
        times = self.times(asked.place)
        scheme = partial(_best, conf, times, asks, kernels_of(conf)) if asks else partial(_one, asked, kind)
        chosen: Counter[tuple[Shape, str, str]] = Counter()
        for row in self._footprints.of(asked.cfg).rows:
            chosen[(row.shape, *scheme(row))] += row.calls
        return chosen

    def _put(self, asked: AskedModel, chosen: Chosen) -> AskedModel:
        """All layers and the rest, put together."""
        place, times = asked.place, self.times(asked.place)
        layers = times.layers(chosen)
        rest = self._rest(asked, times, sum(each.baseline_ms for each in layers))
        about = [self.knowledge.note(place.device), *notes(asked.cfg, times, layers)]
        whole = put_together(layers, rest, [note for note in about if note])
        whole = replace(whole, borrowed=times.timed_on != place.device)
        rows = self._footprints.of(asked.cfg).rows
        return replace(asked, whole=whole, rows=rows, forecast=self._told(whole, place))

    def _told(self, whole: Whole, place: Place) -> Forecast:
        if not (why := whole.withheld):
            return self.knowledge.of(place.device).told(float(np.log(whole.speedup)), whole.spread(), 0, "")
        if whole.at_most * (1 + self.knowledge.margin) < 1:  # whatever these layers took
            most = f"at most {whole.at_most:.2g} times as fast, even if these layers took no time: {why}"
            return Forecast(str(Verdict.HURTS), high=whole.at_most, sure=_SURE, reason=most)
        return Forecast(UNKNOWN, reason=why)

    def _rest(self, asked: AskedModel, times: LayerTimes, layers_ms: float) -> Rest:
        cfg = asked.cfg
        runs = runs_of(self.runs, cfg, asked.place, self._footprints.of(cfg).weights)
        found = measured_rest(runs, layers_ms)
        if found is not None:
            return found
        besides = self._footprints.besides(cfg)
        linear = sum(2 * row.M * row.K * row.N * row.calls for row in self._footprints.of(cfg).rows)
        moved = besides.eager_bytes if cfg.compile.scope == "none" else besides.fused_bytes
        rate = float(np.fmin(times.tflop_s, times.times.fastest_tflop_s))
        return computed_rest(Work(max(0, besides.flop - linear), moved, rate, times.gb_s))


def device_asked(cfg: RootConf, knowledge: Knowledge) -> str:
    """The device that gpu= means among those that are known, those measured here first.

    Returns:
        One that is not known by its own name; empty: this machine's, of which nothing was measured.
    """
    if cfg.gpu._target_.endswith(_OWN_DEVICE):
        return usual_place(knowledge.measured)["device"] if len(knowledge.measured) else ""
    if cfg.gpu.match:
        cells = (knowledge.measured, knowledge.beyond)
        # the most cells first
        known = [name for each in cells for name in each["device"].value_counts().index]
        named = [name for name in known if re.search(cfg.gpu.match, name)]
        return named[0] if named else cfg.gpu.description or cfg.gpu.name
    card = card_of(cfg.gpu)
    return card.device.name if card.device else cfg.gpu.description or cfg.gpu.name


def _one(asked: AskedModel, kind: str, row: LayerRow) -> tuple[str, str]:
    """The one scheme for a layer, or why it does not get it."""
    conf, own = asked.cfg.quant, asked.cfg.quant.on(kind)
    why = _why_not(conf, row, own.requires) if own.config else f"quant={conf.name}"
    return ("", why) if why else (asked.quant, "")


def _best(
    conf: QuantConf,
    times: LayerTimes,
    asks: dict[str, RequiresConf],
    kernels: dict[str, str],
    row: LayerRow,
) -> tuple[str, str]:
    """Of the candidates of a scheme that chooses: the one that would be taken, as cells name it; or why none."""
    fit = [name for name, requires in asks.items() if not _why_not(conf, row, requires)]
    ranked = gaining(conf, {kernels[name]: times.forecast(row.shape, kernels[name]) for name in fit})
    return (ranked[0], "") if ranked else ("", NO_GAIN if fit else "no candidate fits")


def gaining(conf: QuantConf, told: Mapping[str, Forecast]) -> list[str]:
    """The candidates that a scheme which chooses would take, the best first.

    One that does not time them takes only what surely helps: the whole interval lies above 1.

    Args:
        conf: the scheme.
        told: what is predicted of each candidate for a layer.
    """
    gains = {
        name: each.speedup
        for name, each in told.items()
        if each.verdict == Verdict.HELPS
        and each.speedup >= 1 + conf.min_gain
        and (each.low > 1 or not conf.predicts)
    }
    return sorted(gains, key=lambda name: gains[name], reverse=True)


def _why_not(conf: QuantConf, row: LayerRow, requires: RequiresConf) -> str:
    inside = row.component in conf.components
    return why_not(row, conf.layers, requires) if inside else f"{row.component} is not in quant.components"
