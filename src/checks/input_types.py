"""Example inputs in a composed configuration: tensors, and lists and sets of tensors, nested as a model wants them.

``inputs`` is open to any nesting, so that its tensors are given their type here, once the YAML files are composed:
after that their keys and values are checked, completed and overridden like all others.
"""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.base import Node

from src.config.schema.model import InputConf

_PLACES = (("model", "inputs"), ("model", "pipeline", "inputs"))
_KEYS = frozenset(field.name for field in fields(InputConf))


def type_inputs(config: DictConfig) -> None:
    """Make every mapping that describes a tensor an `InputConf`, in place; what is one already stays.

    An input of null is taken out: a file that builds on another's says so that its model takes none.

    Raises:
        OmegaConfBaseException: a key or a value that a tensor does not have.
    """
    for place in _PLACES:
        node: Any = config
        for name in place:
            node = node._get_node(name, validate_access=False) if _is_mapping(node) else None
        if _is_mapping(node):
            _take_out(node)
            _type(node)


def leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """What nested mappings and lists hold that is neither, each with its key: of typed inputs the tensors."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value, f"{where}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, f"{where}[{index}]")
    else:
        yield where, node


def _take_out(node: DictConfig) -> None:
    with open_dict(node):
        for name in list(node):
            value: Any = node._get_node(name)
            if value._is_none():
                del node[name]


def _type(node: DictConfig | ListConfig) -> None:
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        value: Any = node._get_node(key)
        if not isinstance(value, DictConfig | ListConfig) or not _is_there(value):
            continue
        if isinstance(value, ListConfig) or _is_set(value):
            _type(value)
        elif OmegaConf.get_type(value) is not InputConf:
            node[key] = OmegaConf.structured(InputConf)
            node[key].merge_with(value)


def _is_set(value: DictConfig) -> bool:
    """Whether a mapping holds tensors by name: its values are mappings or lists of them, none is a tensor's own."""
    nodes = {name: value._get_node(name) for name in value}
    if any(name in _KEYS and not isinstance(node, DictConfig) for name, node in nodes.items()):
        return False
    return bool(nodes) and all(_holds_tensors(node) for node in nodes.values())


def _holds_tensors(node: Any) -> bool:
    if isinstance(node, ListConfig) and _is_there(node):
        return all(_holds_tensors(node._get_node(index)) for index in range(len(node)))
    return isinstance(node, DictConfig) or node._is_interpolation()


def _is_mapping(node: Any) -> bool:
    return isinstance(node, DictConfig) and _is_there(node)


def _is_there(node: Node) -> bool:
    return not (node._is_none() or node._is_missing() or node._is_interpolation())
