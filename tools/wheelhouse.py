"""`make wheelhouse`: every wheel that a machine without a package index needs, in one folder and one tar.

pip resolves and downloads, with its own settings of indexes. How it is used: docs/airgapped.md.
"""

import argparse
import hashlib
import shutil
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name, parse_wheel_filename

from tools.resolution import Package, Target, WheelhouseError, pip, resolve

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ONLY = (
    "antlr4-python3-runtime==4.9.3",
)  # no index has a wheel; pure Python, so one made here fits anywhere
TORCH = "torch"
SUMS = "SHA256SUMS"
_SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "quantpay_start.py",
    "src",
    "hydra_plugins",
    "conf",
)  # of the project's wheel


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
        sources = copied(project, Path(folder, "project"))
        pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(house), str(sources), *SOURCE_ONLY)
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


def copied(project: Path, to: Path) -> Path:
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
    pip(*command, *target.flags(), *pins)


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
    if out.exists() and {file.name for file in out.iterdir()} - {SUMS, *_listed(out)}:
        raise WheelhouseError(f"{out}: holds what `make wheelhouse` did not make; move it away or give --out")


def _remove_own(out: Path) -> None:
    for name in _listed(out):
        (out / name).unlink(missing_ok=True)
    (out / SUMS).unlink(missing_ok=True)
    out.rmdir()


def _listed(out: Path) -> list[str]:
    """The files that an earlier call made."""
    sums = out / SUMS
    return [line.split("  ", 1)[1] for line in sums.read_text().splitlines()] if sums.is_file() else []


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
