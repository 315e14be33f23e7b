import re
import shlex

import pytest
import torch
import torch._inductor.config as inductor_config
from torch import nn
from torch._inductor.codecache import _precompile_header
from torch._inductor.cpp_builder import BuildOptionsBase, CppBuilder

from src.compilation import toolchain
from src.compilation.scopes import (
    CompilerCounts,
    FirstCall,
    compile_module,
    compiler_counts,
    compiler_options,
    forget_compiled,
    repeated_blocks,
    timed_first_call,
)
from src.config.schema.root import CompileConf
from src.records.record import Outcome
from src.workloads.workload import Whole, Workload, build_workload
from tests.conftest import SMALL_FLUX, SMALL_LINEAR

HERE = __name__


class Breaking(nn.Linear):
    """Breaks the graph in every forward."""

    def forward(self, input):
        shifted = input + 1
        torch._dynamo.graph_break()
        return super().forward(shifted)


class Forgetful(nn.Linear):
    """Looks different to the compiler at every call."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = 1.0

    def forward(self, input):
        self.scale = self.scale + 1.0
        return super().forward(input) * self.scale


class Stack(nn.Module):
    """Blocks in a list, like a model that names none."""

    def __init__(self, make_block, blocks=3):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(make_block() for _ in range(blocks))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


def eager_graphs(scope, **more):
    return CompileConf(name=scope, scope=scope, backend="eager", **more)


@torch.no_grad()
def graphs_of(workload, conf):
    before = compiler_counts()
    compile_module(workload.module, conf)
    workload.call()
    return compiler_counts().since(before).graphs


def linear():
    return Workload(Whole(nn.Linear(8, 8)), (torch.ones(2, 8),), {})


# ---- scopes


def test_paths_reach_the_compiler_as_they_are(tmp_path):
    """torch itself in a folder with blanks: its libraries' are not quoted there."""
    folder = str(tmp_path / "größe #1 100% it's")
    options = BuildOptionsBase("g++", include_dirs=[folder], libraries_dirs=[folder, "/usr/lib"])
    words = shlex.split(CppBuilder("code", [f"{folder}/a.cpp"], options, folder).get_command_line())
    assert {f"{folder}/a.cpp", f"-I{folder}", f"-L{folder}", "-L/usr/lib", f"{folder}/code.so"} <= {*words}
    options.precompiled_header = f"{folder}/all.h"
    words = shlex.split(CppBuilder("code", f"{folder}/a.cpp", options, folder).get_command_line())
    assert f"{folder}/all.h" in words


def test_scope_none_compiles_nothing():
    assert graphs_of(linear(), eager_graphs("none")) == 0


def test_scope_module_is_one_graph():
    assert graphs_of(linear(), eager_graphs("module")) == 1


@torch.no_grad()
@pytest.mark.parametrize(
    ("scope", "depth", "graphs"),
    [
        ("module", 1, 1),
        ("regional", 3, 3),  # of six blocks: Flux's first single block gets other strides than the rest
    ],
)
def test_compiled_output_is_that_of_the_model(compose, cpu, scope, depth, graphs):
    layers = (f"model.factory.num_layers={depth}", f"model.factory.num_single_layers={depth}")
    workload = build_workload(compose(*SMALL_FLUX, *layers, "dtype=float32"), cpu)
    (expected,) = workload.call()
    assert graphs_of(workload, eager_graphs(scope)) == graphs
    torch.testing.assert_close(workload.call()[0], expected)


def test_blocks_that_the_model_names(compose, cpu):
    workload = build_workload(compose("model=flux-tiny"), cpu)
    kinds = [type(block).__name__ for block in repeated_blocks(workload.module)]
    assert kinds == ["FluxTransformerBlock"] * 2 + ["FluxSingleTransformerBlock"] * 4


class Naming(nn.Module):
    """Names its blocks, like diffusers' models; they stand deeper than its module lists do."""

    _repeated_blocks = ("Breaking",)

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"a": Breaking(8, 8), "b": Whole(Breaking(8, 8)), "c": nn.Linear(8, 8)})
        self.others = nn.ModuleList([Whole(nn.Linear(8, 8))])


