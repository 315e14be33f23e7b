"""From a composed configuration to typed objects: nothing missing, nothing unknown, every value in its bounds."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.checks.input_types import leaves, type_inputs
from src.checks.rules import RULES
from src.config.errors import ConfigError, accepted, explain, lacking, several
from src.config.schema.arms import on_step
from src.config.schema.root import RootConf

T = TypeVar("T")
_WANTED: dict[Any, str] = {list: "a list is wanted: [a,b]", dict: "keys and values are wanted: {key: value}"}


def validate(config: DictConfig) -> RootConf:
    """The composed configuration of one run as typed objects.

    Args:
        config: with or without its `hydra` node, which is left out.

    Raises:
        ConfigError: a key is missing or unknown, an interpolation is broken, a value is not accepted.
    """
    return validated(config, RootConf)


def check(config: DictConfig) -> None:
    """Validate a composed configuration against the dataclass that its primary config names.

    Raises:
        ConfigError: it is wrong.
    """
    kind = OmegaConf.get_type(config)
    if kind is not None and kind is not dict:
        validated(config, kind)


def validated(config: DictConfig, schema: type[T]) -> T:
    """The composed configuration as an object of the dataclass `schema`; see `validate`.

    A run on a step of a ladder is what that step measures.
    """
    if OmegaConf.get_type(config) is not schema:
        config = _typed(config, schema)
    with _told():
        type_inputs(config)
    names = [each.name for each in fields(cast(Any, schema))]
    given = set(config)
    if unknown := [str(key) for key in config if key not in (*names, "hydra")]:
        raise several([f"{key}: unknown key; {accepted(key, names)}" for key in unknown])
    if lost := [name for name in names if name not in given]:
        raise ConfigError(f"~{lost[0]}: every run needs it; give {lost[0]}=...")
    checked = schema(**{name: _resolved(config, name) for name in names})
    check_values(checked)
    return cast(T, on_step(checked)) if isinstance(checked, RootConf) else checked


def check_values(node: Any, path: str = "") -> None:
    """Check the values of a typed object and all below it.

    Args:
        node: an instance of a dataclass of the schema.
        path: where it stands in the configuration, for the messages.

    Raises:
        ConfigError: some value is not accepted.
    """
    problems = list(_misshapen(node, path)) or list(_problems(node, path))
    if problems:
        raise several(problems)


def _typed(config: DictConfig, schema: type[Any]) -> DictConfig:
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    with _told():
        return cast(DictConfig, OmegaConf.merge(OmegaConf.structured(schema), task))


@contextmanager
def _told() -> Iterator[None]:
    """Turn what OmegaConf raises into a `ConfigError`."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def _resolved(config: DictConfig, name: str) -> Any:
    """The value of a top key, interpolations resolved, as plain and typed objects."""
    with _told():
        value = config[name]
        return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _problems(node: Any, path: str) -> Iterator[str]:
    """What is wrong with a value and all below it, one line each."""
    for where, leaf in leaves(node, path):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _problems_of_fields(leaf, where)


def _problems_of_fields(node: Any, path: str) -> Iterator[str]:
    known = {each.name: each for each in fields(node)}
    prefix = f"{path}." if path else ""
    found = [
        f"{prefix}{name}: unknown key; {accepted(name, known)}" for name in vars(node).keys() - known.keys()
    ]
    for name, field in known.items():
        found += _problems_of_value(getattr(node, name), prefix + name, field)
    if not found:
        found += [
            each for kind, rule in RULES.items() if isinstance(node, kind) for each in rule(node, prefix)
        ]
    yield from found
    for name in known:
        yield from _problems(getattr(node, name), prefix + name)


def _misshapen(node: Any, path: str) -> Iterator[str]:
    """Values that are not of their key's kind, in a typed object and all below it: no rule can look at these."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _misshapen(value, f"{path}.{key}")
    elif is_dataclass(node) and not isinstance(node, type):
        prefix, kinds = f"{path}." if path else "", _kinds(type(node))
        for name in (each.name for each in fields(node)):
            problems = (
                [*_problem_of_kind(getattr(node, name), prefix + name, *kinds[name])] if name in kinds else []
            )
            yield from problems or _misshapen(getattr(node, name), prefix + name)


@cache
def _kinds(schema: type[Any]) -> dict[str, tuple[type[Any], type[Any] | None]]:
    """Of the fields that hold more than one value: what they are, and of lists of texts or numbers of which."""
    found = {}
    for name, hint in get_type_hints(schema).items():
        kind, parts = get_origin(hint) or hint, get_args(hint)
        if kind in _WANTED or is_dataclass(kind):
            found[name] = kind, parts[0] if kind is list and parts[0] in (str, int, float) else None
    return found


def _problem_of_kind(value: Any, key: str, kind: type[Any], part: type[Any] | None) -> Iterator[str]:
    """OmegaConf does not look at what a key takes from elsewhere: ``quant.components=${model}``, lists in lists."""
    if value is None or value == MISSING:
        return
    if not isinstance(value, kind):
        yield f"{key}: {_WANTED.get(kind, _WANTED[dict])}"
    elif part is not None and any(isinstance(each, list | dict) or is_dataclass(each) for each in value):
        yield f"{key}={value}: {_WANTED[list]}"


def _problems_of_value(value: Any, key: str, field: Field[Any]) -> Iterator[str]:
    choices = field.metadata.get("choices")
    low, high = field.metadata.get("min"), field.metadata.get("max")
    if isinstance(value, str) and value == MISSING:
        yield lacking(key)
    elif value is None:
        return
    elif choices and value not in choices:
        names = [
            str(each).lower() if isinstance(each, bool) else each for each in choices
        ]  # as YAML has them
        yield f"{key}={value}: no such choice; {accepted(str(value), names)}"
    elif isinstance(value, str) and (low is not None or high is not None):
        yield f"{key}={value}: is not a number"
    elif (low is not None and not value >= low) or (high is not None and not value <= high):
        yield f"{key}={value}: must be {_bounds(low, high)}"
    elif isinstance(value, float) and math.isnan(value):
        yield f"{key}=nan: is not a number"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"
