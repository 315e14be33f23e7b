"""What README and docs tell a user to type is taken, their links lead somewhere, their tables are the data's."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from docs.make_where_table import PAGES, page_with, table
from src.analyze import with_imports, with_workload
from src.app.arguments import parse
from src.app.command_line import CommandLine
from src.app.composing.sweep_axes import jobs
from src.checks.validation import check
from src.config.errors import ConfigError, explained

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLISHED = sorted((ROOT / "outputs" / "published").glob("**/README.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(python -m|python|make) ([\w./]+)(.*)")
_ELSEWHERE = re.compile(
    r"\.\.\.|NAME|KEY|FOLDER|FILE|~/|=/data/|ckpt/|my_|--"
)  # the reader's own files; flags
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def typed(page: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What a page tells to type, in blocks and in its text: `python -m`, `python` or `make`, what, its words."""
    text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
    blocks = [block for language, block in _BLOCK.findall(text) if language in ("", "bash")]
    spans = [span.replace("\n", " ") for span in _SPAN.findall(_BLOCK.sub("", text))]
    for line in filter(_COMMAND.match, [*"".join(blocks).splitlines(), *spans]):
        for part in re.split(r"&&|;|  +", line):
            if found := _COMMAND.fullmatch(part.strip()):
                yield found[1], found[2], tuple(shlex.split(found[3], comments=True))


def composed(program: str, words: Sequence[str]) -> Iterator[DictConfig]:
    """The configurations of a command: of a sweep as many as hold each value once, of a sweep's file the first."""
    argv = with_workload(with_imports(words)) if program == "analyze" else list(words)
    line = CommandLine(parse(argv, program), "config" if program == "run" else program, program)
    hydra = [word for word in line.overrides if word.startswith(("hydra", "sweeps="))]
    own = [word for word in line.overrides if not word.startswith("hydra")]
    mode = RunMode.MULTIRUN if program == "run" else RunMode.RUN
    params = line.compose(hydra, mode).hydra.sweeper.params if hydra and "sweeps" in hydra[0] else {}
    given = {word.partition("=")[0] for word in own}
    first = jobs([f"{key}={value}" for key, value in params.items() if key not in given], line.loader)[0]
    seen: set[str] = set()
    for job in jobs(own, line.loader):
        if not seen or not seen.issuperset(job):
            seen.update(job)
            yield line.compose([*first, *job, *(word for word in hydra if word not in own)], mode)


def refusal(program: str, words: Sequence[str]) -> str:
    """Why a command would be refused; empty: it is taken."""
    try:
        with explained():
            for config in composed(program, words):
                check(config)
    except ConfigError as error:
        return str(error)
    finally:
        GlobalHydra.instance().clear()
    return ""


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page may end with, as GitHub makes it."""
    plain = (
        re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading) for heading in _HEADING.findall(page.read_text("utf-8"))
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


def test_every_command_in_the_documents_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Composed and checked as before it starts, in this process; flags are tested elsewhere."""
    asked = dict.fromkeys(
        (what.removeprefix("src."), words)
        for page in DOCUMENTS
        for how, what, words in typed(page)
        if how == "python -m" and what.startswith("src.") and not _ELSEWHERE.search(" ".join(words))
    )
    assert {program for program, _ in asked} == {"run", "analyze", "compare", "collect", "calibrate"}
    assert len(asked) > 80
    parts = {each for each in asked for other in asked if each[0] == other[0] and {*each[1]} < {*other[1]}}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes.csv").write_text("M,K,N,quant\n", encoding="utf-8")
    refused = {
        shlex.join([program, *words]): why
        for program, words in asked.keys() - parts
        if (why := refusal(program, words))
    }
    assert not refused


def test_every_tool_in_the_documents_is_there() -> None:
    """Modules and files that `python` is given, and what `make` can make."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in DOCUMENTS:
        for how, what, words in typed(page):
            if how == "make":
                assert what in targets, (page.name, what)
            elif how == "python" and what.endswith(".py"):
                assert (ROOT / what).exists(), (page.name, what)
            elif what.startswith(("src.", "benchmarks.", "tests.", "tools.")):
                assert (ROOT / f"{what.replace('.', '/')}.py").exists(), (page.name, what)
            for group in words[1:] if words[:1] == ("--help",) else ():
                assert (ROOT / "conf" / group).is_dir(), (page.name, group)


def test_every_link_in_the_documents_leads_somewhere() -> None:
    dead = []
    for page in [*DOCUMENTS, *PUBLISHED]:
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            if link.startswith(("http://", "https://")):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                dead.append(f"{page.relative_to(ROOT)}: {link}")
    assert not dead


def test_the_table_of_where_it_pays_is_that_of_the_published_grids() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert page_with(text, table()) == text, "python docs/make_where_table.py makes it again"
