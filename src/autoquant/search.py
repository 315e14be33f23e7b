"""autoquant: for each distinct layer shape the fastest candidate on this device, by measurement.

torchao had its own until 0.16. This one times every candidate once per distinct shape, but for what earlier runs know
(``known.py``), in the run's compile state and with the run's own activations; a layer is planned to be quantized only
where the whole interval of its speedup lies beyond ``quant.min_gain`` and its output keeps ``quant.min_sqnr_db``
(``contest.py``). The whole model then decides (``whole.py``).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from src.autoquant.ahead import Ahead
from src.autoquant.contest import Contest, by_bias
from src.autoquant.foregone import telling_order
from src.autoquant.known import DETAIL, PLAN_NAME, Known, Told, by_run, layer_config, layer_settings
from src.autoquant.plan import UNQUANTIZED, Choice, Plan, Shape, read_plan
from src.autoquant.trials import Bench
from src.compilation.scopes import compiler_counts
from src.config.errors import ConfigError
from src.config.schema.quant import QuantConf, RequiresConf
from src.context import RunContext
from src.devices.capability import Status, capability, quant_conf
from src.devices.device import Device
from src.outcomes import unsupported
from src.records.record import write_json
from src.treatments.applied import Choices, quantize_layers
from src.treatments.layers import LayerRow, capture_layers, fits_none, what_fits, why_not
from src.treatments.observing import observe_inputs
from src.treatments.scheme import TorchaoScheme
from src.workloads.workload import Workload


class Autoquant:
    """Chooses among candidates layer by layer; `plan` holds what was chosen."""

    looks = True  # at plans as a whole before one is chosen, and gives one up that clearly does not win

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf
        self.plan: Plan | None = None
        self.predicts = (
            True  # whether the plan's times are those of this run's layers, device and compile mode
        )
        self.host_bound = (
            False  # set before `search`: whether the model waits for the host, which then is what to time
        )
        self.candidates = {name: TorchaoScheme(quant_conf(entry)) for name, entry in conf.candidates.items()}

    def check(self, device: Device, dtype: str) -> None:
        """At least one candidate must be able to run; a given plan must be readable."""
        if self.conf.plan is not None:
            self.plan = read_plan(Path(self.conf.plan))
            unknown = sorted(set(self.plan.schemes().values()) - set(self.candidates))
            if unknown:
                raise ConfigError(
                    f"quant.plan={self.conf.plan}: uses {', '.join(unknown)}; "
                    f"quant.candidates: {', '.join(self.candidates)}"
                )
            self._check_planned(self.plan, device, dtype)
        elif (found := capability(self.conf, device, dtype)).status is not Status.OK:
            raise unsupported(found.reason, found.remedy)

    def _check_planned(self, plan: Plan, device: Device, dtype: str) -> None:
        """What a given plan uses must run here: it may come from another device."""
        for name in sorted(set(plan.schemes().values())):
            found = capability(self.candidates[name].conf, device, dtype)
            if found.status is not Status.OK:
                where = f"the plan was made on {plan.device}: " if plan.made_elsewhere(device) else ""
                raise unsupported(f"{where}{found.reason}", "quant.plan=null, which searches for one here")

    def observes(self, device: Device) -> bool:
        """Its trials do, unless a plan was given; then a candidate may."""
        return self.plan is None or bool(self._observing(device))

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Make a plan for the layers that the rules leave to it, unless one was given."""
        for row in rows:
            row.reason = row.reason or why_not(row, self.conf.layers, RequiresConf())
        if all(row.reason for row in rows):
            raise unsupported(fits_none(self.conf, rows), what_fits(rows, self.conf, RequiresConf()))
        if observing := self._observing(run.device):
            inputs = observe_inputs(workload, [row.fqn for row in rows if not row.reason])
            for name in observing:
                self.candidates[name].inputs = inputs
        if self.plan is None:
            by_shape: dict[Shape, list[LayerRow]] = defaultdict(list)
            for row in rows:
                if not row.reason:
                    by_shape[row.shape].append(row)
            self.plan = self.made(workload, by_shape, run)
        else:
            self._look_at_given(self.plan, rows, run)
        write_json(run.folder / PLAN_NAME, self.plan.as_dict())  # `settle` may write another

    def _observing(self, device: Device) -> list[str]:
        """The candidates, of a given plan those that it uses, whose kernels take inputs of some dimensions only."""
        names = [*self.candidates] if self.plan is None else sorted({*self.plan.schemes().values()})
        return [name for name in names if self.candidates[name].observes(device)]

    def _look_at_given(self, plan: Plan, rows: Iterable[LayerRow], run: RunContext) -> None:
        """Say where a given plan was made elsewhere; what it gained there is predicted of the same layers only."""
        if elsewhere := plan.made_elsewhere(run.device):
            run.report(elsewhere)
            run.record.details["plan_made_elsewhere"] = elsewhere
        here = {row.fqn: row.shape for row in rows if not row.reason}
        planned = {fqn: (c.M, c.K, c.N) for c in plan.choices if c.scheme != UNQUANTIZED for fqn in c.layers}
        same = all(here.get(fqn) == shape for fqn, shape in planned.items())
        self.predicts = same and not elsewhere and plan.compile == run.cfg.compile.name

    def made(self, workload: Workload, by_shape: Mapping[Shape, list[LayerRow]], run: RunContext) -> Plan:
        """A plan by trials: every candidate timed on every shape of which earlier runs do not know it.

        Args:
            workload: unquantized; it is left as it is.
            by_shape: its layers that may be quantized.
            run: its context.
        """
        _, samples = capture_layers(workload)
        known, tried = self._known(by_shape, run)
        ahead = self._compile_ahead(workload, by_shape, known, run)
        compiled, contest = compiler_counts(), Contest(self.candidates, self.conf, tried)
        kinds = {shape: by_bias(workload.module, rows) for shape, rows in by_shape.items()}
        count = sum(map(len, kinds.values()))
        for shape in telling_order(by_shape):  # those first that say something of others
            told = self.candidates if len(kinds[shape]) == 1 else ()  # earlier times do not say of which kind
            own = {name: known[shape, name] for name in told if (shape, name) in known}
            for layers in kinds[shape]:
                with run.phase("autoquant search"):
                    run.report(f"autoquant: shape {len(contest.choices) + 1} of {count}, M,K,N = {shape}")
                    bench = self.bench(workload.module, layers[0], samples[shape], run)
                    contest.decide(layers, bench, own)
        order = list(by_shape)
        choices = sorted(contest.choices, key=lambda choice: order.index((choice.M, choice.K, choice.N)))
        did = compiler_counts().since(compiled)
        run.record.details["compiled_ahead"] = ahead | {"hits": did.cache_hits, "misses": did.cache_misses}
        return self.plan_of(choices, run)

    def plan_of(self, choices: list[Choice], run: RunContext) -> Plan:
        """The choices as a plan of this run's workload and device."""
        cfg, device = run.cfg, run.device
        where = (cfg.model.name, cfg.target, cfg.compile.name, device.name)
        return Plan(*where, choices, identity=device.identity, configs=self._configs(device))

    def note(self, plan: Plan, run: RunContext, model_ms: float) -> None:
        """Say in the record what was predicted of the plan that was measured, unless it was made for something else.

        Args:
            plan: as it was applied.
            run: measured.
            model_ms: a call of the unquantized model.
        """
        if self.predicts:
            run.record.metrics["autoquant/predicted_speedup"] = plan.predicted_speedup(model_ms)
        timed_by = "host" if self.host_bound else "layer"
        found = {"wholes": [asdict(whole) for whole in plan.wholes], "trials_timed_by": timed_by}
        run.record.details["autoquant"] = run.record.details.get("autoquant", {}) | found

    def _configs(self, device: Device) -> dict[str, str]:
        return {name: layer_config(scheme.conf, device) for name, scheme in self.candidates.items()}

    def _known(self, shapes: Iterable[Shape], run: RunContext) -> tuple[Told, list[Choice]]:
        """What earlier runs timed, of these shapes and of all; the record says what others may know this one by."""
        cfg = run.cfg
        cold = cfg.measure.cache != "warm" and not self.host_bound
        settings = layer_settings(cfg, run.device, cold=cold, launches=self.host_bound)
        run.record.details[DETAIL] = {"settings": settings}
        if self.conf.known == "never" or cfg.rerun:
            return {}, []
        known = Known(Path(cfg.outputs), settings, self._configs(run.device), 1 + self.conf.min_gain)
        found = known.of_all(shapes)
        run.record.details["autoquant"] = {"known": by_run(found)}
        return found, known.tried()

    def _compile_ahead(
        self,
        workload: Workload,
        by_shape: Mapping[Shape, list[LayerRow]],
        known: Collection[tuple[Shape, str]],
        run: RunContext,
    ) -> dict[str, int]:
        """Have the candidates compiled beside each other, where that saves time; says how many, by how many."""
        ahead = Ahead(run.cfg, run.device)
        firsts = [layers[0] for rows in by_shape.values() for layers in by_bias(workload.module, rows)]
        biased = [workload.module.get_submodule(row.fqn).bias is not None for row in firsts]
        pieces = ahead.pieces(zip(firsts, biased, strict=True), known)
        workers = ahead.workers(len(pieces))
        if not workers:
            return {"pieces": 0, "workers": 0}
        with run.phase("compile candidates"):
            for done in ahead.compile(pieces, workers):
                if done % workers == 0:
                    run.report(f"autoquant: {done} of {len(pieces)} candidates compiled, {workers} at a time")
        return {"pieces": len(pieces), "workers": workers}

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """What the plan says, of the layers that `quant.layers` leaves to it and whose shapes the schemes take."""
        assert self.plan is not None, "search comes before apply"
        chosen, reasons = self.plan.schemes(), self.plan.reasons()
        absent = sorted(set(chosen) - {row.fqn for row in rows})
        if absent:
            raise unsupported(
                f"quant.plan names layers that target={run.cfg.target} of {run.cfg.model.name} does not have: "
                f"{absent[0]}, ...; it was made for target={self.plan.target} of {self.plan.model}",
                "a plan of this model and target; or quant.plan=null, which searches for one",
            )
        planned = self._taken(
            [row for row in rows if row.fqn in chosen and not row.reason], chosen, run.device
        )
        for row in rows:
            row.reason = row.reason or reasons.get(row.fqn, "not in the plan")
        return {
            fqn: (name, config)
            for name, own in planned.items()
            for fqn, config in self.candidates[name].configs(own, run.device).items()
        }

    def _taken(
        self, rows: Iterable[LayerRow], chosen: Mapping[str, str], device: Device
    ) -> dict[str, list[LayerRow]]:
        """By scheme the layers that it takes as they are called here; the others are given its reason."""
        taken: dict[str, list[LayerRow]] = defaultdict(list)
        for row in rows:
            name = chosen[row.fqn]
            if self.candidates[name].select([row], device):
                taken[name].append(row)
            else:
                row.reason = f"{name} was planned: {row.reason}"
        return taken

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Apply the plan; an empty one leaves the workload as it is."""
        configs = self.choose(rows, run)
        if configs:
            quantize_layers(workload.module, configs, rows)

    def bench(self, module: nn.Module, row: LayerRow, x: torch.Tensor, run: RunContext) -> Bench:
        """What candidates are tried on: a layer of the unquantized module, and what it is called with."""
        layer = module.get_submodule(row.fqn)
        assert isinstance(layer, nn.Linear)
        for candidate in self.candidates.values():
            if row.fqn in candidate.inputs:  # a bench has a name of its own for the layer
                candidate.inputs = candidate.inputs | {"inner": candidate.inputs[row.fqn]}
        return Bench(layer, row, x, run, self.host_bound)
