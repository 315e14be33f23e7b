"""A tracking address that no tracker has is refused before anything is measured."""

import pytest

from src.config.paths import this_command
from src.config.tracking_uri import problem_of_uri, without_password
from tests.app.conftest import Call


@pytest.mark.parametrize(
    "uri",
    ["http://127.0.0.1:5000", "https://user@mlflow.example/base", "sqlite:////tmp/a b.db", "sqlite:///x.db",
     "postgresql+psycopg2://u:p@h/db", "mysql://h/db", "mssql+pyodbc://h/db", "databricks", "databricks://me", "uc"],
)  # fmt: skip
def test_addresses_that_mlflow_has_a_tracker_for(uri: str) -> None:
    assert problem_of_uri(uri) == ""


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("htp://127.0.0.1:5000", "no tracker has addresses of the kind htp:"),
        ("localhost:5000", "of the kind localhost:"),
        ("127.0.0.1:5000", "a folder"),
        ("./mlruns", "a folder, which MLflow no longer writes to"),
        ("file:///tmp/mlruns", "a folder"),
        ("", "a folder"),
        ("sqlite://x.db", "sqlite:///FILE is wanted"),
        ("sqlite:///", "sqlite:///FILE is wanted"),
        ("http:/localhost:5000", "no host in it"),
        ("http://[::1", "not an address"),
        ("s3://bucket/x", "of the kind s3:"),
        ("redis://h/0", "accepted: http://HOST:PORT"),
        ("http://127.0.0.1:50O0", "not an address (Port could not be cast"),
        ("http://127.0.0.1:500000", "not an address (Port out of range"),
        ("sqlite:///~/mlflow.db", "~ means no home there"),
        ("https://user:secret@mlflow.example", "kept with every run; give MLFLOW_TRACKING_USERNAME and"),
        ("http://:secret@mlflow.example", "kept with every run"),
        ("sqlite:////tmp", "a folder; of sqlite, sqlite:///FILE is wanted"),
    ],
)
def test_other_addresses_are_refused(uri: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    assert said in problem_of_uri(uri)
    without_password(uri)  # does not raise


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:se:cr@et@h:5432/db", "postgresql://h:5432/db"),
        ("postgresql+psycopg2://me@h/db", "postgresql+psycopg2://me@h/db"),
        ("postgresql://h/db?user=me&password=secret&x=1", "postgresql://h/db?user=me&password=***&x=1"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret%3BX%3D1",
         "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3D***%3BX%3D1"),
        ("mysql://h/db?Password=secret", "mysql://h/db?Password=***"),
        ("https://secret@mlflow.example/base", "https://mlflow.example/base"),
        ("http://me:secret@[::1", "http://[::1"),
        ("sqlite:////tmp/me:you@home/m.db", "sqlite:////tmp/me:you@home/m.db"),
        ("http://head:5000", "http://head:5000"),
    ],
)  # fmt: skip
def test_what_of_an_address_may_be_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_sweeps_command_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["-m", "quant=int8wo", "tracking.uri='postgresql://me:secret@h/db'", "x=a:b@c,//d:e@f"]
    monkeypatch.setattr("sys.argv", ["run.py", *words])
    told = this_command()[-4:]
    assert told == [*words[:2], "tracking.uri='postgresql://h/db'", words[3]]


def test_a_folder_where_mlflow_is_told_to_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert problem_of_uri("./mlruns") == problem_of_uri("file:///tmp/mlruns") == ""


def test_kinds_are_those_that_mlflow_knows() -> None:
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    for kind in _tracking_store_registry._registry.keys() - {"", "file", "sqlite"}:
        assert problem_of_uri(f"{kind}://host/x") == "", kind


def test_it_is_one_line_before_anything_runs(call: Call) -> None:
    result = call("tracking=server", "tracking.uri=htp://me:secret@host:5000")
    assert (result.status, result.runs) == (2, [])
    assert result.err.startswith(
        "error: tracking.uri=htp://host:5000: no tracker has addresses of the kind htp:"
    )
    assert "secret" not in result.err
    assert call("tracking=none", "tracking.uri=htp://host").status == 0
