import subprocess
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from torch._inductor.compile_worker.subproc_pool import SubprocException

from src.config.errors import ConfigError
from src.outcomes import RunEndedError, ended, log_text, unsupported
from src.records.record import Outcome


def raised(error, cause=None, context=None):
    """The error as it is after it was raised, with its chain."""
    try:
        try:
            if context is not None:
                raise context
        finally:
            raise error from cause
    except BaseException as caught:
        return caught


def compiler_error():
    def forward(x):
        torch._dynamo.graph_break()
        return x

    with pytest.raises(torch._dynamo.exc.Unsupported) as caught:
        torch.compile(forward, backend="eager", fullgraph=True)(torch.ones(1))
    return caught.value


def backend_error():
    def broken(graph, inputs):
        raise ValueError("the backend broke")

    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as caught:
        torch.compile(lambda x: x + 1, backend=broken)(torch.ones(1))
    return caught.value


def no_more_files():
    def broken(graph, inputs):
        raise OSError(24, "Too many open files")

    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as caught:
        torch.compile(lambda x: x + 4, backend=broken)(torch.ones(1))
    return caught.value


FULL_FOR_THE_COMPILER = subprocess.CalledProcessError(
    1, ["g++"], stderr="g++: error\nas: cannot write /tmp/x.o: No space left on device\n"
)


def told_by(command, status, stderr):
    return lambda: raised(
        compiler_error(), cause=subprocess.CalledProcessError(status, [command], stderr=stderr)
    )


def allocation_error():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


