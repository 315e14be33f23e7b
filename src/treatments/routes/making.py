"""How the treated arm comes about: where its weights are quantized, and through what (docs/layers.md)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torchao.quantization import quantize_

from src.compilation.inductor import kept_options
from src.context import RunContext
from src.measurement.memory import peak_memory
from src.records.record import write_json
from src.treatments.applied import Choices, note_quantized, quantize_layers, refusals
from src.treatments.layers import LayerRow, by_component, mostly_others, unmatched
from src.treatments.routes.loading import load_through_diffusers
from src.treatments.scheme import Scheme
from src.workloads.weights.parameters import Heard
from src.workloads.workload import Workload, rebuild

Second = Callable[[], Workload]  # the unquantized workload once more, on the device


def make_treated(
    scheme: Scheme, baseline: Workload, second: Second, rows: list[LayerRow], run: RunContext
) -> Workload:
    """The treated arm's workload, and in each row what was done; fills in metrics and details.

    Args:
        baseline: the unquantized arm; its weights may be gone, its arguments are those of the treated arm.
        second: makes a copy of it to quantize.

    Raises:
        RunEndedError: `unsupported`, when no layer can be quantized, or not there, or not through that.
    """
    conf, record = run.cfg.quant, run.record
    earlier, own = record.details.get("warnings", ()), unmatched(conf.layers, rows, conf.components)
    warnings = [*dict.fromkeys([*earlier, *own])]
    record.details |= {"where": conf.where, "via": conf.via, "warnings": warnings}
    with _table_kept(rows, run), kept_options():
        if conf.via == "direct" and conf.where == "device":
            workload = _on_device(scheme, second, rows, run)
        else:
            search_first(scheme, baseline, second, rows, run)
            make = load_through_diffusers if conf.via == "diffusers" else _ELSEWHERE[conf.where]
            workload = make(scheme.choose(rows, run), baseline, rows, run)
    record.metrics["quantize/layers"] = float(sum(bool(row.scheme) for row in rows))
    record.details["components"] = by_component(workload, rows)
    record.details["warnings"] = [*dict.fromkeys([*warnings, *mostly_others(workload, rows)])]
    return workload


def search_first(
    scheme: Scheme, baseline: Workload, second: Second, rows: list[LayerRow], run: RunContext
) -> None:
    """Let the scheme see the unquantized workload: where the baseline's weights are gone, one made for that alone."""
    gone = any(parameter.is_meta for parameter in baseline.module.parameters())
    with _table_kept(rows, run):
        scheme.search(second() if gone and scheme.observes(run.device) else baseline, rows, run)
    if run.device.kind == "cuda":
        torch.cuda.empty_cache()


def _on_device(scheme: Scheme, second: Second, rows: list[LayerRow], run: RunContext) -> Workload:
    """The whole unquantized copy on the device, then all of it quantized."""
    workload = second()
    scheme.search(workload, rows, run)
    with run.phase("quantize"), _peaks(run):
        scheme.apply(workload, rows, run)
        run.device.synchronize()
    run.record.metrics["quantize/time_s"] = run.record.phases_s["quantize"]
    return workload


def _on_cpu(choices: Choices, baseline: Workload, rows: list[LayerRow], run: RunContext) -> Workload:
    """The whole copy on the host, quantized there, then moved: the device sees no unquantized weight of it."""
    with _peaks(run):
        with run.phase("build"):
            workload = rebuild(run.cfg, torch.device("cpu"), baseline)
        with run.phase("quantize"):
            if choices:
                quantize_layers(workload.module, choices, rows)
        with run.phase("move to the device"), refusals(choices):
            workload.module.to(run.device.torch)
            run.device.synchronize()
    run.record.metrics["quantize/time_s"] = run.record.phases_s["quantize"]
    return workload


def _streamed(choices: Choices, baseline: Workload, rows: list[LayerRow], run: RunContext) -> Workload:
    """Layer by layer on the device: a weight is made, quantized and freed before the next one is made."""
    seconds: list[float] = []

    def hear(target: nn.Module) -> Heard:
        wanted = {target.get_submodule(fqn): config for fqn, (_, config) in choices.items()}

        def quantize(layer: nn.Module) -> None:
            if layer in wanted:
                with _timed(seconds, run), refusals(choices):
                    quantize_(layer, wanted[layer])

        return quantize

    with run.phase("quantize"), _peaks(run):
        workload = rebuild(run.cfg, run.device.torch, baseline, hear)
    note_quantized(workload.module, choices, rows)
    run.record.metrics["quantize/time_s"] = round(sum(seconds), 4)
    return workload


@contextmanager
def _table_kept(rows: list[LayerRow], run: RunContext) -> Iterator[None]:
    """The layer table is on disk afterwards, also when no layer was left: with the reason of each."""
    try:
        yield
    finally:
        write_json(run.folder / "layers.json", [row.as_dict() for row in rows])


@contextmanager
def _peaks(run: RunContext) -> Iterator[None]:
    """Measure the peak memory of what happens inside."""
    with peak_memory(run.device) as peaks:
        yield
    run.record.metrics |= peaks.phase_metrics("quantize")


@contextmanager
def _timed(seconds: list[float], run: RunContext) -> Iterator[None]:
    """Add what happens inside, the device's part included."""
    run.device.synchronize()
    started = time.perf_counter()
    yield
    run.device.synchronize()
    seconds.append(time.perf_counter() - started)


_ELSEWHERE: dict[str, Callable[[Choices, Workload, list[LayerRow], RunContext], Workload]] = {
    "cpu": _on_cpu,
    "streamed": _streamed,
}  # by quant.where
