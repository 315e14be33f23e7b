"""What docs/architecture.md says of the folders of `src`: all are there, imports go down, tests mirror them."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src"
COMMANDS = {"run", "analyze", "compare", "calibrate", "collect", "bookkeeping"}  # on top of the list
ROOMS = re.findall(
    r"^src/([\w/]+)(?:\.py)? ", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE
)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCES.rglob("*.py")
}


def room_of(module: str) -> str:
    """src.tasks.latency: tasks; src.tasks.arms.timing: tasks/arms; src.context: context."""
    parts = module.split(".")[1:]
    return "/".join(parts if MODULES[module].stem == "__init__" else parts[:-1] or parts)


@cache
def imports() -> list[tuple[str, str]]:
    """Module and what it imports of `src`, also what only some function of it does."""
    found = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "src":
                names = (f"{node.module}.{name.name}" for name in node.names)
                found += [(module, name if name in MODULES else str(node.module)) for name in names]
            elif isinstance(node, ast.Import):
                found += [(module, name.name) for name in node.names if name.name.startswith("src.")]
    return found


def test_every_folder_is_listed_once() -> None:
    folders = {room_of(module) for module in MODULES if module != "src"}
    assert sorted(ROOMS) == sorted(folders - COMMANDS)


def test_the_tests_of_a_folder_lie_in_one_of_its_name() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    assert folders - {".", "gpu"} <= {*ROOMS}


def test_a_folder_imports_only_what_stands_below_it() -> None:
    below = {room: {*ROOMS[index:]} for index, room in enumerate(ROOMS)}
    up = [
        f"{module} imports {name}"
        for module, name in imports()
        if room_of(module) in below and room_of(name) not in below[room_of(module)]
    ]
    assert not up


def test_no_two_files_import_each_other() -> None:
    """Nor in a wider circle, be it for types only."""
    graph = TopologicalSorter[str]()
    for module, name in imports():
        graph.add(module, name)
    graph.prepare()  # raises CycleError, which names the circle
