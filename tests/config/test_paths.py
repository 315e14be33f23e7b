"""Whatever a path holds, Hydra, SQLAlchemy, YAML and a shell give it back as it was."""

import shlex
import sqlite3
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sqlalchemy import create_engine

from src.config.paths import command, database_path, database_uri, literal, outputs_argument, override
from tests.config.conftest import Call

NASTY = "My Projects/größe #1 100% a%20b, c=d;'e' (f)$g ${h} & \\i ?j @k :l"
texts = st.text(
    st.sampled_from("a/ü #%'\"\\${}?,=:[]()&;~!*|<>\t") | st.characters(codec="utf-8"), min_size=1
)


@given(texts)
@example(NASTY)
@example("a\\${b}\\")
@example("null")
@example("1")
@example("\\")
@example("it's\\'")
def test_a_printed_command_means_just_this_path(text: str) -> None:
    printed = command("analyze", override("outputs", text), "sweep=1")
    *program, given_outputs, sweep = shlex.split(printed)
    assert (program, sweep) == (["python", "-m", "src.analyze"], "sweep=1")
    parsed = OverridesParser.create().parse_overrides([given_outputs])
    assert not parsed[0].is_sweep_override()
    config = OmegaConf.create({"outputs": ".", "below": "${outputs}/mlflow.db"})
    ConfigLoaderImpl._apply_overrides_to_config(parsed, config)
    assert str(config.outputs) == text
    assert config.below == f"{text}/mlflow.db"


@given(texts)
@example("a\\${b}\\")
def test_what_is_resolved_is_read_back_as_it_was(text: str) -> None:
    written = yaml.safe_dump({"outputs": literal(text)})
    assert OmegaConf.create(yaml.safe_load(written)).outputs == text


def test_a_plain_path_is_left_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert override("outputs", "/data/me/out-1") == "outputs=/data/me/out-1"
    assert outputs_argument(tmp_path / "outputs") == []
    assert command("collect", override("outputs", "/My #1")) == """python -m src.collect 'outputs="/My #1"'"""
    assert outputs_argument(Path("/data/out")) == ["outputs=/data/out"]


@pytest.mark.parametrize("installed", [True, False])
def test_an_installed_command_names_installed_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Those of the same folder, where PATH does not have them."""
    folder = tmp_path / "my bin"
    folder.mkdir()
    for name in ("quantpay", "quantpay-collect"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(folder / "quantpay"), "batch=1"])
    monkeypatch.setenv("PATH", str(folder) if installed else "/nowhere")
    expected = "quantpay-collect" if installed else f"'{folder}/quantpay-collect'"
    assert command("collect", "sweep=1") == f"{expected} sweep=1"


@pytest.mark.parametrize("name", ["größe #1 100% a%20b ${c} 'd' @e:f", "what?", "what?a=b&uri=true #c%3F"])
def test_a_database_is_where_its_uri_says(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    uri = database_uri(path)
    with create_engine(uri).begin() as connection:
        connection.exec_driver_sql("create table here (a)")
    with sqlite3.connect(path) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("here",)]
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert database_path(uri) == path


def test_other_uris_name_no_database_file() -> None:
    assert database_path("http://host:5000") is None
    assert database_path("sqlite:///out/mlflow.db") == Path("out/mlflow.db")
    assert database_path("sqlite:////data/mlflow.db?timeout=9") == Path("/data/mlflow.db")


def test_any_folder_holds_configs_and_outputs(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "größe #1 100% ${a} ?" / "conf"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "mine.yaml").write_text("defaults: [linear]\ndims: {M: 7}\n")
    done = call("-cd", str(folder), "-m", "model=mine,linear", override("outputs", folder))
    assert done.status == 0, done.err
    assert [run.model.dims["M"] == 7 for run in done.runs] == [True, False]
    tracking = done.runs[0].tracking
    assert database_path(tracking.uri) == folder / "mlflow.db"
    assert tracking.artifacts == str(folder / "artifacts")
    assert call("-cd", str(folder), "--info", "searchpath").status == 0
