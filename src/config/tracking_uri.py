"""Whether a tracking address is of a kind that MLflow has a tracker for, told without importing MLflow."""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_HOSTED = ("databricks", "databricks-uc", "uc")
_FILES = ("", "file")  # refused by MLflow 3 unless it is told otherwise
_ALLOW_FILES = "MLFLOW_ALLOW_FILE_STORE"
_ACCEPTED = (
    "http://HOST:PORT, https://HOST, sqlite:///FILE, postgresql://..., mysql://..., mssql://..., databricks"
)
_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
_USER = re.compile(r"(?P<kind>[a-z][a-z0-9+.-]*)://[^/@\s:]*(?P<password>:[^/\s]*)?@", re.IGNORECASE)
_ASKED = re.compile(  # in a query, where ODBC's is encoded once more
    r"((?:(?<![a-z])|(?<=%3B))(?:ssl)?(?:password|passwd|pwd)(?:=|%3D))(?:(?!%3B)[^&;#\s'\"])+", re.IGNORECASE
)


def problem_of_uri(uri: str) -> str:
    """Why no tracker can be at an address, and what is accepted; empty where one can."""
    try:
        parts = urlsplit(uri)
        _ = parts.port  # looked at only now
    except ValueError as error:
        return f"not an address ({error}); accepted: {_ACCEPTED}"
    kind = uri if uri in _HOSTED else parts.scheme
    if kind in _SERVERS:
        if parts.password is not None:  # the configuration, the command and MLflow's tags hold the address
            return f"a password in it would be kept with every run; give {_LOGIN} instead"
        return "" if parts.hostname else f"no host in it; accepted: {_ACCEPTED}"
    if kind == "sqlite" or kind.startswith("sqlite+"):
        return _problem_of_file(uri.partition(":")[2])
    if kind.partition("+")[0] in (*_DATABASES, *_HOSTED) or (kind in _FILES and _files_allowed()):
        return ""
    if kind in _FILES:
        return f"a folder, which MLflow no longer writes to; accepted: {_ACCEPTED}; or tracking=none"
    if kind in (each.name for each in entry_points(group="mlflow.tracking_store")):
        return ""
    return f"no tracker has addresses of the kind {kind}:; accepted: {_ACCEPTED}; or tracking=none"


def _problem_of_file(path: str) -> str:
    """Of a SQLite address behind its kind."""
    if not path.startswith("///") or len(path) == 3:
        return "of sqlite, sqlite:///FILE is wanted"
    if path.startswith("///~"):
        return "~ means no home there; give sqlite:////home/..., the whole path behind three slashes"
    return "a folder; of sqlite, sqlite:///FILE is wanted" if Path(unquote(path[3:])).is_dir() else ""


def _files_allowed() -> bool:
    return os.environ.get(_ALLOW_FILES, "").lower() in ("true", "1")


def without_password(text: str) -> str:
    """A tracker's address, or a word of a command with one in it, as it may be shown and kept.

    Of http a user alone is left out as well: it may be a token.
    """
    return _ASKED.sub(r"\1***", _USER.sub(_as_shown, text))


def _as_shown(found: re.Match[str]) -> str:
    secret = found["password"] or found["kind"].lower() in _SERVERS
    return f"{found['kind']}://" if secret else found[0]
