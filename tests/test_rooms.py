"""What docs/architecture.md says of the folders of `src`: all are there, and imports go down its list."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src"
COMMANDS = {"run", "analyze", "compare", "calibrate", "collect", "bookkeeping"}  # on top of the list
ROOMS = re.findall(
    r"^src/(\w+)(?:\.py)? ", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE
)


def room_of(module: str) -> str:
    """src.tasks.latency: tasks."""
    return module.split(".")[1]


def imports() -> Iterator[tuple[str, str]]:
    """Module and what it imports of `src`, also what only some function of it does."""
    for path in sorted(SOURCES.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("src."):
                yield module, node.module
            elif isinstance(node, ast.ImportFrom) and node.module == "src":
                yield from ((module, f"src.{name.name}") for name in node.names)
            elif isinstance(node, ast.Import):
                yield from ((module, name.name) for name in node.names if name.name.startswith("src."))


def test_every_folder_is_listed_once() -> None:
    there = {path.stem for path in SOURCES.iterdir() if path.stem not in ("__init__", "__pycache__")}
    assert sorted(ROOMS) == sorted(there - COMMANDS)


def test_a_folder_imports_only_what_stands_below_it() -> None:
    below = {room: {*ROOMS[index:]} for index, room in enumerate(ROOMS)}
    up = [
        f"{module} imports {name}"
        for module, name in imports()
        if room_of(module) in below and room_of(name) not in below[room_of(module)]
    ]
    assert not up
