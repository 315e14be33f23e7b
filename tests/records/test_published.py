"""What lies in outputs/published for others to read."""

from pathlib import Path

import pytest

PUBLISHED = Path(__file__).resolve().parents[2] / "outputs" / "published"


@pytest.mark.parametrize("path", sorted(PUBLISHED.rglob("*.html")), ids=lambda path: str(path.parent.name))
def test_no_command_of_a_published_report_names_a_folder_of_the_machine_that_made_it(path: Path) -> None:
    assert "outputs=/" not in path.read_text(encoding="utf-8")