def test_only_blocks_of_the_named_classes():
    model = Naming()
    assert repeated_blocks(model) == [model.inner["a"], model.inner["b"].inner]


def wrapped_linear():
    return Whole(nn.Linear(8, 8))


def plain_layers():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU())


def test_blocks_of_a_model_that_names_none():
    stack = Stack(wrapped_linear)
    assert repeated_blocks(stack) == list(stack.blocks)
    assert graphs_of(Workload(stack, (torch.ones(2, 8),), {}), eager_graphs("regional")) == 1


@pytest.mark.parametrize(
    "module", [Stack(plain_layers), Whole(nn.Linear(8, 8))], ids=["plain layers", "no list"]
)
def test_a_model_without_blocks_is_compiled_whole(module):
    assert repeated_blocks(module) == [module]
    assert graphs_of(Workload(module, (torch.ones(2, 8),), {}), eager_graphs("regional")) == 1


@torch.no_grad()
def test_a_target_that_is_a_plain_layer_can_be_compiled(compose, cpu):
    cfg = compose(*SMALL_FLUX, "dtype=float32", "+model.targets.norm=norm_out.norm", "target=norm")
    workload = build_workload(cfg, cpu)
    assert type(workload.module.inner) is nn.LayerNorm
    assert graphs_of(workload, eager_graphs("module")) == 1


# ---- options


def test_options_hold_inside_and_are_gone_afterwards():
    before = inductor_config.save_config_portable()
    limit = torch._dynamo.config.recompile_limit
    conf = CompileConf(name="x", options={"coordinate_descent_tuning": True, "max_autotune": True})
    with compiler_options(conf):
        assert inductor_config.coordinate_descent_tuning
        assert inductor_config.max_autotune
    assert inductor_config.save_config_portable() == before
    assert torch._dynamo.config.recompile_limit == limit


def test_both_arms_are_compiled_with_the_same_options(compose, execute_run, monkeypatch):
    seen = []

    def spy(module, conf):
        seen.append(inductor_config.save_config_portable())

    monkeypatch.setattr("src.tasks.arms.packaged.compile_module", spy)
    before = inductor_config.save_config_portable()
    cfg = compose(*SMALL_LINEAR, "quant=int8dq", "compile=default", "+compile.options.epilogue_fusion=false")
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    baseline, treated = seen
    assert baseline == treated
    assert baseline["epilogue_fusion"] is False
    assert before["epilogue_fusion"] is True
    assert inductor_config.save_config_portable() == before


# ---- what a run says of the compiler


def broken_model(kind):
    return (*SMALL_LINEAR, "quant=none", f"model.factory._target_={HERE}.{kind}", "compile.backend=aot_eager")


def test_a_graph_break_under_fullgraph_is_a_compile_error(compose, execute_run):
    record = execute_run(compose(*broken_model("Breaking"), "compile=default"))
    assert record.outcome is Outcome.COMPILE_ERROR
    assert "graph_break" in record.reason
    assert re.search(r"test_compiling\.py:\d+ in forward", record.reason)
    assert "compile=none" in record.remedy
    assert record.verdict == ""


def test_graph_breaks_are_counted_with_their_reason(compose, execute_run):
    cfg = compose(*broken_model("Breaking"), "compile=default", "compile.fullgraph=false")
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["compile/graph_breaks"] >= 1
    assert sum(record.details["graph_breaks"].values()) == record.metrics["compile/graph_breaks"]
    assert any("graph_break" in reason for reason in record.details["graph_breaks"])
    assert all("\n" not in reason for reason in record.details["graph_breaks"])
    assert all(re.search(r"test_compiling\.py:\d+ in", reason) for reason in record.details["graph_breaks"])


@pytest.mark.parametrize(("kind", "recompiles"), [("torch.nn.Linear", False), (f"{HERE}.Forgetful", True)])
def test_recompiles_after_the_first_call_are_counted(compose, execute_run, kind, recompiles):
    cfg = compose(
        *SMALL_LINEAR,
        "quant=none",
        "compile=default",
        "compile.backend=aot_eager",
        f"model.factory._target_={kind}",
    )
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert (record.metrics["compile/recompiles"] > 0) == recompiles
    assert record.details["withheld"] == recompiles or "other processes" in record.reason
    assert ("graphs were compiled again while rounds were timed" in record.reason) == recompiles


