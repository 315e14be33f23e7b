"""Where a dotted name is defined, found in the source: no module is imported, nor are its parents."""

import ast
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from src.checks.sources import (
    imported_module,
    is_installed,
    is_module,
    module_file,
    own_names,
    parsed,
    relative,
    statements,
    text_of,
)
from src.config.errors import accepted

_LISTED = 40  # names that one line can list
_STARRED = 3  # star imports of a module that are read whole; of more only the files that define the name
_DEFINES = r"^(?:class|def|async def) {name}\b"
_NAME = re.compile(r"^(?:(?:class|def|async def) )?(\w+)\b(?=\s*[(:=])", re.MULTILINE)
_STAR = re.compile(r"^\s*from (\S+) import \*", re.MULTILINE)


class Definition(NamedTuple):
    """A class or a function and the module that it stands in."""

    module: str
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def find(module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Definition | None:
    """Follow imports and other names until a class or function is defined; None where that is not plain.

    Raises:
        LookupError: a file on the way is not Python.
    """
    path = module_file(module)
    if path is None or (module, name) in seen:
        return None
    seen |= {(module, name)}
    for node in statements(parsed(path).body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return Definition(module, node)
        if isinstance(node, ast.ImportFrom):
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return find(imported_module(node, module, path), imported.name, seen)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and _assigns(node, name):
            return find(module, node.value.id, seen)
    for starred in _starred(module, name):
        found = find(starred, name, seen)
        if found is not None:
            return found
    return None


def _assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(each, ast.Name) and each.id == name for each in node.targets)


def refuse_absent(module: str, name: str) -> None:
    """Nothing, if a module may have a name although no source shows it.

    Raises:
        LookupError: there is no such module, or its source says plainly that it has no such name.
    """
    path = module_file(module)
    if path is None:
        _refuse_absent_module(module)
        return
    if is_module(f"{module}.{name}"):
        raise LookupError(f"a module; name a class or a function in it, as {module}.{name}.Class")
    if not _says_all(module):
        return
    names = _all_names(module)
    if name not in names:
        raise LookupError(f"{module} has no {name}; {names_like(name, names)}")


def names_like(name: str, names: Iterable[str]) -> str:
    """What may stand in place of a name: classes are listed, and of very many only the nearest."""
    public = sorted(each for each in names if not each.startswith("_"))
    classes = [each for each in public if each[0].isupper()] or public
    if len(classes) <= _LISTED:
        return accepted(name, public, {*public} - {*classes})
    near = get_close_matches(name, public, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"it has {len(classes)} others"


def absolute(module: str, name: str) -> str:
    """The module that a name stands for inside a module: ``nn`` after ``from torch import nn`` is ``torch.nn``."""
    head, _, rest = name.partition(".")
    path = module_file(module)
    for node in statements(parsed(path).body) if path else ():
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.asname == head or (each.asname is None and each.name.split(".")[0] == head):
                    return ".".join(filter(None, [each.name if each.asname else head, rest]))
        elif isinstance(node, ast.ImportFrom) and path:
            for each in node.names:
                if (each.asname or each.name) == head:
                    return ".".join(filter(None, [imported_module(node, module, path), each.name, rest]))
    return name


def _refuse_absent_module(module: str) -> None:
    """Raise LookupError if the nearest package that has source says plainly that it has no such part."""
    package, _, part = module.rpartition(".")
    path = module_file(package) if package else None
    if not package and not is_installed(module):
        raise LookupError(f"no package {module} is installed")
    if package and path is None:
        _refuse_absent_module(package)
    elif (
        path is not None and not is_module(module) and _says_all(package) and part not in _all_names(package)
    ):
        raise LookupError(f"{package} has no {part}; it is {path.parent}")


@cache
def _stars(module: str) -> tuple[str, ...]:
    """The modules that a module takes all names of."""
    path = module_file(module)
    if path is None:
        return ()
    nodes = (node for node in statements(parsed(path).body) if isinstance(node, ast.ImportFrom))
    return tuple(
        imported_module(node, module, path) for node in nodes if any(each.name == "*" for each in node.names)
    )


def _starred(module: str, name: str) -> Iterator[str]:
    """The modules behind a module's star imports in which a name may be defined."""
    stars = _stars(module)
    if len(stars) <= _STARRED:
        yield from stars
        return
    defines = re.compile(_DEFINES.format(name=re.escape(name)), re.MULTILINE)
    for part in _behind(module):
        path = module_file(part)
        if path is not None and defines.search(text_of(path)):
            yield part


@cache
def _behind(module: str) -> tuple[str, ...]:
    """The modules behind very many star imports, and behind theirs, found by their text: parsing takes seconds."""
    found = []
    for star in _stars(module):
        path = module_file(star)
        found.append(star)
        for name in _STAR.findall(text_of(path)) if path else ():
            level = len(name) - len(name.lstrip("."))
            found.append(
                relative(level, name.lstrip("."), star, path is not None and path.name == "__init__.py")
            )
    return tuple(found)


@cache
def _says_all(module: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether every name of the module stands in source."""
    path = module_file(module)
    if path is None or module in seen:
        return module in seen
    functions = (node for node in statements(parsed(path).body) if isinstance(node, ast.FunctionDef))
    if any(node.name == "__getattr__" for node in functions):
        return False
    stars = _stars(module)
    if len(stars) <= _STARRED:
        return all(_says_all(star, seen | {module}) for star in stars)
    return all(module_file(part) is not None for part in _behind(module))


@cache
def _all_names(module: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of a module, those of its star imports among them."""
    path = module_file(module)
    if path is None or module in seen:
        return frozenset()
    own, stars = frozenset(own_names(parsed(path))), _stars(module)
    if len(stars) <= _STARRED:
        return own.union(*(_all_names(star, seen | {module}) for star in stars))
    files = filter(None, map(module_file, _behind(module)))
    return own.union(*(_NAME.findall(text_of(file)) for file in files))
