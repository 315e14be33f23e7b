"""The project's wheel, installed with no checkout near, in folders and surroundings as people have them."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from src.config.paths import database_path, override
from tools.wheelhouse import copied

ROOT = Path(__file__).resolve().parents[1]
COMES_ALONG = (".yaml", ".html", ".safetensors")
NOT_OURS = "raise SystemExit('a module of the current folder')\n"
MODEL = """
name: mine
factory: {_target_: mymodels.Double, width: 64}
inputs:
  x: {shape: [batch * 4, 64]}
targets: {denoiser: ""}
"""
CODE = """
from torch import nn

class Double(nn.Sequential):
    def __init__(self, width):
        super().__init__(nn.Linear(width, width), nn.Linear(width, width))

    def forward(self, x):
        return super().forward(x).relu()
"""
QUICK = ("measure.budget_s=0.3", "measure.max_warmup_s=0.1", "measure.min_pairs=8", "measure.ceilings=false",
         "compile=none", "dtype=float32")  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    sources, site = copied(ROOT, folder / "project"), folder / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-index"]
    wheels = ["wheel", *alone, "--no-build-isolation", "--wheel-dir", folder, sources]
    subprocess.run([*pip, *wheels], check=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "install", *alone, "--target", site, wheel], check=True)
    return site


def test_every_group_sweep_and_page_comes_along(site: Path) -> None:
    packed = {path.relative_to(site) for path in site.rglob("*.*") if path.suffix in COMES_ALONG}
    here = {
        path.relative_to(ROOT)
        for folder in ("conf", "conf/sweeps", "src")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in COMES_ALONG
    }
    assert here == packed


def test_it_sweeps_and_analyzes_in_any_folder(site: Path, tmp_path: Path) -> None:
    """With a model of the user's own, through a symlink, beside modules that have the names of others.

    PYTHONPATH leads to the current folder first, as people export it for a project that has a `src`.
    """
    folder = tmp_path / f"My Projects {'long ' * 20}" / "größe #1 100%"
    (folder / "my conf" / "model").mkdir(parents=True)
    (folder / "my conf" / "model" / "mine.yaml").write_text(MODEL)
    (folder / "mymodels.py").write_text(CODE)
    for name in ("src/__init__.py", "lib/src/__init__.py", "random.py", "profile.py", "torch.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(NOT_OURS)
    (tmp_path / "a link").symlink_to(folder)
    (folder / "tmp").mkdir()
    surroundings = {
        "PYTHONPATH": f"lib:{site}",
        "PATH": f"{site / 'bin'}:{os.environ['PATH']}",
        "TMPDIR": str(folder / "tmp"),
    }

    def call(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path / "a link",
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    name = "Läufe, 50% ${seed} 'eins' #2"
    given, outputs = override("outputs", name), folder / name
    told = call(
        "quantpay", "-cd", "my conf", "-m", "model=mine", "quant=int8wo,none", "gpu=cpu", *QUICK, given
    )
    records = [json.loads(path.read_text()) for path in outputs.glob("runs/*/*/record.json")]
    assert [record["outcome"] for record in records] == ["ok", "ok"], records
    assert not any("commit" in record["environment"] for record in records)  # a checkout's would be there
    [look] = [
        shlex.split(line.split("look at it with: ")[1]) for line in told.splitlines() if "mlflow ui" in line
    ]
    assert database_path(look[-1]) == outputs.resolve() / "mlflow.db"
    assert len(list((outputs / "artifacts").rglob("record.json"))) == 2
    [program, *words] = next(
        shlex.split(line.split("what to use: ")[1]) for line in told.splitlines() if "what to use: " in line
    )
    assert [word.partition("=")[0] for word in words] == ["sweep", "outputs"]
    told = call(Path(program).name, *words)
    assert "mine" in told
    assert (outputs / "report" / "report.html").is_file()
    there = {path.name for path in folder.iterdir()} - {"__pycache__"}
    assert there == {
        "my conf",
        "lib",
        "mymodels.py",
        "src",
        "random.py",
        "profile.py",
        "torch.py",
        "tmp",
        name,
    }
