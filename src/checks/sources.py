"""The source of a module: its file, statements and names, found without importing it or its parents."""

import ast
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path


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


def is_installed(package: str) -> bool:
    """Whether a package can be found, or is there already."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # __main__, and what was made at run time
        return package in sys.modules


def is_module(module: str) -> bool:
    """Whether a module or a folder of that name is there, compiled ones among them."""
    package, _, part = module.rpartition(".")
    path = module_file(package) if package else None
    if path is None or path.name != "__init__.py":
        return False
    return (path.parent / part).is_dir() or any(path.parent.glob(f"{part}.*"))


@cache
def text_of(path: Path) -> str:
    """A source's text, whatever its encoding."""
    return path.read_text(encoding="utf-8", errors="replace")


@cache
def parsed(path: Path) -> ast.Module:
    """A source as statements.

    Raises:
        LookupError: it is not Python.
    """
    try:
        with warnings.catch_warnings():  # of a library's docstrings, which are not the user's
            warnings.simplefilter("ignore")
            return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise LookupError(f"{path}{place}: not Python: {getattr(error, 'msg', error)}") from error


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under `if` and `try` among them."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                yield from statements(getattr(node, inner, []))


def own_names(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines or imports by itself."""
    for node in statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (each.asname or each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.Assign):
            targets = (ast.walk(target) for target in node.targets)  # of a, b = ... both
            yield from (each.id for found in targets for each in found if isinstance(each, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def imported_module(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The module that an import names, relative ones resolved."""
    return relative(node.level, node.module or "", module, path.name == "__init__.py")


def relative(level: int, name: str, module: str, is_package: bool) -> str:
    """The module that a name with so many dots before it stands for inside a module."""
    if not level:
        return name
    package = module.split(".") if is_package else module.split(".")[:-1]
    return ".".join(filter(None, [*package[: len(package) - level + 1], name]))
