"""How exceptions become outcomes: the one place that decides what a failure means."""

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from src.config.errors import ConfigError
from src.config.lines import clipped
from src.records.record import Outcome, Record


class RunEndedError(Exception):
    """A run that ends with a known outcome before it could be measured.

    Args:
        reason: why, one line.
        remedy: what would make it run; may be empty.
    """

    def __init__(self, outcome: Outcome, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.remedy = outcome, reason, remedy


def unsupported(reason: str, remedy: str = "") -> RunEndedError:
    """The device or the shapes cannot run this treatment: a finding, not a failure."""
    return RunEndedError(Outcome.UNSUPPORTED, reason, remedy)


_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory"
    r"|(?:CUBLAS|CUDNN|CUSPARSE|CUFFT)_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|File size limit exceeded", re.IGNORECASE
)
_ROOM = "room on the disks of outputs, temporary files (TMPDIR) and the compile cache; then the same command"
# Of a compiler, in a process of its own or in one of inductor's: the machine's doing, not the code's.
_KILLED = re.compile(
    r"Killed signal terminated program|terminated abruptly|died with .*SIGKILL|error code -9\b", re.IGNORECASE
)
_HOST_MEMORY = (
    "more host memory (on a cluster: gpu.slurm.mem_gib), or fewer compilers at a time "
    "(TORCHINDUCTOR_COMPILE_THREADS=1, launch.compile_ahead=never); then the same command"
)
# What went wrong around a compiler, in its error's text: torch keeps nothing else of what another process raised.
_AROUND_THE_COMPILER = re.compile(
    r"\b\w+: \[Errno \d+\]|\b(?:ImportError|ModuleNotFoundError): "
    r"|No working C\+\+ compiler|Failed to find C compiler"
)
_MENDED = "what it names, in order; then the same command"
_DEVICE_FAULT = re.compile(r"CUDA error|(?:device|GPU) is lost|cudaError", re.IGNORECASE)
_CPP_ERROR = re.compile(r"\.(?:cpp|h|cc):\d+:\d+: (?:fatal )?(error: .*)")
_USER_CODE = re.compile(r'^\s*File "(.+)", line (\d+), in (\S+)', re.MULTILINE)
_PLEA = re.compile(r"\(Could this error message be improved\?[^)]*\)")  # torch's, to its own developers
_COMPILER_MODULES = (
    "torch._dynamo",
    "torch._inductor",
    "torch._functorch",
    "torch.fx.experimental",
    "triton",
)
_OTHER_MODE = "compile=none, or another compile mode"
_KNOWN_BUGS = {  # of inductor -> what goes around them
    # CppVecKernel.store_reduction declares a converted value once for each buffer that it is stored in. Enough is
    # torch.compile(lambda x: (x.amax(-1), x.amax(-1)))(torch.randn(128, 64, dtype=torch.bfloat16).t()) under no_grad:
    # with int8dq each of to_q, to_k and to_v reduces what all three are given, which lies channels first.
    "conflicting declaration": "recipe.fused_qkv=true, dtype=float32, or compile=none: a bug of inductor's C++, "
    "which declares a reduction once for each of the layers that quantize the same input",
}
_NOTHING_COMPILED = "torch.compile with fullgraph=True found no compiled frames"  # a plain RuntimeError
# They come out of the compiler's modules but speak of the process it runs in, not of what it was given.
_NOT_THE_COMPILER = (KeyboardInterrupt, OSError, ImportError)