@torch.no_grad()
def test_other_shapes_are_recompiles():
    workload = linear()
    assert graphs_of(workload, eager_graphs("module", dynamic=False)) == 1
    before = compiler_counts()
    for rows in (2, 3, 4, 3):
        workload.module(torch.ones(rows, 8))
    assert compiler_counts().since(before).graphs == 2


# ---- first calls


@pytest.mark.parametrize(
    ("hits", "misses", "cold", "from_cache"),
    [(0, 0, False, False), (0, 2, True, False), (1, 1, True, False), (2, 0, False, True)],
)
def test_kinds_of_first_calls(hits, misses, cold, from_cache):
    call = FirstCall(1.0, cache_hits=hits, cache_misses=misses)
    assert (call.cold, call.from_cache) == (cold, from_cache)


def test_counts_since():
    later, earlier = CompilerCounts(5, 4, 3, 2), CompilerCounts(1, 1, 1, 1)
    assert later.since(earlier) == CompilerCounts(4, 3, 2, 1)


@pytest.mark.usefixtures("cold_cache")
@torch.no_grad()
def test_cold_and_then_from_the_cache(cpu):
    workload = linear()
    compile_module(workload.module, CompileConf(name="default"))
    cold, first = timed_first_call(workload, cpu)
    hot, _ = timed_first_call(workload, cpu)
    forget_compiled()
    warm, again = timed_first_call(workload, cpu)
    assert (cold.cold, hot.cold, warm.cold) == (True, False, False)
    assert (cold.from_cache, hot.from_cache, warm.from_cache) == (False, False, True)
    assert min(cold.seconds, hot.seconds, warm.seconds) > 0
    assert torch.equal(first, again)


@pytest.mark.usefixtures("cold_cache")
def test_a_run_times_both_arms_cold_and_warm(compose, execute_run):
    cfg = compose(*SMALL_LINEAR, "quant=int8wo", "compile=default")
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    for prefix in ("", "baseline_"):
        assert all(record.metrics[f"compile/{prefix}{kind}_s"] > 0 for kind in ("cold", "warm"))
    assert record.metrics["compile/cache_misses"] == 2
    assert record.metrics["compile/recompiles"] == 0


@pytest.mark.usefixtures("cold_cache")
def test_a_second_run_comes_from_the_cache(compose, execute_run):
    cfg = compose(*SMALL_LINEAR, "quant=none", "compile=default", "measure.warm_compile=false")
    first = execute_run(cfg)
    assert first.metrics["compile/baseline_cold_s"] > 0
    assert "compile/baseline_warm_s" not in first.metrics
    forget_compiled()
    torch._dynamo.utils.counters.clear()
    record = execute_run(cfg)
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["compile/baseline_warm_s"] > 0
    assert "compile/baseline_cold_s" not in record.metrics
    assert record.metrics["compile/cache_misses"] == 0


@pytest.mark.usefixtures("cold_cache")
@torch.no_grad()
def test_the_header_of_compiled_code_is_made_before_the_clock_runs(cpu):
    toolchain.ask("cpu")
    forget_compiled()
    made = _precompile_header.cache_info()
    assert made.currsize > 0
    workload = Workload(Whole(nn.Sequential(nn.Linear(8, 8), nn.GELU())), (torch.ones(2, 8),), {})
    compile_module(workload.module, CompileConf(name="default"))
    first, _ = timed_first_call(workload, cpu)
    assert first.cold
    assert _precompile_header.cache_info().misses == made.misses


def test_nothing_to_compile_is_neither_cold_nor_warm(compose, execute_run):
    record = execute_run(compose(*SMALL_LINEAR, "quant=none", "compile=none"))
    assert record.outcome is Outcome.OK, record.reason
    assert not [name for name in record.metrics if name.endswith(("cold_s", "warm_s"))]
    assert record.metrics["compile/cache_misses"] == 0
