"""The walk over a schema of its own: bounds, choices, missing and unknown keys at any depth."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from omegaconf import MISSING, OmegaConf

from src.checks.validation import validated
from src.config.errors import ConfigError


def _at_least(least: float) -> Any:
    return field(default=least, metadata={"min": least})


@dataclass
class Inner:
    size: int = _at_least(1)
    ratio: float | None = field(default=None, metadata={"max": 0.5})
    kind: str = field(default="a", metadata={"choices": ("a", "b")})


@dataclass
class Outer:
    name: str = MISSING
    one: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    named: dict[str, Inner] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    copied: int = "${one.size}"  # type: ignore[assignment]


def test_a_configuration_becomes_typed_objects_with_interpolations_resolved() -> None:
    config = OmegaConf.create({"name": "x", "one": {"size": 3}, "many": [{"kind": "b"}], "named": {"k": {}}})
    assert validated(config, Outer) == Outer("x", Inner(3), [Inner(kind="b")], {"k": Inner()}, {}, 3)


def test_hydras_own_node_is_left_out() -> None:
    assert validated(OmegaConf.create({"name": "x", "hydra": {"mode": "RUN"}}), Outer).name == "x"


def test_a_config_that_is_typed_already_is_the_same() -> None:
    config = OmegaConf.merge(OmegaConf.structured(Outer), {"name": "x", "one": {"size": 2}})
    assert validated(config, Outer) == Outer("x", Inner(2), copied=2)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "name: a value is missing"),
        ({"name": "x", "foo": 1}, "foo"),
        ({"name": "x", "one": {"foo": 1}}, "foo"),
        ({"name": "x", "one": {"size": 0}}, "one.size=0: must be at least 1"),
        ({"name": "x", "one": {"ratio": 0.6}}, "one.ratio=0.6: must be at most 0.5"),
        ({"name": "x", "one": {"ratio": float("nan")}}, "one.ratio=nan: must be at most 0.5"),
        ({"name": "x", "many": [{}, {"kind": "c"}]}, "many[1].kind=c: no such choice; accepted: a, b"),
        ({"name": "x", "named": {"k": {"size": -1}}}, "named.k.size=-1: must be at least 1"),
        ({"name": "x", "free": {"deep": "${nope}"}}, "free.deep: ${nope} names no key"),
        ({"name": "x", "free": {"deep": "???"}}, "free.deep: a value is missing"),
        ({"name": "x", "one": {"size": 0}, "many": [{"kind": "c"}]}, "(and 1 more)"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        validated(OmegaConf.create(config), Outer)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_null_passes_where_the_type_allows_it() -> None:
    assert validated(OmegaConf.create({"name": "x", "one": {"ratio": None}}), Outer).one.ratio is None
