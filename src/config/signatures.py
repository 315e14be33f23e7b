"""What a class or function takes, read from its source: torchao is checked without importing torch.

Only what the source says plainly is believed. Of anything else (star imports, `**kwargs`, compiled modules) nothing
is known, and the run itself will tell.
"""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from src.config.errors import accepted

_PLAIN_BASES = frozenset({"AOBaseConfig", "ABC", "abc.ABC", "object"})  # they add no argument
Function = ast.FunctionDef | ast.AsyncFunctionDef


def mistakes(config: Any, key: str) -> Iterator[str]:
    """What is wrong with the `_target_`s in a configuration and with their arguments, one line each.

    Args:
        config: plain keys and values, as Hydra's `instantiate` takes them.
        key: where it stands, for the text.
    """
    if isinstance(config, list):
        for index, value in enumerate(config):
            yield from mistakes(value, f"{key}[{index}]")
    elif isinstance(config, dict):
        target = config.get("_target_")
        if isinstance(target, str):
            yield from _mistakes_of_call(target, config, key)
        for name, value in config.items():
            yield from mistakes(value, f"{key}.{name}")


def _mistakes_of_call(target: str, config: dict[str, Any], key: str) -> Iterator[str]:
    try:
        known = arguments(target)
    except LookupError as error:
        yield f"{key}._target_={target}: {error.args[0]}"
        return
    for name in config:
        if known is not None and not name.startswith("_") and name not in known:
            yield f"{key}.{name}: {target} takes no such argument; {accepted(name, known)}"


@cache
def arguments(target: str) -> tuple[str, ...] | None:
    """The arguments of a dotted class or function; None where the source does not say plainly.

    Raises:
        LookupError: there is no such module, or it has no such name.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise LookupError("not the path of a class or a function: package.module.Name")
    path = _module_file(module)
    if path is None:
        _refuse_absent(module)
        return None  # a class inside of a class, or not Python source
    return _of_definition(module, name, frozenset())


def _of_definition(module: str, name: str, seen: frozenset[str]) -> tuple[str, ...] | None:
    """Follow imports until `name` is defined."""
    path = _module_file(module)
    if path is None or module in seen:
        return None
    tree = _parsed(path)
    for node in _statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return _of_function(node, skip=0)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(module, node, seen)
        if isinstance(node, ast.ImportFrom):
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return _of_definition(_absolute(node, module, path), imported.name, seen | {module})
    names = sorted(_names(tree))
    if name not in names and _says_all(tree) and not _is_module(f"{module}.{name}"):
        raise LookupError(f"{module} has no {name}; {accepted(name, [n for n in names if n[0].isupper()])}")
    return None


def _refuse_absent(module: str) -> None:
    """Raise LookupError if the nearest package that has source says plainly that it has no such part."""
    package, _, part = module.rpartition(".")
    path = _module_file(package) if package else None
    if not package and find_spec(module) is None:
        raise LookupError(f"no package {module} is installed")
    if package and path is None:
        _refuse_absent(package)
    elif path is not None and not _is_module(module) and part not in set(_names(_parsed(path))):
        raise LookupError(f"{package} has no {part}")


def _is_module(module: str) -> bool:
    """Whether a module or a folder of that name is there, compiled ones among them."""
    package, _, part = module.rpartition(".")
    path = _module_file(package) if package else None
    if path is None or path.name != "__init__.py":
        return False
    return (path.parent / part).is_dir() or any(path.parent.glob(f"{part}.*"))


def _of_function(node: Function, skip: int) -> tuple[str, ...] | None:
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)][skip:]
    return None if given.kwarg else (*names, *(each.arg for each in given.kwonlyargs))


def _of_class(module: str, node: ast.ClassDef, seen: frozenset[str]) -> tuple[str, ...] | None:
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return _of_function(each, skip=1)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return None
    fields = [
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    for base in map(ast.unparse, node.bases):
        if base not in _PLAIN_BASES:
            inherited = None if base == node.name else _of_definition(module, base, seen)
            if inherited is None:
                return None
            fields = [*inherited, *fields]
    return tuple(fields)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under `if` and `try` among them."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                yield from _statements(getattr(node, inner, []))


def _says_all(tree: ast.Module) -> bool:
    """Whether every name of the module stands in its source."""
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom) and any(each.name == "*" for each in node.names):
            return False
        if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
            return False
    return True


def _names(tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (each.asname or each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.Assign):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The module that an import names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


@cache
def _module_file(module: str) -> Path | None:
    """The source of a module, found without importing its parents."""
    first, *rest = module.split(".")
    try:
        spec = find_spec(first) if first else None
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or []:
        path = Path(folder).joinpath(*rest)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