def ended(error: BaseException) -> RunEndedError:
    """Classify any exception of a run: what it raised itself, out of memory, the compiler, or a failure."""
    if isinstance(error, RunEndedError):
        return error
    chain = _chain(error)
    if any(isinstance(e, MemoryError) or _OUT_OF_MEMORY.search(str(e)) for e in chain):
        return RunEndedError(
            Outcome.OOM, _one_line(error), "a smaller batch or resolution, or a larger device"
        )
    if full := _said(chain, _FULL):  # whoever it is that could not write: it says nothing of the scheme
        return RunEndedError(Outcome.FAILED, f"a disk is full: {full}", _ROOM)
    if any(_is_compiler_error(e) for e in chain):
        if killed := _said(chain, _KILLED):
            return RunEndedError(Outcome.KILLED, f"a compiler was killed: {killed}", _HOST_MEMORY)
        if around := _around_the_compiler(chain):
            return RunEndedError(Outcome.FAILED, f"the compiler could not work: {around}", _MENDED)
        said = _compiler_says(chain)
        remedy = next((known for pattern, known in _KNOWN_BUGS.items() if pattern in said), _OTHER_MODE)
        return RunEndedError(Outcome.COMPILE_ERROR, said, remedy)
    faulted = any(_DEVICE_FAULT.search(str(e)) for e in chain)
    remedy = (
        "nvidia-smi and dmesg (Xid) say what became of the device; then the same command" if faulted else ""
    )
    told = (
        "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
    )  # its text is a line for users
    return RunEndedError(Outcome.FAILED, f"{told}{_one_line(error)}", remedy)


@contextmanager
def ending_in(record: Record) -> Iterator[None]:
    """Whatever is raised inside becomes how the record's run ended, and its traceback goes to the log."""
    try:
        yield
    except Exception as error:
        end = ended(error)
        record.outcome, record.reason, record.remedy, record.verdict = end.outcome, end.reason, end.remedy, ""
        print(log_text(error), file=sys.stderr)


def log_text(error: BaseException) -> str:
    """The full traceback, for the run's log."""
    return "".join(traceback.format_exception(error))


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _said(chain: list[BaseException], pattern: re.Pattern[str]) -> str:
    """The line that says so, also one of a compiler in a process of its own; empty: none does."""
    said = (f"{error}\n{getattr(error, 'stderr', '') or ''}" for error in chain)
    return next(
        (clipped(line.strip()) for text in said for line in text.splitlines() if pattern.search(line)), ""
    )


def _around_the_compiler(chain: list[BaseException]) -> str:
    """The system's error, or the missing module, that a compiler's error is about; empty: none.

    One that was handled before, and is but the context of another, does not count.
    """
    for error in filter(_is_compiler_error, chain):
        inner = getattr(error, "inner_exception", None) or error.__cause__
        if isinstance(inner, (OSError, ImportError)):
            return f"{type(inner).__name__}: {_one_line(inner)}"
    return _said([error for error in chain if _is_compiler_error(error)], _AROUND_THE_COMPILER)


def _is_compiler_error(error: BaseException) -> bool:
    module = type(error).__module__
    named = module.startswith(_COMPILER_MODULES) or str(error).startswith(_NOTHING_COMPILED)
    return named and not isinstance(error, _NOT_THE_COMPILER)


def _one_line(error: BaseException, limit: int = 300) -> str:
    text = _PLEA.sub("", str(error)).partition("from user code:")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return clipped(" | ".join(lines[:3]) or type(error).__name__, limit)


def _compiler_says(chain: list[BaseException]) -> str:
    """Of a C++ compiler's many lines its first error, without the file's path; else the root cause's first lines.

    A graph break under fullgraph names the line of the model's code where it happened.
    """
    lines = (line for error in chain for line in str(error).splitlines())
    found = next((match for line in lines if (match := _CPP_ERROR.search(line))), None)
    if found:
        return clipped(f"C++ compiler: {found.group(1)}")
    places = [p for error in chain for p in _USER_CODE.findall(str(error).partition("from user code:")[2])]
    where = f"{code_place(*places[-1])}: " if places else ""
    root = chain[-1]
    if _is_compiler_error(root):
        return clipped(where + _one_line(root))
    return clipped(f"{where or _raised_in(root)}{type(root).__name__}: {_one_line(root)}")


def _raised_in(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{code_place(frames[-1].filename, frames[-1].lineno or 0, frames[-1].name)}: " if frames else ""


def code_place(path: str, line: int | str, function: str) -> str:
    """A line of code in words, its path from the package on where it is an installed one."""
    return f"{path.rpartition('site-packages/')[2]}:{line} in {function}"
