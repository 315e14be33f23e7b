"""One arm of a comparison: a workload compiled, called for the first time, and looked at."""

from dataclasses import dataclass, field, replace
from typing import Any

from src.compilation.inductor import options_in_effect, uses_cuda_graphs
from src.compilation.scopes import FirstCall, forget_compiled, timed_first_call
from src.config.schema.arms import compiled_as
from src.config.schema.model import PIPELINE
from src.config.schema.recipe import SDPA
from src.context import RunContext
from src.measurement.memory import Peaks, peak_memory
from src.profiling.attention import attention_kinds
from src.quality.sqnr import on_cpu
from src.tasks.arms.ahead import note_ahead
from src.tasks.arms.packaged import compile_arm
from src.timers.steps import mark_step
from src.treatments.attached import attach
from src.treatments.layers import LayerRow
from src.workloads.weights.parameters import size_bytes
from src.workloads.workload import Workload


@dataclass
class Arm:
    """A workload ready to be timed."""

    name: str  # baseline, treated
    workload: Workload
    first_call: FirstCall | None  # None: made by an earlier run of this process
    peaks: Peaks  # of one call, in a pass of its own
    compile_peaks: Peaks  # of the first call, compiling included
    output: Any  # of one call, on the CPU
    model_bytes: int
    rows: list[LayerRow] = field(default_factory=list)  # of a treated arm: what was done to each layer

    def call(self) -> Any:
        """What is timed."""
        return self.workload.call()


def prepare(name: str, workload: Workload, run: RunContext) -> Arm:
    """Compile the workload, attach what the recipe says, make its first call, and measure the memory of a call.

    Raises:
        RunEndedError: `unsupported`, diffusers refuses what the recipe says.
    """
    _ready_the_compiler(run)
    with peak_memory(run.device) as compile_peaks:
        compile_arm(name, workload, run)
        attach(workload, run.cfg, run.device)
        run.record.details.setdefault("inductor", {})[name] = options_in_effect()
        with run.phase(f"compile {name}"):
            first_call, output = timed_first_call(workload, run.device)
        first_call = note_ahead(first_call, name, run)
        output = on_cpu(output)
    with run.phase("memory"), peak_memory(run.device) as peaks:
        mark_step(run.device)
        workload.call()
    _note_attention(name, workload, run)
    return Arm(name, workload, first_call, peaks, compile_peaks, output, size_bytes(workload.module))


def _ready_the_compiler(run: RunContext) -> None:
    """What it needs once per process or machine is none of the arm's time."""
    if run.cfg.compile.scope == "none":
        return
    with run.phase("ready the compiler"):
        from src.compilation.toolchain import ask

        ask(run.device.kind)


def _note_attention(name: str, workload: Workload, run: RunContext) -> None:
    """Say which attention kernels ran where one was asked for.

    Of a pipeline the VAE's would be among them; and a CUDA graph that runs again tells torch of none.
    """
    asked = run.cfg.recipe.attention
    graphed = run.device.kind == "cuda" and uses_cuda_graphs(compiled_as(run.cfg))
    if asked not in SDPA or run.cfg.target == PIPELINE or graphed:
        return
    with run.phase("attention kernels"):
        ran = attention_kinds(workload.call)
    run.record.details.setdefault("attention", {})[name] = ran
    if ran != [asked]:
        said = f"recipe.attention={asked}: compiled, the {name} arm runs {' and '.join(ran)} instead"
        run.record.details.setdefault("warnings", []).append(said)


def prepare_again(arm: Arm, beside_bytes: int, run: RunContext) -> Arm:
    """An arm that an earlier run of this process made, compiled again from the cache: its first call says nothing.

    Args:
        arm: as it was kept.
        beside_bytes: what other arms hold meanwhile; taken off its peaks.
    """
    with run.phase(f"compile {arm.name}"):
        mark_step(run.device)
        arm.call()
        run.device.synchronize()
    with run.phase("memory"), peak_memory(run.device) as peaks:
        mark_step(run.device)
        arm.call()
    return replace(arm, first_call=None, peaks=peaks.less(beside_bytes), compile_peaks=Peaks())


def warm_first_call(arm: Arm, run: RunContext) -> FirstCall | None:
    """The first call again with everything in the cache; None when it already was, was not this run's, or nothing
    is compiled.

    Dynamo's state of the whole process is reset: call this when timing is over.
    """
    if run.cfg.compile.scope == "none" or not run.cfg.measure.warm_compile:
        return None
    if arm.first_call is None or not arm.first_call.cold:
        return None
    forget_compiled()
    with run.phase("compile again, cached"):
        first_call, _ = timed_first_call(arm.workload, run.device)
    return first_call
