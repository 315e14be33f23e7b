"""Where and with what a run was made."""

import contextlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from src.hardware.host import cpu_hardware, cxx_version
from src.hardware.nvidia import nvidia_driver

PROTOCOL_VERSION = 3  # of the measurement protocol: raised when a change can move a number
_PACKAGES = ("torch", "torchao", "diffusers", "transformers", "triton", "numpy")
_KERNELS = re.compile(  # distributions that bring kernels, by name; one that is not installed is not listed
    r"(mslk|gemlite|fbgemm[-_.]gpu|flash[-_.]?attn|flashinfer|xformers|sageattention|bitsandbytes|kernels|cutlass|"
    r"intel[-_.]extension|intel[-_.]openmp|mkl|onednn|pytorch[-_.]triton|torch[-_.]tensorrt|tensorrt|"
    r"nvidia[-_.](cublas|cudnn|cuda|cusparselt|cutlass|nvjitlink|modelopt)|deep[-_.]gemm|quack|tilelang|helion)",
    re.IGNORECASE,
)
_CONTAINERS = (  # kind, the variable or the file that gives it away; the first that fits
    ("apptainer", "APPTAINER_CONTAINER", None),
    ("singularity", "SINGULARITY_CONTAINER", ".singularity.d"),
    ("enroot", None, ".lock"),  # its runtime locks the root file system by this file
    ("kubernetes", "KUBERNETES_SERVICE_HOST", "var/run/secrets/kubernetes.io"),
    ("podman", None, "run/.containerenv"),
    ("docker", None, ".dockerenv"),
)
_SLURM = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_PARTITION",
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_NAME",
    "SLURM_RESTART_COUNT",
    "SLURM_PROCID",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_GPUS",
)
_RECORDED = re.compile(
    r"(OMP|GOMP|KMP|MKL|BLIS|ONEDNN|DNNL|OPENBLAS|NVIDIA|CUDA|CUBLAS|CUBLASLT|CUDNN|CUTLASS|PYTORCH|TRITON|MALLOC|"
    r"TCMALLOC|MIMALLOC|GEMLITE|MSLK|FBGEMM|DIFFUSERS|AOT_INDUCTOR|CUTEDSL)_|TORCH|"
    r"(ATEN_CPU_CAPABILITY|GLIBC_TUNABLES|LD_PRELOAD|DISABLE_ADDMM_CUDA_LT|LRU_CACHE_CAPACITY|CXX|"
    r"ENABLE_(PERSISTENT_TMA_MATMUL|TEMPLATE_TMA_STORE|TMA_LOAD_FOR_TEMPLATE_EPILOGUE))$"  # inductor's
)
_CHANGES_NO_NUMBER = re.compile(  # of those: where things are kept, how they are told, by how many workers compiled
    r"NVIDIA_(?!TF32_OVERRIDE$)|CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|VERSION|HOME|PATH|ROOT|MPS_(PIPE|LOG)_DIRECTORY)$|"
    r"CUDNN_VERSION$|PYTORCH_(VERSION|NVML_BASED_CUDA_CHECK)$|TORCHELASTIC_|TORCH_(NCCL|LOGS|TRACE|CPP_LOG|SHOW_CPP)|"
    r"TORCHINDUCTOR_(COMPILE_THREADS|WORKER_|WRITE_|UNIQUE_KERNEL_NAMES)|DIFFUSERS_(VERBOSITY|SLOW_IMPORT)|"
    r"KMP_(DUPLICATE_LIB_OK|INIT_AT_FORK)$|"  # which scikit-learn sets where it is imported
    r"TORCH_CUDA_ARCH_LIST$|\w+_CACHES?(_DIR|_PATH|_HOME|_DISABLE|_MAXSIZE)?$|\w+_(HOME|DUMP_DIR|EXTENSIONS_DIR)$|CXX$"
)
_ASSEMBLER = re.compile(r"TRITON_PTXAS(_BLACKWELL)?_PATH$")
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"://[^/\s]*:[^/\s]*@|\b(hf_|gh[opsu]_|sk-|xox[bp]-|nvapi-|glpat-|AKIA)\w{10}|\bey[\w-]{20,}\.|^[\w+=]{32,}$"
)
SNAPSHOT_NAME = "snapshot.json"  # beside `src`, where this source tree is a sweep's snapshot
_ROOT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Versions of what can change a number, without importing any of it."""
    found = {"protocol": str(PROTOCOL_VERSION), "python": platform.python_version()}
    return found | {package: _installed(package) for package in _PACKAGES} | kernel_packages()


@cache
def _kernel_packages() -> tuple[tuple[str, str], ...]:
    named = ((_name(each), each) for each in distributions())
    return tuple(sorted((name, each.version) for name, each in named if _KERNELS.match(name)))


def _name(installed: Distribution) -> str:
    """In lower case; of the hundreds that are installed all other metadata, README and all, is left unparsed."""
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    found = re.search(r"^Name:(.*)$", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip().lower() if found else ""


def kernel_packages() -> dict[str, str]:
    """Versions of the installed packages that bring kernels of their own: mslk, gemlite, cuDNN's, ..."""
    return dict(_kernel_packages())


