"""Wheels for a machine without an index: what is needed, packed, and installed again; with made-up packages."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pip
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.resolution import Package, Target, WheelhouseError, needed, platform_tags
from tools.wheelhouse import main, make

ROOT = Path(__file__).resolve().parents[1]
ANTLR = "antlr4-python3-runtime"


def installed() -> dict[str, Package]:
    found = {}
    for each in distributions():
        found[canonicalize_name(each.metadata["Name"])] = Package(each.version, each.requires or ())
    return found


def test_without_torch_all_else_that_the_project_declares_is_there():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found, missing = needed(installed(), declared, default_environment(), ["torch"])
    assert missing == set()
    assert found >= {canonicalize_name(Requirement(each).name) for each in declared} - {"torch"}
    assert found >= {ANTLR, "alembic", "tokenizers"}
    assert not found & {"torch", "sympy", "mpmath", "triton"}
    with_torch, _ = needed(installed(), declared, default_environment())
    assert with_torch >= found | {"torch", "sympy"}


def test_the_targets_conditions_count():
    packages = {
        "app": Package("1", ["old; python_version < '3.12'", "arm[fast]; platform_machine == 'aarch64'"]),
        "old": Package("1"),
        "arm": Package("1", ["quick>=2; extra == 'fast'", "slow; extra == 'slow'"]),
        "quick": Package("1.5"),
    }
    on = Target("3.12", "manylinux_2_28_x86_64").environment()
    assert needed(packages, ["app"], on) == ({"app"}, set())
    on = Target("3.11", "manylinux_2_34_aarch64").environment()
    assert needed(packages, ["app"], on) == ({"app", "old", "arm"}, {"quick>=2"})


def test_a_platform_takes_wheels_of_older_ones():
    tags = platform_tags("manylinux_2_28_aarch64")
    assert tags[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= {*tags}
    assert "manylinux_2_29_aarch64" not in tags
    with pytest.raises(WheelhouseError, match="ldd --version"):
        platform_tags("linux")


def made_up_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


def made_up_source(folder: Path, name: str, version: str) -> None:
    setup = (
        f"from setuptools import setup\nsetup(name={name!r}, version={version!r}, py_modules=['antlr4'])\n"
    )
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, text in {"setup.py": setup, "antlr4.py": "", "PKG-INFO": "Metadata-Version: 1.0\n"}.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project like this one, whose index is a folder of made-up packages."""
    index = tmp_path / "index"
    index.mkdir()
    made_up_source(index, ANTLR, "4.9.3")
    made_up_wheel(index, "torch", "2.13", ("only-torch",))
    made_up_wheel(index, "only-torch", "1")
    made_up_wheel(index, "shared", "1")
    made_up_wheel(index, "shared", "2", ("torch", "backport; python_version < '3.0'"))
    made_up_wheel(index, "unasked", "1")
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "__init__.py").write_text("")
    about = '[project]\nname = "quantpay"\nversion = "0.1"\n'
    about += f'dependencies = ["{ANTLR}==4.9.*", "shared", "torch>=2"]\n'
    about += '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    (project / "pyproject.toml").write_text(about + '[tool.setuptools]\npackages = ["src"]\n')
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip reads: no isolation
    return project


def wheels(out: Path) -> set[str]:
    return {canonicalize_name(wheel.name.split("-")[0]) for wheel in out.glob("*.whl")}


def install(wheelhouse: Path, python: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(wheelhouse / "install.sh"), str(python)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def environment(folder: Path) -> Path:
    """The Python of a new environment with this one's pip, which a copy gives in a tenth of ensurepip's seconds."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [libraries] = folder.glob("lib/python*/site-packages")
    shutil.copytree(Path(pip.__file__).parent, libraries / "pip")
    return folder / "bin" / "python"


def test_what_is_packed_can_be_installed_without_an_index(project, tmp_path, monkeypatch):
    out, there = tmp_path / "dist" / "wheelhouse", tmp_path / "there"
    python = environment(there / "venv")

    make(project, out, Target("3.12", "manylinux_2_28_x86_64"), torch=False)
    assert wheels(out) == {"quantpay", ANTLR, "shared"}
    assert "torch==" not in (out / "requirements.txt").read_text()
    refused = install(out, python)  # there is no torch
    assert refused.returncode == 1
    assert "torch>=2" in refused.stderr
    assert "WHEELHOUSE_TORCH=yes" in refused.stderr

    tar = make(project, out, Target(), torch=True)  # in place of the first
    assert wheels(out) == {"quantpay", ANTLR, "shared", "torch", "only-torch"}
    assert not list(project.glob("*build*"))
    [wheel] = out.glob("shared-*.whl")
    pin = f"shared==2 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    assert pin in (out / "requirements.txt").read_text()
    with tarfile.open(tar) as archive:
        archive.extractall(there, filter="data")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    done = install(there / "wheelhouse", python)
    assert done.returncode == 0, done.stdout + done.stderr
    script = "import antlr4, shared, torch, src; print(shared.VERSION, src.__file__)"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, cwd="/")
    assert re.match(r"2 .*/there/venv/", done.stdout), done.stderr


def test_nothing_of_others_is_removed(project, tmp_path):
    out = tmp_path / "dist"
    (out / "mine").mkdir(parents=True)
    with pytest.raises(WheelhouseError, match="did not make"):
        make(project, out, Target(), torch=False)
    assert (out / "mine").is_dir()


def test_a_mistake_is_one_line(tmp_path, capsys):
    assert main(["--platform", "rhel8", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: --platform rhel8: give manylinux_2_MINOR_MACHINE")
