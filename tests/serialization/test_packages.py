"""Packages of AOTInductor: built once for all tests here, shipped, loaded, refused."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from src.compilation.dynamic import dynamic_arguments, inside, ranges_of
from src.compilation.exported import Call, Loaded, call_instead, constants_of, export
from src.compilation.strides import laid_out, strides_of
from src.devices.load import Load
from src.measurement.rounds import Rounds
from src.outcomes import RunEndedError
from src.records.key import run_key
from src.records.record import Outcome, read_record
from src.run import execute
from src.serialization import fresh
from src.serialization.checkpoint import load_into
from src.serialization.files import sha256_of
from src.serialization.fresh import Asked, TimedCalls
from src.serialization.info import read_info
from src.serialization.kinds import kind_of_block
from src.serialization.package import load_packages, make_packages, remove_packages, without_packages
from src.serialization.package_info import (
    PackageInfo,
    Part,
    fits,
    inputs_of,
    missing,
    read_package,
    verify_packages,
)
from src.tasks import startup
from src.tasks.arms.arm import prepare
from src.tasks.arms.packaged import _against_eager
from src.tasks.saved_and_loaded import note_speed
from src.workloads.workload import Workload, build_workload, empty_workload
from tests.conftest import SMALL_LINEAR, identity

WORKLOAD = (*SMALL_LINEAR, "quant=int8wo", "dtype=float32", "measure.budget_s=0.1")
AOT = "compile=aot"


@pytest.fixture(scope="module")
def shipped(compose, tmp_path_factory):
    """What `task=serialize compile=aot serialize.keep=true` leaves: its record, and the checkpoint that it kept."""
    folder = tmp_path_factory.mktemp("shipped")
    cfg = compose("task=serialize", *WORKLOAD, AOT, "serialize.keep=true")
    execute(cfg, identity(cfg), folder, lambda _: None)
    return read_record(folder / "record.json"), folder / "checkpoint"


@pytest.fixture
def checkpoint(shipped, tmp_path):
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(shipped[1], tmp_path / "kept"))


@pytest.fixture
def workload(compose, cpu, checkpoint):
    """The quantized workload with the weights that were shipped."""
    found = empty_workload(compose("task=serialize", *WORKLOAD), cpu)
    load_into(found.denoiser(), checkpoint, read_info(checkpoint), cpu.torch, trust=False)
    return found


def load(workload, checkpoint, device):
    packages = checkpoint / "packages"
    load_packages(workload.denoiser(), packages, read_package(packages), device)


def edit(checkpoint, **changes):
    path = checkpoint / "packages" / "package.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class Branching(nn.Module):
    """A model whose way depends on values."""

    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        return x


class Doubling(nn.Module):
    """A model that is told what to do."""

    def forward(self, x, twice):
        return x * 2 if twice else x * 1


class Block(nn.Module):
    """A block with an option that its weights do not show."""

    def __init__(self, scale=1.0, width=4):
        super().__init__()
        self.scale = scale
        self.inner = nn.Linear(4, width)

    def forward(self, x):
        return self.inner(x) * self.scale


# ---- shipped


def test_a_fresh_process_gives_the_same_from_the_package(shipped):
    record, checkpoint = shipped
    assert record.outcome is Outcome.OK, record.reason
    found, metrics = record.details["serialize"], record.metrics
    assert found["loaded"]["equal"] is found["fresh"]["equal"] is True
    assert found["fresh"]["pid"] != os.getpid()
    assert metrics["package/start_s"] > 0
    assert metrics["package/build_s"] > 0
    assert "its package there" in record.reason
    assert re.search(r"where it was built \(|not timed, as others used", found["speed"])
    (built,) = record.details["packages"]["treated"]
    assert metrics["package/size_mib"] == pytest.approx(built["bytes"] / 2**20, abs=1e-3)
    assert built["inputs"] == ["float32 [16, 256]"]
    names = sorted(path.name for path in (checkpoint / "packages").iterdir())
    assert names == [built["file"], "package.json"]


def test_hashes_are_no_part_of_a_start(compose, shipped, monkeypatch):
    """A clock that only hashes move on."""
    clock, hashed = [0.0], []

    def slow(path):
        clock[0] += 1000.0
        hashed.append(path.suffix)
        return sha256_of(path)

    monkeypatch.setattr("src.serialization.package_info.sha256_of", slow)
    monkeypatch.setattr("src.serialization.checkpoint.sha256_of", slow)
    monkeypatch.setattr(fresh, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    found = fresh._answer(
        compose("task=serialize", *WORKLOAD, AOT), shipped[1], Asked(shipped[1] / "packages")
    )
    assert found.failure is None
    assert hashed == [".safetensors", ".pt2"]
    assert found.load_s == found.start_s == 0.0


def test_what_is_beside_a_package(shipped, cpu):
    info = read_package(shipped[1] / "packages")
    assert (info.versions["torch"], info.dtype, info.quant) == (torch.__version__, "float32", "int8wo")
    assert info.device["identity"] == cpu.identity
    assert any("Int8Tensor" in text for text in info.parts[0].weights.values())
    weights = info.parts[0].weights
    assert weights["inner.parametrizations.weight.original0"].startswith("int8 [128, 256]")


@torch.no_grad()
def test_a_loaded_package_is_called_in_place_of_the_module(workload, checkpoint, cpu):
    eager = workload.call()
    load(workload, checkpoint, cpu)
    inside = workload.denoiser()._compiled_call_impl
    assert torch.allclose(workload.call(), eager, atol=1e-5)
    assert inside.weights["inner.parametrizations.weight.original0"].data_ptr() == (
        constants_of(workload.denoiser())["inner.parametrizations.weight.original0"].data_ptr()
    ), "the weights are not copied"
    assert workload.twin().denoiser()._compiled_call_impl is None
    with without_packages(workload.denoiser()):
        assert torch.equal(workload.call(), eager)
    assert workload.denoiser()._compiled_call_impl is inside


@torch.no_grad()
def test_a_call_of_another_size_is_refused(workload, checkpoint, cpu):
    load(workload, checkpoint, cpu)
    for _ in range(2):  # also after calls that were well
        with pytest.raises(RunEndedError, match=r"for float32 \[16, 256\], .* with float32 \[4, 256\]"):
            workload.module(input=torch.zeros(4, 256))
        workload.call()


@torch.no_grad()
def test_a_call_with_another_value_that_is_in_the_code_is_refused(compose, cpu, tmp_path):
    """As of a pipeline that calls its denoiser again with a part of it switched off."""
    cfg = compose(*SMALL_LINEAR, "quant=none", "dtype=float32", AOT)
    workload = Workload(Doubling(), (torch.ones(4, 8),), {"twice": False})
    load_packages(workload.module, tmp_path, make_packages(workload, tmp_path, cfg, cpu), cpu)
    for _ in range(2):
        assert torch.equal(workload.call(), torch.ones(4, 8))
        with pytest.raises(RunEndedError, match="for False, and is called with True"):
            workload.module(torch.ones(4, 8), twice=True)


@torch.no_grad()
def test_a_call_of_other_strides_gives_the_same(workload, checkpoint, cpu):
    load(workload, checkpoint, cpu)
    given, spread = torch.randn(16, 256), torch.randn(256).expand(16, 256)
    wanted, wanted_spread = (workload.module(input=each.clone()) for each in (given, spread.contiguous()))
    for _ in range(2):
        assert torch.equal(workload.module(input=given.t().contiguous().t()), wanted)
        assert torch.equal(workload.module(input=spread), wanted_spread)
        assert torch.equal(workload.module(input=given), wanted)


@torch.no_grad()
def test_a_package_of_before_strides_were_kept_is_called_as_it_was(workload, checkpoint, cpu):
    (part,) = json.loads((checkpoint / "packages" / "package.json").read_text())["parts"]
    assert part.pop("strides") == [[]]
    edit(checkpoint, parts=[part], schema_version=1)
    eager = workload.call()
    load(workload, checkpoint, cpu)
    assert torch.allclose(workload.call(), eager, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "strides"),
    [
        (torch.zeros(2, 3, 4), []),
        (torch.zeros(2, 4, 3).transpose(1, 2), [12, 1, 3]),
        (torch.zeros(1, 4, 3).transpose(1, 2), [0, 1, 3]),
        (torch.zeros(2, 5, 4)[:, 2:], [20, 4, 1]),
        (torch.zeros(1, 5, 4)[:, 2:], []),
        (torch.zeros(4).expand(2, 3, 4), []),
        (torch.zeros(9).as_strided((2, 3, 4), (2, 1, 1)), []),
        (torch.zeros(()), []),
    ],
)
def test_how_a_tensor_lies_and_how_another_is_brought_to_that(given, strides):
    assert strides_of(given) == strides
    other = torch.rand(given.shape[::-1]).permute([*reversed(range(given.dim()))])
    moved = laid_out(other, strides)
    assert torch.equal(moved, other)
    assert strides_of(moved) == strides
    assert laid_out(moved, strides) is moved


@pytest.mark.parametrize(
    ("there_ms", "foreign_cpus", "says"),
    [
        (1.0, 0.0, "not told apart in speed from where it was built (0."),  # within the 10 % of arms in turn
        (2.0, 0.0, "0.50x as quick as where it was built (0."),
        (1.0, 9.0, "not timed, as others used 9.0 of 1 CPUs"),
    ],
)
def test_whether_a_package_is_as_quick_there(compose, run_context, there_ms, foreign_cpus, says):
    def timed(ms):
        return TimedCalls(
            Rounds(baseline_ms=[ms * (1 + 0.001 * (i % 3)) for i in range(30)]),
            Load(1.0, foreign_cpus, 1, 1.0),
        )

    run = run_context(compose(*WORKLOAD, AOT))
    run.record.details["serialize"] = {}
    note_speed(timed(1.0), timed(there_ms), run)
    assert run.record.details["serialize"]["speed"].startswith(says)
    assert ("package/fresh_speed_ratio" in run.record.metrics) == (not foreign_cpus)


# ---- refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"versions": {"torch": "2.0.0"}}, "built with torch 2.0.0, this is"),
        ({"device": {"kind": "cuda", "name": "a GPU"}}, "built for a GPU; this is .*: a cpu device"),
        ({"schema_version": 99}, "schema 99 is newer"),
        ({"schema_version": None}, "no schema_version"),
        ({"kind": "else"}, "not written by compile=aot"),
        ({"parts": [{}]}, "not complete"),
    ],
)
def test_a_package_of_elsewhere_is_refused_in_one_line(workload, checkpoint, cpu, changes, said):
    edit(checkpoint, **changes)
    with pytest.raises(RunEndedError, match=said) as end:
        load(workload, checkpoint, cpu)
    assert end.value.outcome is Outcome.FAILED
    assert "\n" not in str(end.value)
    assert "compile=aot" in end.value.remedy


def test_a_package_for_another_number_of_threads_is_refused(workload, checkpoint, cpu):
    """With more threads than it was built for it would end the process, or give other numbers."""
    with pytest.raises(RunEndedError, match=r"built for gpu\.threads=1; here it is 3") as end:
        load(workload, checkpoint, replace(cpu, threads=3))
    assert end.value.remedy.startswith("gpu.threads=1, or build it here")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["compile=aot-regional"], r"compile\.scope=module; asked for is compile\.scope=regional"),
        (
            ["+compile.options.epilogue_fusion=false"],
            r"compile\.options=\{\}; asked for is compile\.options=\{'ep",
        ),
        (["+compile.dynamic_shapes.batch=[1,8]"], r"compile\.dynamic_shapes=\{\}; asked for is .*\[1, 8\]"),
    ],
)
def test_a_package_of_another_compile_mode_is_refused(compose, shipped, tmp_path, asked, said):
    cfg = compose("task=serialize", *WORKLOAD, AOT, *asked, f"serialize.load={shipped[1]}")
    execute(cfg, identity(cfg), tmp_path, lambda _: None)
    record = read_record(tmp_path / "record.json")
    assert record.outcome is Outcome.FAILED
    assert re.search(f"packages: built with {said}", record.reason), record.reason
    assert record.remedy.startswith("compile=aot, as built, or build it here")


def test_a_damaged_package_is_refused(workload, checkpoint, cpu):
    (file,) = (checkpoint / "packages").glob("*.pt2")
    file.write_bytes(b"else")
    with pytest.raises(RunEndedError, match="damaged or another file"):
        load(workload, checkpoint, cpu)


def test_damaged_constants_are_refused(tmp_path):
    """Tensors in the code that are no weights, in a file beside it."""
    for name in ("a.pt2", "a.constants.safetensors"):
        (tmp_path / name).write_bytes(b"as it was")
    digest = sha256_of(tmp_path / "a.pt2")
    part = Part("a.pt2", 9, digest, "a.constants.safetensors", "Block", [""], [], {}, constants_sha256=digest)
    info = PackageInfo([part], {}, {}, "linear", "none", "linear", "float32", {})
    verify_packages(tmp_path, info)
    (tmp_path / "a.constants.safetensors").write_bytes(b"else")
    with pytest.raises(RunEndedError, match=r"constants.safetensors: is missing, damaged or another file"):
        verify_packages(tmp_path, info)


def test_a_package_of_another_model_or_scheme_is_refused(compose, checkpoint, cpu):
    unquantized = empty_workload(compose("task=serialize", *WORKLOAD), cpu)
    with pytest.raises(
        RunEndedError, match=r"of another model or scheme: inner\.parametrizations\.weight\.original0"
    ):
        load(unquantized, checkpoint, cpu)
    other = replace(unquantized, module=nn.Sequential())
    (part,) = json.loads((checkpoint / "packages" / "package.json").read_text())["parts"]
    edit(checkpoint, parts=[part | {"modules": ["blocks.0"]}])
    with pytest.raises(RunEndedError, match=r"this one has no blocks\.0"):
        load(other, checkpoint, cpu)


@pytest.mark.parametrize(
    ("built", "here", "lacks"),
    [
        (9.0, 9.0, ""),
        (8.0, 9.0, "9.0, not 8.0"),
        (["avx2", "avx512f"], ["avx2"], "no avx512f"),
        (["avx2"], ["avx2", "avx512f"], ""),
    ],
)
def test_what_a_device_lacks(built, here, lacks):
    def device(known):
        if isinstance(known, float):
            return {"kind": "cuda", "compute_capability": known, "identity": {}}
        return {"kind": "cpu", "compute_capability": None, "identity": {"instruction_sets": known}}

    found = missing(device(built), device(here))
    assert lacks in found
    assert bool(lacks) == bool(found)


# ---- measured


@torch.no_grad()
def test_a_start_is_measured_in_processes_that_know_only_the_files(
    compose, run_context, workload, checkpoint, monkeypatch
):
    cfg = compose(*WORKLOAD, AOT, "compile.backend=eager")  # of torch.compile: here it is about who starts
    run, asked = run_context(cfg), []
    monkeypatch.setattr(
        "src.tasks.arms.packaged.make_packages", lambda *_: read_package(checkpoint / "packages")
    )
    shutil.copytree(checkpoint / "packages", run.folder / "packages" / "treated")

    def here(cfg, device, folder, what):
        asked.append((cfg.compile.package, what.packages, what.cache))
        answer = fresh._answer(cfg, folder, replace(what, cache=None))
        assert answer.failure is None, answer.failure
        return answer

    monkeypatch.setattr(startup, "call_fresh", here)
    startup.measure_startup(prepare("treated", workload, run), run)
    cache = run.folder / "startup_cache"
    assert asked == [
        (True, run.folder / "packages" / "treated", None),
        (False, None, cache),
        (False, None, cache),
    ]
    assert "startup_not_measured" not in run.record.details
    assert run.record.details["fresh_package"]["equal"] is True
    for name in ("start_s", "compile_cold_s", "compile_cached_s", "weights_load_s", "weights_gib"):
        assert run.record.metrics[f"package/{name}"] > 0
    assert not (run.folder / "checkpoint").exists()


def test_a_start_that_cannot_be_measured_takes_nothing_with_it(compose, run_context, workload, monkeypatch):
    run = run_context(compose(*WORKLOAD, AOT, "serialize.format=pickle"))
    treated = type("Arm", (), {"name": "treated", "workload": workload, "rows": []})()
    startup.measure_startup(treated, run)
    assert run.record.details["startup_not_measured"].startswith("failed: ")


# ---- exported


def test_an_export_that_fails_names_the_line_of_the_model():
    with pytest.raises(RunEndedError, match=r"torch\.export cannot take Branching") as end:
        export(Branching(), Call((torch.ones(2),), {}), None)
    assert end.value.outcome is Outcome.UNSUPPORTED
    assert "test_packages.py:" in str(end.value)
    assert " in forward" in str(end.value)
    assert "consider using" not in str(end.value)
    assert "\n" not in str(end.value)


def test_sides_that_change_with_a_dimension_are_dynamic():
    def call(batch):
        return Call((torch.zeros(batch, 4),), {})

    example, dynamic = dynamic_arguments(call(1), call(1), call(3))
    assert example.args[0].shape == (3, 4), "a side of 1 would be part of the code"
    program = export(Block(), example, dynamic)
    assert program.module()(torch.zeros(2, 4)).shape == (2, 4)
    assert inputs_of(call(1).tensors(), ranges_of(call(1), call(1), call(3))) == ["float32 [1-3, 4]"]
    assert [fits("float32 [1-3, 4]", torch.zeros(size, 4)) for size in (1, 3, 4)] == [True, True, False]


@pytest.mark.parametrize(
    ("ranges", "sizes"),
    [
        ("{batch:[1,8]}", {"batch": 5}),
        ("{batch:[1,3]}", {"batch": 2}),
        ("{batch:[1,2]}", {}),  # there is none
        ("{resolution:[256,1024],text_tokens:[64,512]}", {"resolution": 656, "text_tokens": 289}),
        ("{resolution:[256,272]}", {}),  # and none that patches divide
    ],
)
def test_a_size_inside_is_an_odd_one_that_the_model_can_have(compose, ranges, sizes):
    assert inside(compose("model=flux-tiny", AOT, f"+compile.dynamic_shapes={ranges}")) == sizes


class EvenOnly(Loaded):
    """Stands for code that was made for an even number of rows."""

    def __init__(self, module):
        self.module = module

    def __call__(self, input):
        return self.module.forward(input) * (1 if len(input) % 2 == 0 else -1)


@torch.no_grad()
def test_code_that_is_right_at_both_ends_alone_is_no_package(compose, run_context):
    ranges = "+compile.dynamic_shapes.batch=[2,8]"
    cfg = compose(
        "model=linear", "quant=none", "dtype=float32", "batch=2", AOT, ranges, "model.dims={M:1,K:16,N:16}"
    )
    run = run_context(cfg)
    workload = build_workload(cfg, run.device)
    call_instead(workload.denoiser(), EvenOnly(workload.denoiser()))
    with pytest.raises(RunEndedError, match=r"the package is not the model, batch=5: SQNR -6"):
        dict(_against_eager(workload, run))


def test_an_argument_that_is_no_tensor_cannot_change():
    calls = [Call((torch.zeros(1),), {"height": height}) for height in (8, 8, 16)]
    with pytest.raises(RunEndedError, match="from 8 to 16"):
        dynamic_arguments(*calls)


def test_blocks_of_one_kind_share_a_package():
    call = Call((torch.zeros(1, 4),), {})
    kinds = [kind_of_block(block, call) for block in (Block(), Block(), Block(scale=2.0), Block(width=8))]
    assert kinds[0] == kinds[1]
    assert len({*kinds}) == 3
    assert kind_of_block(Block(), Call((torch.zeros(2, 4),), {})) != kinds[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [([0.5], [0.6]), ({"a": 1}, {"a": 2}), (torch.ones(2), torch.zeros(2)), (torch.relu, torch.tanh)],
    ids=["list", "dict", "tensor", "function"],
)
def test_blocks_that_hold_something_else_are_of_another_kind(one, other):
    """It is part of the code."""
    call, blocks = Call((torch.zeros(1, 4),), {}), [Block(), Block(), Block()]
    for block, held in zip(blocks, (one, one, other), strict=True):
        block.held = held
    kinds = [kind_of_block(block, call) for block in blocks]
    assert kinds[0] == kinds[1] != kinds[2]


def test_a_block_whose_inputs_lie_otherwise_is_of_anotherkind_of_block():
    """AOTInductor reads them by the strides that it was shown."""
    first, other = Call((torch.zeros(2, 3, 4),), {}), Call((torch.zeros(2, 4, 3).transpose(1, 2),), {})
    assert kind_of_block(Block(), first) != kind_of_block(Block(), other)
    assert kind_of_block(Block(), first) == kind_of_block(Block(), other.settled(contiguous=True))


# ---- around it


def test_only_packages_change_a_run_key_by_being_there(compose, cpu):
    device = cpu.as_dict()
    keys = {
        run_key(compose("quant=int8wo", *options), device)
        for options in (("compile=default",), (AOT,), (AOT, "+compile.dynamic_shapes.batch=[1,2]"))
    }
    assert len(keys) == 3


def test_what_was_made_is_removed_and_nothing_else(checkpoint):
    packages = checkpoint / "packages"
    (packages / "mine.txt").write_text("mine")
    remove_packages(packages)
    assert [path.name for path in packages.iterdir()] == ["mine.txt"]
    (packages / "mine.txt").unlink()
    remove_packages(packages)
    assert not packages.exists()