@cache
def _installed(package: str) -> str:
    """Its version as this process has, or would have, imported it: asked once, as ten thousand run keys need it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def environment() -> dict[str, Any]:
    """Versions, commit, host, driver, container, the SLURM job, variables that change numbers, and the CPU.

    Flat strings, but for ``variables`` and ``hardware``; a CUDA device adds itself to the latter once it is open.
    """
    return (
        versions()
        | commit()
        | {"host": platform.node(), "os": platform.platform(), "pid": str(os.getpid())}
        | cuda_versions()
        | container()
        | slurm(os.environ)
        | {"variables": variables(os.environ), "hardware": {"cpu": cpu_hardware()}}
    )


def cuda_versions() -> dict[str, str]:
    """NVIDIA's driver, the C++ compiler, `of_torch`; ``none``: not there."""
    return {"driver": nvidia_driver(), "cxx": cxx_version()} | of_torch()


def of_torch() -> dict[str, str]:
    """Its CUDA runtime and cuDNN; nothing where it is not loaded yet."""
    if "torch" not in sys.modules:
        return {}
    import torch

    cudnn = torch.backends.cudnn.version()
    return {"cuda": torch.version.cuda or "none", "cudnn": str(cudnn or "none")}


def container(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What kind of container this is, and what it was recognised by; ``none`` when by nothing."""
    for kind, variable, file in _CONTAINERS:
        if variable and variable in environ:
            return {"container": kind, "container_by": f"the variable {variable}"}
        if file and (root / file).exists():
            return {"container": kind, "container_by": f"/{file}"}
    if environ.get("container"):  # systemd's convention: lxc, oci, systemd-nspawn, ...
        return {"container": environ["container"], "container_by": "the variable container"}
    try:
        groups = (root / "proc/1/cgroup").read_text(encoding="utf-8")
    except OSError:
        groups = ""
    named = re.search(r"docker|kubepods|libpod|lxc|containerd", groups)
    return {"container": named.group(0), "container_by": "/proc/1/cgroup"} if named else {"container": "none"}


def slurm(environ: Mapping[str, str]) -> dict[str, str]:
    """What SLURM says of the job, in lower case: slurm_job_id, slurm_array_task_id, ..."""
    return {name.lower(): environ[name] for name in _SLURM if environ.get(name)}


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change a number, or tell how one came about; what looks like a secret is withheld."""
    named = {name: value for name, value in sorted(environ.items()) if _RECORDED.match(name)}
    return {
        name: "(withheld)" if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value) else value
        for name, value in named.items()
    }


def counted_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Of these variables what can change a number, for the run key: no caches, no logs, no compile workers.

    Neither torch's own assembler: inductor sets its path as soon as it compiles for the first time.
    """
    return {
        name: value
        for name, value in sorted(environ.items())
        if _RECORDED.match(name)
        and not _CHANGES_NO_NUMBER.match(name)
        and not (_ASSEMBLER.match(name) and Path(value).parent == _torch_programs())
    }


@cache
def _torch_programs() -> Path | None:
    """The folder of the programs that torch brings, without importing it."""
    found = importlib.util.find_spec("torch")
    return Path(found.origin).parent / "bin" if found and found.origin else None


def commit() -> dict[str, str]:
    """The git commit of this source tree and whether it was changed; nothing outside a checkout.

    A snapshot (`src.jobs.node.snapshot`) says what it was taken of, and its own hash.
    """
    with contextlib.suppress(OSError):
        taken = json.loads((_ROOT / SNAPSHOT_NAME).read_text(encoding="utf-8"))
        return {name: str(taken[name]) for name in ("commit", "dirty", "snapshot") if name in taken}
    try:
        head, *below = _git("rev-parse", "HEAD", "--show-prefix").splitlines()
        if below:  # installed somewhere in another project's checkout
            return {}
        return {
            "commit": head,
            "dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
