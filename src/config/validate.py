"""From a composed configuration to typed objects: nothing missing, nothing unknown, every value in its bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.errors import ConfigError, accepted, explain, lacking, several
from src.config.input_types import type_inputs
from src.config.rules import RULES
from src.config.schema import RootConf

T = TypeVar("T")


def validate(config: DictConfig) -> RootConf:
    """The composed configuration of one run as typed objects.

    Args:
        config: with or without its `hydra` node, which is left out.

    Raises:
        ConfigError: a key is missing or unknown, an interpolation is broken, a value is not accepted.
    """
    return validated(config, RootConf)


def validated(config: DictConfig, schema: type[T]) -> T:
    """The composed configuration as an object of the dataclass `schema`; see `validate`."""
    if OmegaConf.get_type(config) is not schema:
        config = _typed(config, schema)
    with _told():
        type_inputs(config)
    names = [each.name for each in fields(cast(Any, schema))]
    unknown = [str(key) for key in config if key not in (*names, "hydra")]
    if unknown:
        raise several([f"{key}: unknown key; {accepted(key, names)}" for key in unknown])
    checked = schema(**{name: _resolved(config, name) for name in names})
    check_values(checked)
    return checked


def check_values(node: Any, path: str = "") -> None:
    """Check the values of a typed object and all below it.

    Args:
        node: an instance of a dataclass of the schema.
        path: where it stands in the configuration, for the messages.

    Raises:
        ConfigError: some value is not accepted.
    """
    problems = list(_problems(node, path))
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
    if name not in set(config):
        raise ConfigError(f"~{name}: every run needs it; give {name}=...")
    with _told():
        value = config[name]
        return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _problems(node: Any, path: str) -> Iterator[str]:
    """What is wrong with a value and all below it, one line each."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _problems(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _problems(value, f"{path}[{index}]")
    elif is_dataclass(node) and not isinstance(node, type):
        yield from _problems_of_fields(node, path)


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


def _problems_of_value(value: Any, key: str, field: Field[Any]) -> Iterator[str]:
    choices = field.metadata.get("choices")
    low, high = field.metadata.get("min"), field.metadata.get("max")
    if isinstance(value, str) and value == MISSING:
        yield lacking(key)
    elif value is None:
        return
    elif choices and value not in choices:
        yield f"{key}={value}: no such choice; {accepted(str(value), choices)}"
    elif (low is not None and not value >= low) or (high is not None and not value <= high):
        yield f"{key}={value}: must be {_bounds(low, high)}"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"
