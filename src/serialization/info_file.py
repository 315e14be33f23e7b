"""A JSON that says what lies beside it, read into a dataclass of which every type was looked at."""

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_origin

from src.outcomes import RunEndedError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Info = TypeVar("Info", bound="DataclassInstance")


class Unusable(Protocol):
    """How a run ends that was given a file which cannot be used: why, and what to do if not the usual."""

    def __call__(self, path: Path, why: str, remedy: str = "") -> RunEndedError:
        """The error."""


def read_content(path: Path, absent: str, unusable: Unusable) -> Any:
    """What a file's JSON holds.

    Raises:
        RunEndedError: it cannot be read, or is no JSON, so what it would describe is `absent`.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror}), so {absent}") from error
    except ValueError as error:
        raise unusable(path, f"not JSON ({error}), so {absent}") from error


def made_of(kind: type[Info], content: dict[str, Any], newest: int, path: Path, unusable: Unusable) -> Info:
    """A dataclass of what was read; what it has no field for is left out.

    Args:
        kind: the dataclass; a field that it has a default for may be missing.
        newest: schema that this version reads.

    Raises:
        RunEndedError: it is of a newer schema, or a field is missing or of another type.
    """
    version = content.get("schema_version")
    if version is None:
        raise unusable(path, "not complete (no schema_version)")
    if isinstance(version, int) and version > newest:
        raise unusable(path, f"schema {version} is newer than {newest}", "update quantpay")
    known = {field.name for field in fields(kind)}
    try:
        info = kind(**{name: value for name, value in content.items() if name in known})
    except TypeError as error:
        raise unusable(path, f"not complete ({error})") from error
    for field in fields(info):
        if not _is(getattr(info, field.name), field.type):
            raise unusable(path, f"{field.name} is not what task=serialize writes there")
    return info


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; of a list its members too."""
    outer, inner = get_origin(kind) or kind, get_args(kind)
    return isinstance(value, outer) and (outer is not list or all(_is(each, inner[0]) for each in value))
