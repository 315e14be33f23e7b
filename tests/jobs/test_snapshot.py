"""A snapshot runs by itself, says what it is, and does not follow the sources."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.jobs.node.portable import travelling
from src.jobs.node.snapshot import SOURCES, take
from src.records.environment import commit


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return take(tmp_path_factory.mktemp("sweep") / "snapshot")


def python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_process_in_it_imports_it_and_knows_its_commit(snapshot):
    code = "import src.records.environment as e, json; print(json.dumps([e.__file__, e.commit()]))"
    file, found = json.loads(python(code, snapshot.folder))
    assert Path(file).is_relative_to(snapshot.folder)
    assert found.items() >= commit().items()
    assert found["snapshot"] == json.loads((snapshot.folder / "snapshot.json").read_text())["snapshot"]


def test_it_composes_from_its_own_configuration(snapshot):
    command = [sys.executable, "-m", "src.run", "sweeps=linear_shapes", "hydra.mode=RUN", "--cfg", "job"]
    done = subprocess.run(command, cwd=snapshot.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "name: linear" in done.stdout


def test_caches_and_what_is_no_part_of_a_run_stay_out(snapshot):
    names = {path.relative_to(snapshot.folder).as_posix() for path in snapshot.folder.rglob("*")}
    assert {"src/run.py", "conf/config.yaml", "hydra_plugins/quantpay/sweeper.py"} <= names
    assert not [name for name in names if "__pycache__/" in name and not (SOURCES / name).parent.is_dir()]
    assert {name.partition("/")[0] for name in names} <= {
        "src",
        "hydra_plugins",
        "conf",
        "sweeps",
        "snapshot.json",
        "files",  # what a run brought along, of another test
    }


def test_an_edit_changes_neither_it_nor_goes_unseen_in_the_next(tmp_path):
    sources = tmp_path / "installed"  # as in site-packages: code alone, beside the packages of others
    (sources / "src").mkdir(parents=True)
    (sources / "hydra_plugins" / "quantpay").mkdir(parents=True)
    (sources / "hydra_plugins" / "others").mkdir()
    code = sources / "src" / "code.py"
    code.write_text("VALUE = 1\n")
    first = take(tmp_path / "first", sources)
    with code.open("a") as file:  # in place: a hard link would follow
        file.write("VALUE = 2\n")
    second = take(tmp_path / "second", sources)
    assert (first.folder / "src" / "code.py").read_text() == "VALUE = 1\n"
    assert not (first.folder / "hydra_plugins" / "others").exists()
    hashes = [json.loads((s.folder / "snapshot.json").read_text())["snapshot"] for s in (first, second)]
    assert len({*hashes}) == 2
    shutil.rmtree(sources)


def test_paths_travel_as_absolute_ones_and_a_plan_as_a_copy(compose, snapshot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    cfg = compose(
        "model.weights.source=local", "model.weights.id=weights/mine", "outputs=out", "tracking=sqlite"
    )
    cfg.quant.plan = "plan.json"
    cfg.model.pipeline.vae.weights.source, cfg.model.pipeline.vae.weights.id = "hub", "some/vae"
    gone = travelling(cfg, tmp_path / "out", snapshot)
    assert gone.outputs == str(tmp_path / "out")
    assert gone.model.weights.id == str(tmp_path / "weights" / "mine")
    assert gone.model.pipeline.vae.weights.id == "some/vae"
    assert gone.tracking.uri == f"sqlite:///{tmp_path}/out/mlflow.db"
    assert gone.tracking.artifacts == f"{tmp_path}/out/artifacts"
    plan.write_text("edited")
    assert Path(gone.quant.plan or "").read_text() == "{}"
    assert cfg.quant.plan == "plan.json"


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "sqlite:////data/mlflow.db", "postgresql://u@h/db", ""]
)
def test_trackers_elsewhere_stay_as_they_are(compose, snapshot, tmp_path, uri):
    cfg = compose()
    cfg.tracking.uri = uri
    assert travelling(cfg, tmp_path, snapshot).tracking.uri == uri