def out_of_memory_while_compiling():
    def hungry(graph, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(Exception, match="out of memory") as caught:
        torch.compile(lambda x: x + 2, backend=hungry)(torch.ones(1))
    return caught.value


@pytest.mark.parametrize(
    ("make", "outcome", "reason"),
    [
        (lambda: unsupported("no float8 here"), Outcome.UNSUPPORTED, "no float8 here"),
        (lambda: RunEndedError(Outcome.BAD_NUMERICS, "NaN"), Outcome.BAD_NUMERICS, "NaN"),
        (lambda: torch.OutOfMemoryError("CUDA out of memory."), Outcome.OOM, "CUDA out of memory."),
        (lambda: MemoryError(), Outcome.OOM, "MemoryError"),
        (
            lambda: RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            Outcome.OOM,
            "CUBLAS_STATUS_ALLOC_FAILED",
        ),
        (
            lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            Outcome.OOM,
            "CUDNN_STATUS_ALLOC_FAILED",
        ),
        (allocation_error, Outcome.OOM, "can't allocate memory"),
        (lambda: OSError(12, "Cannot allocate memory"), Outcome.OOM, "Cannot allocate memory"),
        (lambda: raised(ValueError("x"), cause=MemoryError()), Outcome.OOM, "x"),
        (lambda: raised(ValueError("x"), context=torch.OutOfMemoryError("out of memory")), Outcome.OOM, "x"),
        (out_of_memory_while_compiling, Outcome.OOM, "out of memory"),
        (compiler_error, Outcome.COMPILE_ERROR, "graph_break"),
        (backend_error, Outcome.COMPILE_ERROR, "the backend broke"),
        (lambda: raised(ValueError("x"), cause=compiler_error()), Outcome.COMPILE_ERROR, "graph_break"),
        (
            lambda: RuntimeError(
                "torch.compile with fullgraph=True found no compiled frames. Skipped: forward"
            ),
            Outcome.COMPILE_ERROR,
            "found no compiled frames",
        ),
        (lambda: ValueError("a bug"), Outcome.FAILED, "ValueError: a bug"),
        (lambda: ConfigError("batch=0: at least 1"), Outcome.FAILED, "batch=0: at least 1"),
        (lambda: KeyError("x"), Outcome.FAILED, "KeyError: 'x'"),
        (lambda: ValueError(), Outcome.FAILED, "ValueError"),
        (lambda: FileNotFoundError(2, "No such file", "g++"), Outcome.FAILED, "FileNotFoundError"),
        (lambda: subprocess.CalledProcessError(1, ["g++"]), Outcome.FAILED, "CalledProcessError"),
        (
            lambda: OSError(28, "No space left on device", "/there"),
            Outcome.FAILED,
            "a disk is full: [Errno 28]",
        ),
        (
            lambda: raised(compiler_error(), cause=FULL_FOR_THE_COMPILER),
            Outcome.FAILED,
            "a disk is full: as: cannot write /tmp/x.o: No space left on device",
        ),
        (
            lambda: torch._inductor.exc.CppCompileError(
                ["g++"], "g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated."
            ),
            Outcome.KILLED,
            "a compiler was killed: g++: fatal error: Killed signal terminated program cc1plus",
        ),
        (
            told_by("g++", 1, "g++: fatal error: Killed signal terminated program cc1plus"),
            Outcome.KILLED,
            "a compiler was killed: g++: fatal error",
        ),
        (
            told_by("ptxas", -9, ""),
            Outcome.KILLED,
            "a compiler was killed: Command '['ptxas']' died with <Signals.",
        ),
        (
            lambda: raised(compiler_error(), cause=RuntimeError("`ptxas` failed with error code -9")),
            Outcome.KILLED,
            "a compiler was killed: `ptxas` failed",
        ),
        (
            lambda: raised(
                compiler_error(),
                cause=BrokenProcessPool(
                    "A process in the process pool was terminated abruptly while running"
                ),
            ),
            Outcome.KILLED,
            "a compiler was killed: A process in the process pool",
        ),
        (
            no_more_files,
            Outcome.FAILED,
            "the compiler could not work: OSError: [Errno 24] Too many open files",
        ),
        (
            lambda: raised(compiler_error(), cause=ModuleNotFoundError("No module named 'cutlass'")),
            Outcome.FAILED,
            "the compiler could not work: ModuleNotFoundError: No module named 'cutlass'",
        ),
        (
            lambda: torch._inductor.exc.InductorError(
                SubprocException("Traceback:\n  File x\nPermissionError: [Errno 13] Permission denied: '/c'"),
                None,
            ),
            Outcome.FAILED,
            "the compiler could not work: PermissionError: [Errno 13] Permission denied: '/c'",
        ),
        (lambda: torch._inductor.exc.InvalidCxxCompiler(), Outcome.FAILED, "No working C++ compiler found"),
        (
            lambda: raised(compiler_error(), context=FileNotFoundError(2, "No such file", "cache")),
            Outcome.COMPILE_ERROR,
            "",  # it was handled: the error came of something else
        ),
        (told_by("g++", 1, "error code -91"), Outcome.COMPILE_ERROR, "non-zero exit status"),
        (lambda: RuntimeError("CUDA error: device-side assert"), Outcome.FAILED, "RuntimeError: CUDA error"),
    ],
)
def test_what_an_exception_means(make, outcome, reason):
    end = ended(make())
    assert end.outcome is outcome
    assert reason in end.reason
    curable = (
        outcome in (Outcome.OOM, Outcome.COMPILE_ERROR, Outcome.KILLED)
        or "CUDA error" in reason
        or "disk is full" in reason
        or "compiler" in reason
    )
    assert bool(end.remedy) == curable


@pytest.mark.parametrize("module", ["torch._inductor.exc", "torch._dynamo.exc", "triton.compiler.errors"])
@pytest.mark.parametrize(
    ("base", "outcome"),
    [
        (RuntimeError, Outcome.COMPILE_ERROR),
        (OSError, Outcome.FAILED),
        (ImportError, Outcome.FAILED),
    ],
)
def test_errors_out_of_the_compilers_modules(module, base, outcome):
    kind = type("Broken", (base,), {"__module__": module})
    assert ended(kind("x")).outcome is outcome


def test_reasons_are_one_short_line():
    end = ended(ValueError("\n\nfirst\n\n  second\nthird\nfourth"))
    assert end.reason == "ValueError: first | second | third"
    assert len(ended(ValueError("x" * 10_000)).reason) < 320


def test_a_chain_that_bites_its_tail_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert ended(first).outcome is Outcome.FAILED


def test_the_log_holds_the_whole_chain():
    text = log_text(raised(ValueError("outer"), cause=KeyError("inner")))
    assert "Traceback" in text
    assert text.index("KeyError: 'inner'") < text.index("ValueError: outer")


def test_the_reason_of_a_cpp_error_is_what_the_compiler_says_not_its_command():
    output = "/tmp/x.main.cpp:131:30: error: conflicting declaration ‘auto b’\n"
    command = subprocess.CalledProcessError(1, ["g++", "/tmp/x.main.cpp"])
    end = ended(raised(torch._inductor.exc.CppCompileError(["g++"], output), cause=command))
    assert end.outcome == "compile_error"
    assert end.reason == "C++ compiler: error: conflicting declaration ‘auto b’"
    assert end.remedy.startswith("recipe.fused_qkv=true, dtype=float32")


def test_the_compilers_own_mistake_is_told_with_its_kind_and_place():
    def broken(graph, inputs):
        return {}["float8_e8m0fnu"]

    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed) as caught:
        torch.compile(lambda x: x + 3, backend=broken)(torch.ones(1))
    end = ended(caught.value)
    assert end.outcome is Outcome.COMPILE_ERROR
    assert end.reason.endswith(" in broken: KeyError: 'float8_e8m0fnu'")


def test_what_torch_says_to_its_developers_is_left_out():
    plea = "(Could this error message be improved?  If so, please report an enhancement request to PyTorch.)"
    error = RuntimeError(f"Expected meta != nullptr to be true.  {plea}\n\nfrom user code:\n   File x.py")
    assert ended(error).reason == "RuntimeError: Expected meta != nullptr to be true."
