"""What README and docs tell a user to type is taken, their links lead somewhere, their tables are the data's."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from docs.make_where_table import PAGES, page_with, table
from tests.app.conftest import Call
from tests.app.conftest import call as call

ROOT = Path(__file__).resolve().parents[1]
ENTRANCES = [ROOT / "README.md", ROOT / "docs" / "usage.md"]  # each command costs a third of a second
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLISHED = sorted((ROOT / "outputs" / "published").glob("**/README.md"))
_BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `python -m src.run` in a page's examples: sweeps, searches and flags are tested elsewhere."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;", line):
                words = shlex.split(part, comments=True)
                elsewhere = ("sweeps=", "hydra/sweeper=", "--")
                if words[:3] == ["python", "-m", "src.run"] and not any(
                    w.startswith(elsewhere) for w in words
                ):
                    yield [word for word in words[3:] if not word.startswith("hydra/launcher=")]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page may end with, as GitHub makes it."""
    plain = (
        re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading) for heading in _HEADING.findall(page.read_text("utf-8"))
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


def test_every_run_in_the_documents_is_taken(call: Call, tmp_path: Path) -> None:
    asked = {shlex.join(words): words for page in ENTRANCES for words in commands(page)}
    assert len(asked) > 15
    refused = {
        line: done.err
        for line, words in asked.items()
        if (done := call(*words, f"outputs={tmp_path}")).status
    }
    assert not refused


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
