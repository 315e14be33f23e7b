"""Where a dotted name is defined, found in the source: no module is imported, nor are its parents."""

import ast
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

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
    for node in _statements(_parsed(path).body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return Definition(module, node)
        if isinstance(node, ast.ImportFrom):
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return find(_imported(node, module, path), imported.name, seen)
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
    if _is_module(f"{module}.{name}"):
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
    for node in _statements(_parsed(path).body) if path else ():
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.asname == head or (each.asname is None and each.name.split(".")[0] == head):
                    return ".".join(filter(None, [each.name if each.asname else head, rest]))
        elif isinstance(node, ast.ImportFrom) and path:
            for each in node.names:
                if (each.asname or each.name) == head:
                    return ".".join(filter(None, [_imported(node, module, path), each.name, rest]))
    return name


def _refuse_absent_module(module: str) -> None:
    """Raise LookupError if the nearest package that has source says plainly that it has no such part."""
    package, _, part = module.rpartition(".")
    path = module_file(package) if package else None
    if not package and not _is_installed(module):
        raise LookupError(f"no package {module} is installed")
    if package and path is None:
        _refuse_absent_module(package)
    elif (
        path is not None and not _is_module(module) and _says_all(package) and part not in _all_names(package)
    ):
        raise LookupError(f"{package} has no {part}; it is {path.parent}")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # __main__, and what was made at run time
        return package in sys.modules


def _is_module(module: str) -> bool:
    """Whether a module or a folder of that name is there, compiled ones among them."""
    package, _, part = module.rpartition(".")
    path = module_file(package) if package else None
    if path is None or path.name != "__init__.py":
        return False
    return (path.parent / part).is_dir() or any(path.parent.glob(f"{part}.*"))


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under `if` and `try` among them."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                yield from _statements(getattr(node, inner, []))


@cache
def _stars(module: str) -> tuple[str, ...]:
    """The modules that a module takes all names of."""
    path = module_file(module)
    if path is None:
        return ()
    nodes = (node for node in _statements(_parsed(path).body) if isinstance(node, ast.ImportFrom))
    return tuple(
        _imported(node, module, path) for node in nodes if any(each.name == "*" for each in node.names)
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
        if path is not None and defines.search(_text(path)):
            yield part


@cache
def _behind(module: str) -> tuple[str, ...]:
    """The modules behind very many star imports, and behind theirs, found by their text: parsing takes seconds."""
    found = []
    for star in _stars(module):
        path = module_file(star)
        found.append(star)
        for name in _STAR.findall(_text(path)) if path else ():
            level = len(name) - len(name.lstrip("."))
            found.append(
                _relative(level, name.lstrip("."), star, path is not None and path.name == "__init__.py")
            )
    return tuple(found)


@cache
def _says_all(module: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether every name of the module stands in source."""
    path = module_file(module)
    if path is None or module in seen:
        return module in seen
    functions = (node for node in _statements(_parsed(path).body) if isinstance(node, ast.FunctionDef))
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
    own, stars = frozenset(_names(_parsed(path))), _stars(module)
    if len(stars) <= _STARRED:
        return own.union(*(_all_names(star, seen | {module}) for star in stars))
    files = filter(None, map(module_file, _behind(module)))
    return own.union(*(_NAME.findall(_text(file)) for file in files))


def _names(tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (each.asname or each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.Assign):
            targets = (ast.walk(target) for target in node.targets)  # of a, b = ... both
            yield from (each.id for found in targets for each in found if isinstance(each, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _imported(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The module that an import names, relative ones resolved."""
    return _relative(node.level, node.module or "", module, path.name == "__init__.py")


def _relative(level: int, name: str, module: str, is_package: bool) -> str:
    if not level:
        return name
    package = module.split(".") if is_package else module.split(".")[:-1]
    return ".".join(filter(None, [*package[: len(package) - level + 1], name]))


@cache
def module_file(module: str) -> Path | None:
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
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


@cache
def _parsed(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():  # of a library's docstrings, which are not the user's
            warnings.simplefilter("ignore")
            return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise LookupError(f"{path}{place}: not Python: {getattr(error, 'msg', error)}") from error
