"""autoquant: for each distinct layer shape the fastest candidate on this device, by measurement.

torchao had its own until 0.16. This one times every candidate once per distinct shape, in the run's compile
state and with the run's own activations; a layer is quantized only where the whole interval of its speedup lies
beyond ``quant.min_gain`` and its output keeps ``quant.min_sqnr_db``.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from src.config.errors import ConfigError
from src.config.quant_schema import QuantConf, RequiresConf
from src.config.schema import MeasureConf
from src.measurement.paired import measure_interleaved
from src.measurement.quality import compare
from src.measurement.rounds import estimate_speedup
from src.outcomes import ended, unsupported
from src.records.record import Outcome, write_json
from src.tasks.context import RunContext
from src.treatments.capability import Status, capability, quant_conf
from src.treatments.compiling import compile_module
from src.treatments.layers import RULES_REMEDY, LayerRow, capture_layers, tally, why_not
from src.treatments.plan import UNQUANTIZED, Choice, Plan, Trial, read_plan
from src.treatments.scheme import Choices, TorchaoScheme, quantize_layers
from src.workloads.device import Device
from src.workloads.workload import Whole, Workload

Shape = tuple[int, int, int]


class Autoquant:
    """Chooses among candidates layer by layer; `plan` holds what was chosen."""

    falls_back = True

    def __init__(self, conf: QuantConf) -> None:
        self.conf = conf
        self.plan: Plan | None = None
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
            raise unsupported(
                f"autoquant is left none of the {len(rows)} Linear layers ({tally(rows)})", RULES_REMEDY
            )
        if self.plan is None:
            _, samples = capture_layers(workload)
            by_shape: dict[Shape, list[LayerRow]] = defaultdict(list)
            for row in rows:
                if not row.reason:
                    by_shape[row.shape].append(row)
            choices = []
            for index, (shape, layers) in enumerate(by_shape.items(), 1):
                with run.phase("autoquant search"):
                    run.report(f"autoquant: shape {index} of {len(by_shape)}, M,K,N = {shape}")
                    choices.append(self._choose(workload.module, layers, samples[shape], run))
            cfg = run.cfg
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
        write_json(run.folder / "plan.json", self.plan.as_dict())

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

    def _choose(self, module: nn.Module, layers: list[LayerRow], x: torch.Tensor, run: RunContext) -> Choice:
        """Try every candidate on one layer of a shape."""
        layer = module.get_submodule(layers[0].fqn)
        assert isinstance(layer, nn.Linear)
        choice = Choice(*layers[0].shape, layers=[row.fqn for row in layers], scheme=UNQUANTIZED, reason="")
        for scheme in self.candidates.values():
            trial, baseline_ms = _try(scheme, layer, layers[0], x, run)
            choice.trials.append(trial)
            known = [ms for ms in (baseline_ms, choice.baseline_ms) if ms is not None]
            choice.baseline_ms = min(known, default=None)
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
        if trial.sqnr_db is not None and trial.sqnr_db < self.conf.min_sqnr_db:
            trial.reason = (
                f"faster, but {trial.sqnr_db:.1f} dB is below quant.min_sqnr_db={self.conf.min_sqnr_db}"
            )
            return False
        return True


def _try(
    scheme: TorchaoScheme, layer: nn.Linear, row: LayerRow, x: torch.Tensor, run: RunContext
) -> tuple[Trial, float | None]:
    """Time one candidate against the unquantized layer; what cannot run is a trial with its reason."""
    name, trial_row = scheme.conf.name, replace(row, fqn="inner")
    try:
        scheme.check(run.device, run.cfg.dtype)
        baseline = Workload(Whole(layer), (x,), {})
        treated = baseline.twin()
        scheme.apply(treated, [trial_row], run)
        for workload in (baseline, treated):
            compile_module(workload.module, run.cfg.compile)
        quality = compare(baseline.call().clone(), treated.call())  # a CUDA graph's output is overwritten
        conf = _trial_conf(run.cfg.measure, run.cfg.quant.layer_budget_s)
        rounds = measure_interleaved(
            baseline.call, treated.call, run.device, conf, cold=conf.cache != "warm", launches=False
        )
        estimate = estimate_speedup(rounds, conf)
    except Exception as error:
        end = ended(error)
        if end.outcome is Outcome.FAILED:
            raise
        return Trial(name, str(end.outcome), end.reason), None
    finally:
        torch._dynamo.reset()
    trial = Trial(
        name, "ok", "", estimate.median, estimate.ci_low, estimate.ci_high, quality.get("quality/sqnr_db")
    )
    return trial, float(rounds.as_arrays()[0].min())


def _trial_conf(conf: MeasureConf, budget_s: float) -> MeasureConf:
    """The run's protocol with a budget per trial; 2 % is resolution enough for a choice."""
    return replace(
        conf,
        budget_s=budget_s,
        max_warmup_s=budget_s / 2,
        min_round_ms=min(conf.min_round_ms, 2.0),
        target_ci_width=max(conf.target_ci_width, 0.04),
    )
