"""What a class or function takes, read from its source: models and schemes are checked without importing torch.

Only what the source says plainly is believed. Of anything else (`**kwargs`, compiled modules, what is made at run
time) nothing is known, and the run itself will tell.
"""

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from src.checks.definitions import absolute, find, refuse_absent
from src.config.errors import accepted

_PLAIN_BASES = frozenset({"AOBaseConfig", "ABC", "abc.ABC", "object"})  # they add no argument
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Signature(NamedTuple):
    """The arguments of a callable."""

    names: tuple[str, ...]
    required: tuple[str, ...] = ()


def mistakes(config: Any, key: str, *, later: bool = False) -> Iterator[str]:
    """What is wrong with the `_target_`s in a configuration and with their arguments, one line each.

    Args:
        config: plain keys and values, as Hydra's `instantiate` takes them.
        key: where it stands, for the text.
        later: the outermost call gets further arguments, so that none is missing.
    """
    if isinstance(config, list):
        for index, value in enumerate(config):
            yield from mistakes(value, f"{key}[{index}]")
    elif isinstance(config, dict):
        if "_target_" in config:
            yield from _mistakes_of_call(config, key, later)
        for name, value in config.items():
            yield from mistakes(value, f"{key}.{name}")


def _mistakes_of_call(config: dict[str, Any], key: str, later: bool) -> Iterator[str]:
    target = config["_target_"]
    try:
        known = signature(target) if isinstance(target, str) else None
        if not isinstance(target, str):
            raise LookupError("a dotted path is wanted, as package.module.Class")
    except LookupError as error:
        yield f"{key}._target_={target}: {error.args[0]}"
        return
    if known is None:
        return
    given = [name for name in config if not (isinstance(name, str) and name.startswith("_"))]
    yield from foreign(given, known, key, target)
    if not (later or config.get("_partial_") or "_args_" in config):
        yield from lacking(given, known, key, target)


def foreign(given: list[str], known: Signature, key: str, target: str) -> Iterator[str]:
    """The arguments that a callable does not take."""
    for name in given:
        if name not in known.names:
            yield f"{key}.{name}: {target} takes no such argument; {accepted(str(name), known.names)}"


def lacking(given: list[str], known: Signature, key: str, target: str) -> Iterator[str]:
    """The arguments that a callable needs and that are not given."""
    for name in known.required:
        if name not in given:
            yield f"{key}.{name}: {target} needs this argument"


@cache
def signature(target: str) -> Signature | None:
    """The arguments of a dotted class or function; None where the source does not say plainly.

    Raises:
        LookupError: it is no dotted path, or there is no such module, or it has no such name.
    """
    module, _, name = target.rpartition(".")
    if not module or not all(part.isidentifier() for part in target.split(".")):
        raise LookupError("a dotted path is wanted, as package.module.Class")
    found = find(module, name)
    if found is None:
        refuse_absent(module, name)  # or a class inside of a class, or not Python source
        return None
    if isinstance(found.node, ast.ClassDef):
        return _of_class(found.module, found.node)
    return _of_function(found.node, skip=0)


@cache
def method(target: str, name: str) -> Signature | None:
    """The arguments of a method of a dotted class, inherited ones too; None where the source does not say plainly."""
    node = _method(*_place(target), name)
    return _of_function(node, skip=1) if isinstance(node, Function) else None


@cache
def lacks_method(target: str, name: str) -> bool:
    """Whether the source says plainly that there is none: of a function, or of a class and all its bases."""
    return _method(*_place(target), name) is False


@cache
def defined_as(target: str) -> str:
    """Where a class or function is defined, by whatever name it was imported; where unknown, the target."""
    module, _, name = target.rpartition(".")
    found = find(module, name)
    return target if found is None else f"{found.module}.{found.node.name}"


def _place(target: str) -> tuple[str, str]:
    module, _, name = target.rpartition(".")
    return module, name


def _method(module: str, name: str, wanted: str) -> Function | bool | None:
    """The definition of a class' method; False where there is none, None where that is not known."""
    if module == "" and name == "object":
        return False
    found = find(module, name)
    if found is None:
        return None
    if not isinstance(found.node, ast.ClassDef):
        return False
    for each in found.node.body:
        if isinstance(each, Function) and each.name == wanted:
            return each
    for base in found.node.bases:
        inherited = _method(*_base(found.module, base), wanted)
        if inherited is not False:
            return inherited
    return False


def _base(module: str, base: ast.expr) -> tuple[str, str]:
    """Module and name of a base class, as its source names it."""
    if isinstance(base, ast.Subscript):  # Generic[T]
        base = base.value
    path = ast.unparse(base)
    if path in ("object", "ABC", "abc.ABC"):
        return "", "object"
    head, _, name = path.rpartition(".")
    return (absolute(module, head), name) if head else (module, name)


def _of_function(node: Function, skip: int) -> Signature | None:
    given = node.args
    if given.kwarg or _changes_arguments(node):
        return None
    positional = [each.arg for each in (*given.posonlyargs, *given.args)]
    needed = positional[skip : len(positional) - len(given.defaults)]
    needed += [
        a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None
    ]
    return Signature((*positional[skip:], *(each.arg for each in given.kwonlyargs)), tuple(needed))


def _changes_arguments(node: Function | ast.ClassDef) -> bool:
    """Whether a decorator deals with arguments, by its name: it may take others, as deprecated ones."""
    names = [ast.unparse(each.func if isinstance(each, ast.Call) else each) for each in node.decorator_list]
    return any("kwarg" in name for name in names)


def _of_class(module: str, node: ast.ClassDef) -> Signature | None:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    own = next((each for each in node.body if isinstance(each, Function) and each.name == "__init__"), None)
    if own is not None:
        return _of_function(own, skip=1)
    if not any("dataclass" in each for each in decorators):
        inherited = None if decorators else _method(module, node.name, "__init__")
        return _of_function(inherited, skip=1) if isinstance(inherited, Function) else None
    return _of_dataclass(module, node)


def _of_dataclass(module: str, node: ast.ClassDef) -> Signature | None:
    if _changes_arguments(node):
        return None
    own = [
        each for each in node.body if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each)
    ]
    names = [each.target.id for each in own if isinstance(each.target, ast.Name)]
    needed = [each.target.id for each in own if isinstance(each.target, ast.Name) and each.value is None]
    for base in node.bases:
        if ast.unparse(base) in _PLAIN_BASES:
            continue
        found = find(*_base(module, base))
        inherited = None
        if found is not None and isinstance(found.node, ast.ClassDef) and found.node is not node:
            inherited = _of_class(found.module, found.node)
        if inherited is None:
            return None
        names, needed = [*inherited.names, *names], [*inherited.required, *needed]
    return Signature(tuple(names), tuple(needed))
