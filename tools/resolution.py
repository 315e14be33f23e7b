"""Which packages a machine unlike this one needs: pip chooses them, this checks the choice.

pip asks the conditions in requirements (``python_version < "3.12"``) of the Python that runs it, not of the target;
so its answer is walked once more with the target's values, and what it lacks is asked for too.
"""

import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PLATFORM = re.compile(r"manylinux_2_(\d+)_(\w+)")
_OLDEST_GLIBC = 5  # 2.5, that of manylinux1


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
            pip(
                *("install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)),
                *("--target", folder),  # nothing is put there; older pips want one beside --platform
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


def pip(*arguments: str) -> None:
    """Run pip; what it complains of becomes a WheelhouseError."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr]
        raise WheelhouseError("\n".join(["pip " + arguments[0] + " failed:", *errors]))
