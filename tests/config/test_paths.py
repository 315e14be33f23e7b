"""Whatever a path holds, Hydra, SQLAlchemy, YAML and a shell give it back as it was."""

import shlex
import sqlite3
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sqlalchemy import create_engine

from src.config.errors import ConfigError
from src.config.paths import (
    command,
    database_path,
    database_uri,
    in_environment,
    literal,
    outputs_argument,
    override,
    readable,
)
from tests.app.conftest import Call

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


def meant(typed: str) -> list[str]:
    """What Hydra takes from an override, value by value."""
    [parsed] = OverridesParser.create().parse_overrides([readable(typed)])
    values = [*parsed.sweep_iterator()] if parsed.is_sweep_override() else [parsed.value()]
    return [str(each.text if isinstance(each, QuotedString) else each) for each in values]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("outputs=/data/größe 1", ["/data/größe 1"]),
        ("outputs=/a#1 & b;c!<d>^e`=f", ["/a#1 & b;c!<d>^e`=f"]),
        ("+outputs=/größe,/b c,/d", ["/größe", "/b c", "/d"]),
        ("outputs=~/x", ["/home/größe #1/x"]),
        ("outputs=~", ["/home/größe #1"]),
        ("outputs='~/x, y'", ["/home/größe #1/x, y"]),
        ("outputs=/a~/b", ["/a~/b"]),
        ("quant==int8wo", ["=int8wo"]),
        ("outputs=/data/run (1) [it's],/b", ["/data/run (1) [it's]", "/b"]),
        ('outputs=../a"b{c}', ['../a"b{c}']),
        ("batch=1,2", ["1", "2"]),
    ],
)
def test_what_is_typed_is_read_as_it_is_meant(
    monkeypatch: pytest.MonkeyPatch, typed: str, expected: list[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/größe #1")
    assert meant(typed) == expected


def test_home_is_known_inside_of_what_is_structured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert meant("weights={source: local, id: ~/x}") == ["{'source': 'local', 'id': '/home/me/x'}"]


@pytest.mark.parametrize(
    "override", ["batch=1", "~quant.candidates.int8wo", "quant=glob(int8*)", "a={b: [1, 'ü']}", "a='ü, b'", "--ü",
                 "ü=1", "a=b\\,ü", "a=${b} c", "outputs=/plain path/100%/@x:y?"]
)  # fmt: skip
def test_what_hydra_reads_is_left_as_it_is(override: str) -> None:
    assert readable(override) == override


@given(st.text(st.sampled_from("aü /#=;~!&<>|^`%@:?*+.-\t") | st.characters(codec="utf-8")))
def test_any_path_may_be_typed(text: str) -> None:
    path = f"/ü{text}".rstrip()
    if not any(sign in path for sign in ("${", ",", "\\", "~/")):
        assert meant(f"outputs={path}") == [path]


def test_where_nobody_is_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of a container that has no name in it."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    with pytest.raises(ConfigError, match="outputs=~/x: there is no home folder for ~; give the whole path"):
        readable("outputs=~/x")
    assert readable("batch=1") == "batch=1"


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


def test_a_python_that_the_shell_does_not_find_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `make sweep`, which activates no environment."""
    here = tmp_path / "my clone"
    for name in (".venv/bin/python", ".venv/bin/mlflow", "usr/bin/python", "usr/bin/mlflow"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch(mode=0o755)
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.argv", ["run.py"])
    monkeypatch.setattr("sys.executable", str(here / ".venv/bin/python"))
    monkeypatch.setenv("PATH", str(here / "usr/bin"))
    assert command("analyze") == ".venv/bin/python -m src.analyze"
    assert in_environment("mlflow") == [".venv/bin/python", "-m", "mlflow"]
    monkeypatch.chdir(here / "usr")
    assert command("analyze") == f"'{here}/.venv/bin/python' -m src.analyze"
    monkeypatch.setenv("PATH", f"{here}/.venv/bin:{here}/usr/bin")
    assert command("analyze") == "python -m src.analyze"
    assert in_environment("mlflow") == ["mlflow"]


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
