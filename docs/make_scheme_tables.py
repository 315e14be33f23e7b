"""Redo the tables of schemes in README.md and docs/schemes.md from the records of a sweep of schemes.

``python docs/make_scheme_tables.py``: from those kept in outputs/published.
``python docs/make_scheme_tables.py OUTPUTS``: keep the records of this folder instead, and make the tables of them.
"""

import gzip
import re
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src.analysis.runs.recorded import recorded  # noqa: E402
from src.analysis.schemes import scheme_tables, with_layers  # noqa: E402
from src.app.listing import scheme_names  # noqa: E402
from src.config.schema.root import AnalyzeConf  # noqa: E402

ARCHIVE = ROOT / "outputs" / "published" / "amd-epyc-zen-4-avx-512-bf16-2-threads" / "schemes_records.tar.gz"
PAGES = {ROOT / "README.md": True, ROOT / "docs" / "schemes.md": False}  # page -> the short table
_APART = {"regime"}  # of no sweep over all schemes: it chooses among others, by what single layers have shown
_KEPT = ("record.json", "layers.json")
_BETWEEN = re.compile(r"(<!-- schemes:begin -->\n).*?(<!-- schemes:end -->)", re.DOTALL)


def keep(outputs: Path) -> None:
    """Put what the tables need of a folder of runs into the archive; the same content gives the same bytes."""
    files = sorted(path for path in (outputs / "runs").glob("*/*/*") if path.name in _KEPT)
    with gzip.GzipFile(ARCHIVE, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for path in files:
            member = tarfile.TarInfo(path.relative_to(outputs).as_posix())
            member.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(member, file)


def tables(*, short: bool) -> str:
    """The markdown of the tables, of the records in the archive."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(outputs, filter="data")
        runs, versions = recorded(outputs, AnalyzeConf.margin)
        names = [name for name in scheme_names() if name not in _APART]
        return scheme_tables(with_layers(runs, outputs), names, versions, short=short)


def page_with(page: str, table: str) -> str:
    """The page with the table between its markers."""
    return _BETWEEN.sub(lambda found: f"{found[1]}{table}{found[2]}", page)


def main(outputs: str = "") -> None:
    """Keep the records, if asked, and rewrite both pages."""
    if outputs:
        keep(Path(outputs))
    for path, short in PAGES.items():
        path.write_text(page_with(path.read_text(encoding="utf-8"), tables(short=short)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
