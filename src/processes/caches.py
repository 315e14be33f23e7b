"""Where all runs keep compiled code."""

import os
import tempfile
from pathlib import Path

from src.records.environment import versions

_NOT_TO_TORCH = {
    '"',
    "\\",
    "\n",
}  # in the name of its cache's folder: it would find no vector units, and be slow


def share_caches(outputs: Path) -> None:
    """What this process sets before it starts a fork server: where compiled code is kept, for all runs.

    Apart by version: torch's keys know its own version, not that of torchao, whose tensors are compiled. And by a
    limit on the CPU's instruction sets, which they do not know either: int8 code made without it gave NaN with it.
    """
    found = versions()
    limits = [
        os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ
    ]
    compiled_by = "-".join(["torch", found["torch"], "torchao", found["torchao"], *limits]).replace("+", "_")
    place = outputs / "cache"
    if _NOT_TO_TORCH & {*str(place)}:
        place = Path(tempfile.gettempdir()) / f"quantpay-cache-{os.getuid()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place / "inductor" / compiled_by))
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # else a look for CUDA spoils the fork server
