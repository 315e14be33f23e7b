"""`make wheelhouse`: every wheel that a machine without a package index needs, in one folder and one tar.

pip resolves and downloads, with its own settings of indexes. It asks the conditions in requirements
(``python_version < "3.12"``) of the Python that runs it, not of the target, so the answer is walked once more with
the target's values, and what it lacks is asked for too. How it is used: docs/airgapped.md.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ONLY = (
    "antlr4-python3-runtime==4.9.3",
)  # no index has a wheel; pure Python, so one made here fits anywhere
TORCH = "torch"
SUMS = "SHA256SUMS"
_PLATFORM = re.compile(r"manylinux_2_(\d+)_(\w+)")
_OLDEST_GLIBC = 5  # 2.5, that of manylinux1
_SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "src",
    "hydra_plugins",
    "conf",
)  # of the project's wheel


class WheelhouseError(RuntimeError):
    """What stands in the way, in one line."""


@dataclass(frozen=True)
class Target:
    """The machine that the wheels are for; None: like this one."""

    python: str | None = None  # 3.12
    platform: str | None = None  # manylinux_2_28_x86_64

    def __post_init__(self) -> None:
        if self.platform:
            _glibc_and_machine(self.platform)  # a wrong one is told before anything is made

    @property
    def name(self) -> str:
        """Python and platform, as the tar is called."""
        here = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        return f"py{self.environment()['python_version']}-{self.platform or here}"

    def flags(self) -> list[str]:
        """For pip: never a source, and only wheels that fit."""
        flags = ["--only-binary=:all:"]
        if self.python:
            flags += ["--python-version", self.python, "--implementation", "cp"]
        for tag in platform_tags(self.platform) if self.platform else []:
            flags += ["--platform", tag]
        return flags

    def environment(self) -> dict[str, str]:
        """What the conditions in requirements ask for."""
        values = {name: str(value) for name, value in default_environment().items()}
        if self.python:
            values["python_version"] = ".".join(self.python.split(".")[:2])
            values["python_full_version"] = self.python if self.python.count(".") > 1 else f"{self.python}.0"
        if self.platform:
            values |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
            values["platform_machine"] = _glibc_and_machine(self.platform)[1]
        return values


@dataclass(frozen=True)
class Package:
    """What pip chose of one name."""

    version: str
    requires: Sequence[str] = ()


def platform_tags(platform: str) -> list[str]:
    """The tags of wheels that a platform takes: of its own C library and of every older one.

    Args:
        platform: ``manylinux_2_28_x86_64``, with the glibc version that `ldd --version` says there.

    Raises:
        WheelhouseError: not such a name.
    """
    newest, machine = _glibc_and_machine(platform)
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]


def _glibc_and_machine(platform: str) -> tuple[int, str]:
    match = _PLATFORM.fullmatch(platform)
    if match is None:
        raise WheelhouseError(
            f"--platform {platform}: give manylinux_2_MINOR_MACHINE with the node's glibc (ldd --version) and "
            "machine (uname -m), such as manylinux_2_28_x86_64"
        )
    return int(match[1]), match[2]


def needed(
    packages: Mapping[str, Package],
    roots: Iterable[str],
    environment: Mapping[str, str],
    without: Collection[str] = (),
) -> tuple[set[str], set[str]]:
    """Which packages the roots need on the target, and which requirements no package meets.

    Args:
        packages: by normalized name.
        roots: requirements.
        environment: of the target.
        without: names that the target has already; what only these need is not needed.
    """
    found: set[str] = set()
    missing: set[str] = set()
    done: set[str] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in without or str(wanted) in done:
            continue
        done.add(str(wanted))
        package = packages.get(name)
        if package is None or not wanted.specifier.contains(package.version, prereleases=True):
            missing.add(f"{name}{wanted.specifier}")
            continue
        found.add(name)
        inner = (Requirement(text) for text in package.requires)
        waiting += [each for each in inner if _applies(each, wanted.extras, environment)]
    return found, missing


def _applies(requirement: Requirement, extras: Collection[str], environment: Mapping[str, str]) -> bool:
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in extras or ("",)
    )


def resolve(
    roots: Sequence[str], target: Target, house: Path, without: Collection[str] = ()
) -> dict[str, Package]:
    """The packages that the roots need on the target, as pip chooses them; nothing is installed.

    Raises:
        WheelhouseError: pip found none, or what the target's conditions add cannot be met.
    """
    asked = list(roots)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        for _ in range(5):
            _pip(
                *("install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)),
                *("--find-links", str(house), *target.flags(), *asked),
            )
            packages = _reported(json.loads(report.read_text(encoding="utf-8")))
            found, missing = needed(packages, roots, target.environment(), without)
            if not missing:
                return {name: packages[name] for name in found}
            asked += sorted(missing)
    raise WheelhouseError(f"pip finds nothing for {', '.join(sorted(missing))}")


def _reported(report: Mapping[str, Any]) -> dict[str, Package]:
    found = {}
    for item in report["install"]:
        metadata = item["metadata"]
        package = Package(str(metadata["version"]), metadata.get("requires_dist", ()))
        found[canonicalize_name(str(metadata["name"]))] = package
    return found


def make(project: Path, out: Path, target: Target, *, torch: bool, extras: str = "") -> Path:
    """Fill the folder `out` with wheels and what installs them, and pack it; returns the tar's path.

    Raises:
        WheelhouseError: pip could not, or `out` holds something else.
    """
    _check_own(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = f"{about['name']}{f'[{extras}]' if extras else ''}=={about['version']}"
    without = () if torch else (TORCH,)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".wheelhouse.") as folder:
        house = Path(folder, "wheelhouse")
        sources = _copied(project, Path(folder, "project"))
        _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(house), str(sources), *SOURCE_ONLY)
        packages = resolve([root], target, house, without)
        _download(packages, target, house)
        _describe(house, packages, target, torch=torch)
        if out.exists():
            _remove_own(out)
        house.rename(out)
    tar = out.parent / f"{about['name']}-{about['version']}-{target.name}{'-torch' if torch else ''}.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(out, arcname="wheelhouse")
    return tar


def _copied(project: Path, to: Path) -> Path:
    """What the wheel is made of; building leaves files among its sources, and would take along old ones."""
    to.mkdir()
    for source in (project / name for name in _SOURCES):
        if source.is_dir():
            shutil.copytree(source, to / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, to)
    return to


def _download(packages: Mapping[str, Package], target: Target, house: Path) -> None:
    here = {canonicalize_name(parse_wheel_filename(wheel.name)[0]) for wheel in house.glob("*.whl")}
    pins = [f"{name}=={package.version}" for name, package in sorted(packages.items()) if name not in here]
    command = ("download", "--quiet", "--no-deps", "--dest", str(house), "--find-links", str(house))
    _pip(*command, *target.flags(), *pins)


def _describe(house: Path, packages: Mapping[str, Package], target: Target, *, torch: bool) -> None:
    """Write what is in the folder: ``requirements.txt`` with hashes, the sums of all files, how to install."""
    with_torch = "with torch" if torch else "without torch and what only torch needs"
    lines = [f"# {target.name}, {with_torch}; made by `make wheelhouse`, installed by install.sh"]
    for wheel in sorted(house.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        if str(canonicalize_name(name)) in packages:
            lines.append(f"{name}=={version} --hash=sha256:{_sha256(wheel)}")
        else:
            wheel.unlink()
    (house / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(ROOT / "tools" / "install_wheelhouse.sh", house / "install.sh")
    sums = [f"{_sha256(file)}  {file.name}\n" for file in sorted(house.iterdir())]
    (house / SUMS).write_text("".join(sums), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_own(out: Path) -> None:
    if out.exists() and not (out / SUMS).is_file():
        raise WheelhouseError(f"{out}: there, and not made by `make wheelhouse`; move it away or give --out")


def _remove_own(out: Path) -> None:
    for line in (out / SUMS).read_text(encoding="utf-8").splitlines():
        (out / line.split("  ", 1)[1]).unlink(missing_ok=True)
    (out / SUMS).unlink()
    try:
        out.rmdir()
    except OSError as error:
        raise WheelhouseError(
            f"{out}: holds files that are not of `make wheelhouse`; move them away"
        ) from error


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise WheelhouseError("\n".join(["pip " + arguments[0] + " failed:", *errors]))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, make the folder and the tar, say where they are."""
    parser = argparse.ArgumentParser(
        prog="make wheelhouse", description="wheels for a machine without an index"
    )
    parser.add_argument("--python", help="the node's Python, such as 3.12; default: this one's")
    parser.add_argument(
        "--platform", help="the node's, such as manylinux_2_28_x86_64; default: this machine's"
    )
    parser.add_argument("--torch", choices=("no", "yes"), default="no", help="yes: torch and CUDA too (GB)")
    parser.add_argument("--extras", default="", help="optional parts of the project, such as images")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "wheelhouse")
    args = parser.parse_args(argv)
    try:
        target = Target(args.python, args.platform)
        tar = make(ROOT, args.out, target, torch=args.torch == "yes", extras=args.extras)
    except WheelhouseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    wheels = list(args.out.glob("*.whl"))
    mib = tar.stat().st_size / 2**20
    print(f"{len(wheels)} wheels for {target.name} in {args.out}\n{tar} ({mib:.0f} MiB)")
    print("there: tar -xf it, then sh wheelhouse/install.sh PYTHON; docs/airgapped.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
