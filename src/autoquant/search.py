"""autoquant: for each distinct layer shape the fastest candidate on this device, by measurement.

torchao had its own until 0.16. This one times every candidate once per distinct shape, in the run's compile
state and with the run's own activations; a layer is planned to be quantized only where the whole interval of its
speedup lies beyond ``quant.min_gain`` and its output keeps ``quant.min_sqnr_db``. The whole model then decides
(``src/autoquant/whole.py``).
"""

from collections import defaultdict
from pathlib import Path

import torch
from torch import nn

from src.autoquant.ahead import Ahead
from src.autoquant.foregone import Shape, foregone, telling_order
from src.autoquant.plan import NOT_TRIED, UNQUANTIZED, Choice, Plan, Trial, read_plan
from src.autoquant.trials import Bench
from src.compilation.scopes import compiler_counts
from src.config.errors import ConfigError
from src.config.quant_schema import QuantConf, RequiresConf
from src.context import RunContext
from src.devices.capability import Status, capability, quant_conf
from src.devices.device import Device
from src.outcomes import unsupported
from src.records.record import write_json
from src.treatments.applied import Choices, quantize_layers
from src.treatments.layers import LayerRow, capture_layers, fits_none, what_fits, why_not
from src.treatments.scheme import TorchaoScheme
from src.workloads.workload import Workload


class Autoquant:
    """Chooses among candidates layer by layer; `plan` holds what was chosen."""

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf
        self.plan: Plan | None = None
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
        """Its trials do, unless a plan was given."""
        return self.plan is None

    def search(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Time every candidate on every distinct shape, unless a plan was given."""
        for row in rows:
            row.reason = row.reason or why_not(row, self.conf.layers, RequiresConf())
        if all(row.reason for row in rows):
            raise unsupported(fits_none(self.conf, rows), what_fits(rows, self.conf, RequiresConf()))
        if self.plan is None:
            _, samples = capture_layers(workload)
            by_shape: dict[Shape, list[LayerRow]] = defaultdict(list)
            for row in rows:
                if not row.reason:
                    by_shape[row.shape].append(row)
            ahead = self._compile_ahead(workload, by_shape, run)
            compiled = compiler_counts()
            choices = self._try_shapes(workload.module, by_shape, samples, run)
            did, cfg = compiler_counts().since(compiled), run.cfg
            run.record.details["compiled_ahead"] = ahead | {
                "hits": did.cache_hits,
                "misses": did.cache_misses,
            }
            self.plan = Plan(
                cfg.model.name,
                cfg.target,
                cfg.compile.name,
                run.device.name,
                choices,
                identity=run.device.identity,
            )
        elif elsewhere := self.plan.made_elsewhere(run.device):
            run.report(elsewhere)
            run.record.details["plan_made_elsewhere"] = elsewhere
        write_json(run.folder / "plan.json", self.plan.as_dict())  # `settle` may write another

    def _try_shapes(
        self,
        module: nn.Module,
        by_shape: dict[Shape, list[LayerRow]],
        samples: dict[Shape, torch.Tensor],
        run: RunContext,
    ) -> list[Choice]:
        """A choice for each shape, in the order of the layers; tried are those first that say something of others."""
        tried: dict[Shape, Choice] = {}
        for shape in telling_order(by_shape):
            with run.phase("autoquant search"):
                run.report(f"autoquant: shape {len(tried) + 1} of {len(by_shape)}, M,K,N = {shape}")
                needless = {name: foregone(name, shape, [*tried.values()]) for name in self.candidates}
                tried[shape] = self._choose(module, by_shape[shape], samples[shape], needless, run)
        return [tried[shape] for shape in by_shape]

    def _compile_ahead(
        self, workload: Workload, by_shape: dict[Shape, list[LayerRow]], run: RunContext
    ) -> dict[str, int]:
        """Have the candidates compiled beside each other, where that saves time; says how many, by how many."""
        ahead = Ahead(run.cfg, run.device)
        firsts = [layers[0] for layers in by_shape.values()]
        biased = [workload.module.get_submodule(row.fqn).bias is not None for row in firsts]
        pieces = ahead.pieces(zip(firsts, biased, strict=True))
        workers = ahead.workers(len(pieces))
        if not workers:
            return {"pieces": 0, "workers": 0}
        with run.phase("compile candidates"):
            for done in ahead.compile(pieces, workers):
                if done % workers == 0:
                    run.report(f"autoquant: {done} of {len(pieces)} candidates compiled, {workers} at a time")
        return {"pieces": len(pieces), "workers": workers}

    def choose(self, rows: list[LayerRow], run: RunContext) -> Choices:
        """What the plan says, of the layers that `quant.layers` leaves to it."""
        assert self.plan is not None, "search comes before apply"
        chosen, reasons = self.plan.schemes(), self.plan.reasons()
        absent = sorted(set(chosen) - {row.fqn for row in rows})
        if absent:
            raise unsupported(
                f"quant.plan names layers that target={run.cfg.target} of {run.cfg.model.name} does not have: "
                f"{absent[0]}, ...; it was made for target={self.plan.target} of {self.plan.model}",
                "a plan of this model and target; or quant.plan=null, which searches for one",
            )
        planned = {row.fqn: chosen[row.fqn] for row in rows if row.fqn in chosen and not row.reason}
        for row in rows:
            row.reason = row.reason or reasons.get(row.fqn, "not in the plan")
        configs = {name: self.candidates[name].torchao_config(run.device) for name in set(planned.values())}
        return {fqn: (name, configs[name]) for fqn, name in planned.items()}

    def apply(self, workload: Workload, rows: list[LayerRow], run: RunContext) -> None:
        """Apply the plan; an empty one leaves the workload as it is."""
        configs = self.choose(rows, run)
        if configs:
            quantize_layers(workload.module, configs, rows)

    def _choose(
        self,
        module: nn.Module,
        layers: list[LayerRow],
        x: torch.Tensor,
        needless: dict[str, str],
        run: RunContext,
    ) -> Choice:
        """Try the candidates on one layer of a shape; `needless` says of each why it needs no trial, if so."""
        layer = module.get_submodule(layers[0].fqn)
        assert isinstance(layer, nn.Linear)
        choice = Choice(*layers[0].shape, layers=[row.fqn for row in layers], scheme=UNQUANTIZED, reason="")
        choice.calls = sum(row.calls for row in layers)
        bench = Bench(layer, layers[0], x, run, self.host_bound)
        wanted = [name for name, why in needless.items() if not why]
        try:
            trials, choice.baseline_ms = bench.try_schemes(self.candidates[name] for name in wanted)
        finally:
            torch._dynamo.reset()
        made = dict(zip(wanted, trials, strict=True))
        choice.trials = [made.get(name) or Trial(name, NOT_TRIED, why) for name, why in needless.items()]
        for trial in choice.trials:
            trial.below_floor = trial.sqnr_db is not None and trial.sqnr_db < self.conf.min_sqnr_db
        good = [t for t in choice.trials if self._gains(t)]
        if good:
            best = max(good, key=lambda trial: trial.speedup or 0.0)
            choice.scheme, choice.reason = best.scheme, f"{best.speedup:.2f}x in its shape"
        else:
            choice.reason = "no candidate is faster beyond noise and above the quality floor"
        return choice

    def _gains(self, trial: Trial) -> bool:
        if trial.ci_low is None or trial.ci_low <= 1 + self.conf.min_gain:
            return False
        if trial.below_floor:
            trial.reason = (
                f"faster, but {trial.sqnr_db:.1f} dB is below quant.min_sqnr_db={self.conf.min_sqnr_db}"
            )
            return False
        return True
