"""Two sweeps held against each other: real records on disk, the whole command."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from src.analysis import comparison
from src.analysis.comparison import BROKE, FASTER, MENDED, PAYS_LESS, SAME, SLOWER, UNDECIDED
from src.compare import compare
from src.config.errors import ConfigError
from src.config.schema.root import CompareConf
from src.records.record import Outcome
from src.records.store import SweepManifest
from tests.analysis.synthetic import Made, made

Put = Callable[..., Path]


def timed(key: str, quant: str, ms: float, baseline_ms: float = 84.2, **more: object) -> Made:
    """A run of a quantized arm's ms, spread by a percent."""
    found = made(key, baseline_ms / ms, spread=0.002, quant=quant, **more)  # type: ignore[arg-type]
    for arm, median in (("", ms), ("baseline_", baseline_ms)):
        found.record.metrics |= {
            f"latency/{arm}{name}_ms": median * factor
            for name, factor in {"median": 1.0, "p10": 0.99, "p90": 1.01}.items()
        }
    return found


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put("before", runs...): a folder of their records."""

    def write(name: str, *runs: Made) -> Path:
        outputs = tmp_path / name
        for run in runs:
            folder = outputs / "runs" / run.record.run_key / f"{run.record.attempt:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            run.record.write(folder)
        return outputs

    return write


def what(before: Path, after: Path, margin: float = 0.02, between: float = 0.0) -> dict[str, str]:
    """Scheme -> what became of it."""
    sides = [
        comparison.side(str(folder), Path("nowhere"), key)
        for key, folder in (("before", before), ("after", after))
    ]
    found = comparison.compare(sides[0], sides[1], margin, between)
    return {str(cell.after["quant"]): cell.what for cell in found.cells}


def test_each_cell_says_what_became_of_it(put: Put) -> None:
    no = {"outcome": Outcome.COMPILE_ERROR, "reason": "no kernel"}
    before = put(
        "before", timed("a", "int8wo", 100), timed("b", "int8dq", 100), timed("c", "float8wo", 100),
        made("d", quant="int4wo", **no), timed("e", "float8dq", 100), timed("f", "nf4", 100, 200),
    )  # fmt: skip
    after = put(
        "after", timed("a2", "int8wo", 90), timed("b2", "int8dq", 110), timed("c2", "float8wo", 100.5),
        timed("d2", "int4wo", 100), made("e2", quant="float8dq", **no), timed("f2", "nf4", 100, 150),
    )  # fmt: skip
    assert what(before, after) == {
        "int8wo": FASTER, "int8dq": SLOWER, "float8wo": SAME, "int4wo": MENDED, "float8dq": BROKE,
        "nf4": PAYS_LESS,  # as fast as before, but the unquantized model became faster
    }  # fmt: skip


def test_what_processes_differ_by_is_no_change(put: Put) -> None:
    before, after = put("before", timed("a", "int8wo", 100)), put("after", timed("a", "int8wo", 95))
    assert what(before, after) == {"int8wo": FASTER}
    assert what(before, after, between=0.03) == {"int8wo": UNDECIDED}


def test_two_machines_are_compared_and_a_variant_that_only_one_tells_is_let_go_of(put: Put) -> None:
    first = timed("a", "int8wo", 100, device="card A", params={"quant.layers.name": "all"})
    second = timed("b", "int8wo", 50, device="card B")
    assert what(put("before", first), put("after", second)) == {"int8wo": FASTER}


def test_attempts_of_one_key_are_two_sides_in_two_sweeps(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command on the same versions, with rerun=true."""
    outputs = put("o", timed("a", "int8wo", 100), timed("a", "int8wo", 130, attempt=2))
    for number, sweep in ((1, "old"), (2, "new")):
        manifest = SweepManifest.start(sweep, [])
        manifest.add("a", number, skipped=False)
        manifest.write(outputs)
    conf = CompareConf("old", "new", str(outputs), str(tmp_path / "page"))
    assert compare(conf, Console(width=120)) == 1
    told = capsys.readouterr().out
    assert "▼ slower" in told
    assert "1 slower" in told
    assert compare(CompareConf("new", "old", str(outputs), str(tmp_path / "page")), Console()) == 0
    page = (tmp_path / "page" / "comparison.html").read_text()
    assert "from new to old" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=\"http", page)
    (row,) = csv.DictReader((tmp_path / "page" / "comparison.csv").open())
    assert (row["what"], row["before/run_key"]) == ("faster", "a")
    low, high = (float(row[f"change/quantized/{end}"]) for end in ("low", "high"))
    assert low < 1.3 < high


def test_what_only_one_side_has_is_told_and_two_without_a_common_cell_are_refused(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = put("before", timed("a", "int8wo", 100)), put("after", timed("b", "int8dq", 100))
    conf = CompareConf(str(before), str(after), str(tmp_path), str(tmp_path / "page"))
    with pytest.raises(ConfigError, match="no workload and treatment is in both"):
        compare(conf, Console(width=200))
    told = capsys.readouterr().out
    assert "only before, 1 runs: flux-tiny b1 256px int8wo · default" in told
    assert (tmp_path / "page" / "comparison.html").exists()


def test_what_is_no_sweep_and_no_folder_of_runs_is_one_line(put: Put, tmp_path: Path) -> None:
    put("empty")
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    for given, problem in (
        ("20991231", "neither a sweep in"),
        (str(tmp_path / "empty"), "no readable records"),
    ):
        with pytest.raises(ConfigError, match=problem):
            comparison.side(given, tmp_path, "before")
