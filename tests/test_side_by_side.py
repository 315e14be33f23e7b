"""What `make test` says and returns where tests on clusters fail: beside the others, or also alone."""

from pathlib import Path

import pytest

from tests import side_by_side

LARGER = "def test_well(): pass\n"
FLAKY = """
from pathlib import Path
def test_flaky():
    seen = Path(__file__).with_name("seen")
    first = not seen.exists()
    seen.touch()
    assert not first, "once"
"""
BROKEN = "def test_broken(): assert 1 + 1 == 3\n"


@pytest.mark.parametrize(
    ("beside", "status", "told"),
    [(LARGER, 0, ""), (FLAKY, 0, "AssertionError: once"), (BROKEN, 1, "assert (1 + 1) == 3")],
    ids=["well", "flaky", "broken"],
)
def test_what_failed_on_clusters_is_run_alone_and_told_last(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    beside: str,
    status: int,
    told: str,
) -> None:
    (tmp_path / "test_larger.py").write_text(LARGER)
    (tmp_path / "test_beside.py").write_text(beside)
    monkeypatch.setattr(side_by_side, "ROOT", tmp_path)
    monkeypatch.setattr(side_by_side, "APART", ("test_beside.py",))
    monkeypatch.setattr(side_by_side, "SPREAD", ["-p", "no:xdist"])
    monkeypatch.setattr(side_by_side, "WAITING", ["-p", "no:xdist"])
    monkeypatch.setattr(
        side_by_side, "ALONE", [each for each in side_by_side.ALONE if each not in ("-n", "0")]
    )
    assert side_by_side.main([]) == status
    said = capfd.readouterr().out.rstrip().splitlines()
    assert "1 passed in" in said[-1]
    last = "\n".join(said[said.index("Of the tests on a cluster:") :]) if told else ""
    assert told in last
    assert ("Of the tests on a cluster:" in said) == bool(told)
    if status:
        assert "1 failed in" in said[-2]
