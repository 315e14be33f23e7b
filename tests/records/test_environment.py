import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.records import environment as environment_module
from src.records.environment import container, counted_variables, environment, slurm, variables, versions

FLAT = {"host", "os", "pid", "driver", "cxx", "cuda", "cudnn", "container", "torch", "protocol"}
JOB = {
    "SLURM_JOB_ID": "17",
    "SLURM_ARRAY_JOB_ID": "15",
    "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_PARTITION": "gpu",
    "SLURM_CLUSTER_NAME": "big",
    "SLURM_JOB_NAME": "sweep",
    "SLURM_RESTART_COUNT": "1",
}


def test_what_every_record_says():
    found = environment()
    assert set(found) >= FLAT
    assert all(isinstance(found[name], str) for name in FLAT)
    assert found["hardware"]["cpu"]["cpus"] > 0
    assert json.loads(json.dumps(found)) == found


def test_where_it_is_made_is_no_version():
    """Versions are compared between a cluster's nodes and where a sweep was sent from."""
    assert set(versions()) & {"driver", "cxx", "cuda", "cudnn", "container", "host", "hardware"} == set()


@pytest.mark.parametrize(
    ("name", "brings"),
    [
        *(("mslk", True), ("gemlite", True), ("fbgemm-gpu-genai", True), ("nvidia-cudnn-cu13", True)),
        *(("flash_attn", True), ("pytorch-triton", True), ("nvidia-ml-py", False), ("pandas", False)),
    ],
)
def test_packages_that_bring_kernels_are_versions(monkeypatch, name, brings):
    texts = {"METADATA": None, "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\n"}  # as of an egg
    installed = [SimpleNamespace(read_text=texts.get, version="9")]
    monkeypatch.setattr(environment_module, "distributions", lambda: installed)
    environment_module._kernel_packages.cache_clear()
    try:
        assert (versions().get(name) == "9") == brings
    finally:
        environment_module._kernel_packages.cache_clear()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *((name, True) for name in (
            "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_FREEZING", "TORCHINDUCTOR_SIMDLEN", "CUDA_LAUNCH_BLOCKING",
            "TORCH_COMPILE_DISABLE", "NVIDIA_TF32_OVERRIDE", "MALLOC_CONF", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES",
            "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "ONEDNN_MAX_CPU_ISA", "ONEDNN_VERBOSE",
            "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS",
            "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG", "LD_PRELOAD", "TRITON_PTXAS_PATH",
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "DISABLE_ADDMM_CUDA_LT", "DIFFUSERS_ATTN_BACKEND",
            "ENABLE_PERSISTENT_TMA_MATMUL", "ENABLE_TEMPLATE_TMA_STORE", "AOT_INDUCTOR_ENABLE_LTO",
        )),
        *((name, False) for name in (
            "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "TORCHINDUCTOR_FX_GRAPH_CACHE", "TORCH_LOGS",
            "TRITON_CACHE_DIR", "TRITON_HOME", "TORCH_HOME", "TORCH_EXTENSIONS_DIR", "CUDA_CACHE_PATH", "CUDA_HOME",
            "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_VERSION", "CXX",
            "PYTORCH_NVML_BASED_CUDA_CHECK", "DIFFUSERS_VERBOSITY", "TORCH_NCCL_BLOCKING_WAIT", "PATH", "HF_HOME",
            "SLURM_JOB_ID", "HOME", "MLFLOW_TRACKING_URI", "CUDA_MPS_PIPE_DIRECTORY",
        )),
    ],
)  # fmt: skip
def test_which_variables_count(name, counts):
    assert counted_variables({name: "1"}) == ({name: "1"} if counts else {})


def test_torch_s_own_assembler_does_not_count():
    """Inductor sets it in a process that compiles; the run before did not have it."""
    name = "TRITON_PTXAS_PATH"
    own = Path(find_spec("torch").origin).parent / "bin" / "ptxas"
    assert counted_variables({name: str(own)}) == {}
    assert counted_variables({name: "/usr/local/cuda/bin/ptxas"}) == {name: "/usr/local/cuda/bin/ptxas"}


def test_the_slurm_job():
    found = slurm(JOB | {"SLURM_JWT": "a secret", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/root"})
    assert found == {name.lower(): value for name, value in JOB.items()}
    assert slurm({}) == {}


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID"])
def test_the_job_is_in_the_record(monkeypatch, name):
    monkeypatch.setenv(name, "17")
    assert environment()[name.lower()] == "17"


@pytest.mark.parametrize(
    ("files", "environ", "kind", "by"),
    [
        ((), {}, "none", None),
        ((".dockerenv",), {}, "docker", "/.dockerenv"),
        (("run/.containerenv",), {"container": "podman"}, "podman", "/run/.containerenv"),
        ((".dockerenv",), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes", "KUBERNETES_SERVICE_HOST"),
        (("var/run/secrets/kubernetes.io/x",), {}, "kubernetes", "/var/run/secrets/kubernetes.io"),
        ((".singularity.d/x",), {"APPTAINER_CONTAINER": "/a.sif"}, "apptainer", "APPTAINER_CONTAINER"),
        ((".singularity.d/x",), {}, "singularity", "/.singularity.d"),
        ((".lock",), {}, "enroot", "/.lock"),
        ((), {"container": "lxc"}, "lxc", "the variable container"),
        (("proc/1/cgroup",), {}, "kubepods", "/proc/1/cgroup"),
    ],
)
def test_the_container_by_what_gives_it_away(tmp_path, files, environ, kind, by):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("0::/kubepods/besteffort/pod1\n")
    found = container(tmp_path, environ)
    assert found["container"] == kind
    assert by in found["container_by"] if by else "container_by" not in found


def test_variables_that_change_numbers():
    kept = {
        "CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        "KMP_AFFINITY": "granularity=fine,compact",
        "LD_PRELOAD": "/nix/store/0c9hgzwkbqp1q1p1mmqqjzpw4b1dgnfb-jemalloc-5.3.0/lib/libjemalloc.so.2",
        "MKL_NUM_THREADS": "4",
        "OMP_NUM_THREADS": "4",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/cache/inductor",
        "TORCH_LOGS": "+dynamo",
        "TRITON_CACHE_DIR": "/tmp/cache/triton",
        "NVIDIA_TF32_OVERRIDE": "1",
    }
    assert variables(kept | {"PATH": "/bin", "HF_TOKEN": "hf_abcdefghijklmn", "HOME": "/root"}) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NVIDIA_API_KEY", "x"),
        ("TORCH_HUB_TOKEN", "x"),
        ("NVIDIA_X", "nvapi-abcdefghijkl"),
        ("TORCH_X", "hf_abcdefghijklmn"),
        ("TORCHELASTIC_ENDPOINT", "http://me:pass@host:1"),
        ("TRITON_X", "0123456789abcdef0123456789abcdef"),
    ],
)
def test_what_looks_like_a_secret_is_withheld(name, value):
    assert variables({name: value}) == {name: "(withheld)"}


def test_another_projects_checkout_is_not_ours(monkeypatch):
    """Installed in a virtual environment below it, quantpay has no commit."""
    root = environment_module._ROOT
    assert ("commit" in environment_module.commit()) == (root / ".git").exists()
    monkeypatch.setattr(environment_module, "_ROOT", root / "tests")
    assert environment_module.commit() == {}
