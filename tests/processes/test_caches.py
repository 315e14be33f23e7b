"""Compiled code is shared by runs that can run it, and by no others."""

import os
from pathlib import Path

import pytest

from src.processes.caches import share_caches

CPUINFO = {
    "vendor_id": "GenuineIntel",
    "cpu family": "6",
    "model": "143",
    "model name": "Intel(R) Xeon(R) Platinum 8480+",
    "stepping": "8",
    "cpu MHz": "2000.000",
    "flags": "fpu avx2 avx512f amx_int8",
}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def root_of(folder: Path, **changed: str) -> Path:
    lines = [f"{name}\t: {value}" for name, value in (CPUINFO | changed).items()]
    (folder / "proc").mkdir(parents=True)
    (folder / "proc/cpuinfo").write_text("processor\t: 0\n" + "\n".join(lines) + "\n\nprocessor\t: 1\n")
    return folder


def cache_of(outputs: Path, root: Path) -> str:
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ.pop(name, None)
    share_caches(outputs, root)
    return os.environ["TORCHINDUCTOR_CACHE_DIR"]


@pytest.mark.parametrize("name", ["größe #1 it's", 'say "hi"'])
def test_compiled_code_lies_where_torch_can_work(tmp_path: Path, name: str) -> None:
    """With a double quote in its path torch would find no vector units: then it lies below TMPDIR."""
    share_caches(tmp_path / name)
    folder = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    assert folder.startswith(str(tmp_path / name / "cache")) == ('"' not in name)
    assert '"' not in folder


@pytest.mark.parametrize(
    ("changed", "shared"),
    [
        ({}, True),
        ({"cpu MHz": "3800.000"}, True),
        ({"flags": "fpu avx2"}, False),
        ({"model": "85"}, False),
        ({"stepping": "7"}, False),
        ({"cpu family": "25"}, False),
        ({"vendor_id": "AuthenticAMD"}, False),
        ({"Features": "asimd sve"}, False),
    ],
)
def test_cpus_that_differ_do_not_share_code(tmp_path: Path, changed: dict[str, str], shared: bool) -> None:
    """Inductor's .so are made with -march=native, and its keys do not say for which CPU."""
    here, there = root_of(tmp_path / "here"), root_of(tmp_path / "there", **changed)
    assert (cache_of(tmp_path, here) == cache_of(tmp_path, there)) == shared


def test_a_host_that_says_nothing_of_its_cpu_has_a_cache(tmp_path: Path) -> None:
    assert cache_of(tmp_path, tmp_path / "nothing").startswith(str(tmp_path))


def test_triton_s_kernels_lie_with_inductor_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those too that inductor did not make, which would go into the user's home."""
    folder = cache_of(tmp_path, root_of(tmp_path / "root"))
    assert os.environ["TRITON_CACHE_DIR"] == str(Path(folder) / "triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    share_caches(tmp_path)
    assert os.environ["TRITON_CACHE_DIR"] == "/elsewhere"
