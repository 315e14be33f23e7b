"""Where all runs keep compiled code."""

import hashlib
import os
import tempfile
from pathlib import Path

from src.hardware.host import ROOT, cpuinfo
from src.records.environment import versions

_NOT_TO_TORCH = {
    '"',
    "\\",
    "\n",
}  # in the name of its cache's folder: it would find no vector units, and be slow
_OF_THE_CPU = ("vendor_id", "cpu family", "model", "stepping", "flags")
_OF_ARM = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features")


def share_caches(outputs: Path, root: Path = ROOT) -> None:
    """What this process sets before it starts a fork server: where compiled code is kept, for all runs.

    Apart by version: torch's keys know its own version, not that of torchao, whose tensors are compiled. By the CPU,
    as torch compiles for the very one it runs on and its keys do not say which: nodes that share a disk may differ.
    And by a limit on its instruction sets, which they do not know either: int8 code made without it gave NaN with it.
    Triton's kernels go along, those too that inductor did not make: they would go into the user's home.

    Args:
        root: where proc is.
    """
    found = versions()
    limits = [
        os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    ]
    compiled_by = "-".join(["torch", found["torch"], "torchao", found["torchao"], *limits])
    compiled_by = f"{compiled_by}-cpu-{_cpu(root)}".replace("+", "_")
    place = outputs / "cache"
    if _NOT_TO_TORCH & {*str(place)}:
        place = Path(tempfile.gettempdir()) / f"quantpay-cache-{os.getuid()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place / "inductor" / compiled_by))
    os.environ.setdefault("TRITON_CACHE_DIR", str(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) / "triton"))
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else a look for CUDA spoils the fork server


def _cpu(root: Path) -> str:
    """The CPU that code is compiled for, in eight digits: its make and what it can do, but not its clock."""
    info = cpuinfo(root)
    known = [f"{name}={info.get(name, '')}" for name in (*_OF_THE_CPU, *_OF_ARM)]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]
