"""torch.compile as a treatment of both arms: scopes as data, first calls timed, what the compiler did counted."""

import copy
import copyreg
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch._inductor.utils
from torch import nn
from torch._dynamo.utils import counters

from src.compilation.compiler_paths import quote_compiler_paths
from src.compilation.inductor import asked_options, merged_options
from src.config.schema.quant import QuantConf
from src.config.schema.root import CompileConf
from src.devices.device import Device
from src.outcomes import code_place
from src.timers.steps import mark_step
from src.workloads.workload import Workload, is_torchs_own


def memory_format(name: str) -> torch.memory_format:
    """torch's, by its name there."""
    found: torch.memory_format = getattr(torch, name)
    return found


# The compiler's cache hashes a pickle of each input, and a memory format is pickled with the name of whichever module
# was the first to import torch: two processes that import in another order would not find each other's code.
copyreg.pickle(torch.memory_format, lambda each: (memory_format, (str(each).removeprefix("torch."),)))
quote_compiler_paths()


@dataclass
class FirstCall:
    """The first call of an arm: compiled, or taken from the cache."""

    seconds: float
    cache_hits: int
    cache_misses: int
    ahead_s: float | None = None  # what another process took that had compiled all of it before

    @property
    def cold(self) -> bool:
        """Whether code had to be made for anything."""
        return self.cache_misses > 0

    @property
    def from_cache(self) -> bool:
        """Whether all code came from the cache; neither cold nor this: there was nothing to compile."""
        return self.cache_hits > 0 and self.cache_misses == 0


@dataclass
class CompilerCounts:
    """What Dynamo and Inductor did so far in this process."""

    graphs: int
    graph_breaks: int
    cache_hits: int
    cache_misses: int

    def since(self, earlier: "CompilerCounts") -> "CompilerCounts":
        """The difference to an earlier reading."""
        past = asdict(earlier)
        return CompilerCounts(**{name: count - past[name] for name, count in asdict(self).items()})


def graphs_unrecorded() -> bool:
    """Whether inductor left compiled parts unrecorded as CUDA graphs though it was told to; why is in its log."""
    return bool(counters["inductor"]["cudagraph_skips"])


@dataclass(frozen=True)
class Compiled:
    """What the compiler did for one run."""

    counts: CompilerCounts
    breaks: dict[str, int]  # reasons of graph breaks, counted
    recompiles: int  # graphs, while rounds were timed
    unrecorded: bool = field(default_factory=graphs_unrecorded)


def compiler_counts() -> CompilerCounts:
    """Read the compiler's counters.

    Hits and misses are of Inductor's cache, which holds the code: forward and backward of a training are two. The
    cache in front of it, AOTAutograd's, saves tracing alone, and takes no graph with an autograd function of a
    library's own, as torchao's float8 training has: the code of such a graph comes from the cache all the same.
    """
    import torch._inductor.config as inductor_config

    inductor, autograd = counters["inductor"], counters["aot_autograd"]
    unasked = 0 if inductor_config.fx_graph_cache else autograd["autograd_cache_bypass"]
    return CompilerCounts(
        graphs=counters["stats"]["unique_graphs"],
        graph_breaks=sum(counters["graph_break"].values()),
        cache_hits=inductor["fxgraph_cache_hit"],
        cache_misses=inductor["fxgraph_cache_miss"] + inductor["fxgraph_cache_bypass"] + unasked,
    )


def graph_break_reasons() -> dict[str, int]:
    """First lines of the reasons of graph breaks since Dynamo was last reset, where they were, and their counts."""
    found: Counter[str] = Counter()
    for cause in torch._dynamo.utils.graph_break_reasons:
        places = [code_place(f.filename, f.lineno or 0, f.name) for f in cause.user_stack[-1:]]
        found[" at ".join([cause.reason.strip().splitlines()[0], *places])] += 1
    return dict(found)


def compiled_by_now(before: CompilerCounts) -> Compiled:
    """What the compiler did for a run whose rounds are over.

    Args:
        before: its counts when they began.
    """
    counts = compiler_counts()
    return Compiled(counts, graph_break_reasons(), counts.since(before).graphs)


@contextmanager
def compiler_options(conf: CompileConf, quant: QuantConf | None = None, kind: str = "") -> Iterator[None]:
    """Inductor options of the run, the same for both arms, and room for both arms' graphs: see `asked_options`."""
    import torch._inductor.config as inductor_config

    with (
        inductor_config.patch(merged_options(asked_options(conf, quant, kind))),
        torch._dynamo.config.patch(recompile_limit=64, accumulated_recompile_limit=1024),
    ):
        yield


def compile_module(module: nn.Module, conf: CompileConf, *, whole: bool = False) -> None:
    """Compile a module in place, by the scope of its compile mode; `whole`: as one, whatever that scope.

    ``regional`` compiles each repeated block: the classes that the model names in ``_repeated_blocks``
    (diffusers' ``compile_repeated_blocks``), else the members of its module lists (but for plain layers of
    torch.nn, which Dynamo does not compile by themselves), else the module itself.
    """
    for part in [module] if whole and conf.scope != "none" else compiler_parts(module, conf):
        part.compile(fullgraph=conf.fullgraph, dynamic=conf.dynamic, backend=conf.backend, mode=conf.mode)


def compiler_parts(module: nn.Module, conf: CompileConf) -> list[nn.Module]:
    """What is compiled, each by itself."""
    if conf.scope == "none":
        return []
    return repeated_blocks(module) if conf.scope == "regional" else [module]


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks that regional compilation compiles."""
    names = set(getattr(module, "_repeated_blocks", None) or ())
    if names:
        return [part for part in module.modules() if type(part).__name__ in names]
    lists = [part for part in module.children() if isinstance(part, nn.ModuleList)]
    return [block for part in lists for block in part if not is_torchs_own(block)] or [module]


def forget_compiled(*, keep_reasons: bool = False) -> None:
    """Drop everything compiled in this process, CUDA graphs and their memory too: only the cache on disk is left.

    Args:
        keep_reasons: of graph breaks, for `graph_break_reasons`.
    """
    reasons = [*torch._dynamo.utils.graph_break_reasons] if keep_reasons else []
    torch._dynamo.reset()
    torch._inductor.utils.clear_caches()
    torch._dynamo.utils.graph_break_reasons.extend(reasons)


def forget_all_compiled() -> None:
    """Drop also what was counted: the process is then as one that has compiled nothing."""
    forget_compiled()
    counters.clear()
    torch._dynamo.utils.graph_break_reasons.clear()


@contextmanager
def compiled_apart(options: dict[str, Any], again: Callable[[], object]) -> Iterator[None]:
    """Compile anew with these inductor options inside; afterwards all is as before, and nothing was counted.

    Args:
        options: inductor's.
        again: calls what was compiled before, so that it is once more: from the cache.
    """
    import torch._inductor.config as inductor_config

    counted = copy.deepcopy(counters)
    forget_compiled()
    try:
        with inductor_config.patch(options):
            yield
    finally:
        forget_compiled()
        try:
            again()
        finally:
            counters.clear()
            counters.update(counted)


def timed_first_call(workload: Workload, device: Device) -> tuple[FirstCall, Any]:
    """Call once, with the clock running: compilation included.

    Returns:
        The timing and the call's output.
    """
    before = compiler_counts()
    mark_step(device)  # before any step is marked, torch takes each compiled block for a step of its own
    started = time.perf_counter()
    output = workload.call()
    device.synchronize()
    seconds = time.perf_counter() - started
    did = compiler_counts().since(before)
    return FirstCall(seconds, did.cache_hits, did.cache_misses), output
