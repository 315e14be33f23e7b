"""What an analysis told is told again where nothing changed, and only there."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console

from src.app.arguments import parse
from src.app.command_line import CommandLine
from src.config.schema.root import AnalyzeConf, TrackingConf
from src.report import unchanged
from src.report.unchanged import Told
from tests.analysis.synthetic import made, publish

RUNS, ANSWER = "these runs", "int8dq helps 1.21×\n"


@dataclass
class Place:
    """Outputs with a database, a run and a report; and the arguments of their analysis."""

    outputs: Path
    conf: AnalyzeConf

    @property
    def report(self) -> Path:
        return self.outputs / "report.html"

    @property
    def kept(self) -> Path:
        (found,) = (self.outputs / "cache" / "analysis").glob("told-*.json")
        return found

    def told(self, width: int = 100) -> tuple[Told, io.StringIO]:
        out = io.StringIO()
        return Told(self.conf, Console(file=out, width=width)), out


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """After an analysis, and another that found the same runs."""
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "sweeps" / "one").mkdir(parents=True)
    (tmp_path / "mlflow.db").write_text("runs")
    (tmp_path / "report.html").write_text("report")
    tracking = TrackingConf(name="sqlite", uri=f"sqlite:///{tmp_path}/mlflow.db")
    found = Place(tmp_path, AnalyzeConf(tracking, outputs=str(tmp_path), report=str(tmp_path)))
    told, _ = found.told()
    assert not told.untouched
    assert not told.same(RUNS)
    told._console.print(ANSWER, end="")
    told.wrote([found.report])
    told.keep()
    told, _ = found.told()
    assert not told.untouched  # the analysis wrote into the database since it had read it
    assert told.same(RUNS)
    return found


def test_the_same_file_is_not_read_and_the_answer_comes_again(place):
    told, out = place.told()
    assert told.untouched
    told.again()
    first, rest = out.getvalue().split("\n", 1)
    assert first.startswith("nothing new since 20")
    assert rest == ANSWER


def test_what_is_written_into_the_database_is_looked_at_once(place):
    (place.outputs / "mlflow.db").write_text("runs and an analysis")
    told, _ = place.told()
    assert not told.untouched
    assert told.same(RUNS)
    assert place.told()[0].untouched


def test_other_runs_are_analysed(place):
    (place.outputs / "mlflow.db").write_text("other runs")
    assert not place.told()[0].same("other runs")
    (place.outputs / "mlflow.db-wal").write_text("")
    assert not place.told()[0].untouched


CHANGES: dict[str, Callable[[Place], object]] = {
    "a report that was deleted": lambda place: place.report.unlink(),
    "a report of something else": lambda place: place.report.write_text("another one"),
    "records that came": lambda place: (place.outputs / "runs" / "b").mkdir(),
    "a sweep that left runs": lambda place: (place.outputs / "sweeps" / "one" / "left.csv").write_text("run"),
    "another margin": lambda place: setattr(place, "conf", replace(place.conf, margin=0.05)),
    "a sweep alone": lambda place: setattr(place, "conf", replace(place.conf, sweep="one")),
    "a damaged file": lambda place: place.kept.write_bytes(b'{"schema": 1'),
    "half a file": lambda place: place.kept.write_text('{"schema": 1, "reports": []}'),
    "a list": lambda place: place.kept.write_text("[]"),
    "no text": lambda place: place.kept.write_text('{"schema": 1, "reports": [[]]}'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_beside_the_runs_is_noticed(place, change):
    change(place)
    told, _ = place.told()
    assert not told.untouched
    assert not told.same(RUNS)


def test_a_report_that_changes_before_the_analysis_ends_is_made_again(place):
    told, _ = place.told()
    told.same("other runs")
    told.wrote([place.report])
    place.report.write_text("of another analysis")
    told.keep()
    assert not place.told()[0].same("other runs")


def test_another_terminal_or_program_is_told_anew(place, monkeypatch):
    assert not place.told(width=80)[0].untouched
    monkeypatch.setattr(unchanged, "program", lambda: "another")
    assert not place.told()[0].untouched


@pytest.mark.parametrize("change", ["another folder", "another card", "an edited card"])
def test_cards_of_ones_own_configs_are_part_of_what_it_tells(place, monkeypatch, change):
    """Commands name a card by its entry, and the folder that has it by --config-dir."""
    own = [place.outputs / name for name in ("own", "other")]
    for folder in own:
        (folder / "gpu").mkdir(parents=True)
    (own[0] / "gpu" / "dgx.yaml").write_text("match: GB10\n")

    def told_with(folder: Path) -> Told:
        monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
        CommandLine(parse(["--config-dir", str(folder)], "analyze"), "analyze", "analyze")
        return place.told()[0]

    first = told_with(own[0])
    first.same(RUNS)
    first.keep()
    assert told_with(own[0]).same(RUNS)
    if change == "another card":
        (own[0] / "gpu" / "more.yaml").write_text("match: GB11\n")
    elif change == "an edited card":
        (own[0] / "gpu" / "dgx.yaml").write_text("match: GB[0-9]+\n")
    assert not told_with(own[change == "another folder"]).same(RUNS)


def test_an_analysis_says_the_same_until_a_run_comes(store, analysing):
    name, experiment_id = store.experiment([made("a", 1.3), made("b", 0.8, batch=4)])
    conf = store.conf(name)
    status, first = analysing(conf)
    page = store.outputs / "reports" / name / "report.html"
    made_at = page.stat().st_mtime_ns
    for _ in range(2):
        assert analysing(conf) == (status, f"{_head(analysing(conf)[1])}\n{first}")
    assert page.stat().st_mtime_ns == made_at
    assert len(store.client.search_runs([experiment_id], "tags.kind = 'analysis'")) == 1
    publish(store.database, experiment_id, [made("c", 1.5, batch=8)])
    now = analysing(conf)[1]
    assert "nothing new" not in now
    assert "batch 8" in now
    assert len(store.client.search_runs([experiment_id], "tags.kind = 'analysis'")) == 2


def test_while_further_records_are_read_it_is_told_anew(store, analysing, monkeypatch):
    monkeypatch.setattr("src.analysis.runs.layer_tables._DOWNLOADS", 1)
    runs = [made("x", 1.3), made("y", 0.8, batch=4)]
    name, _ = store.experiment(runs)
    for run in runs:  # their records are in MLflow alone
        folder = store.outputs / "artifacts" / name / run.run_ids[0] / "artifacts"
        folder.mkdir(parents=True)
        run.record.write(folder)
    told = [analysing(store.conf(name))[1] for _ in range(3)]
    assert "from 1 of 2 records" in " ".join(told[0].split())
    assert ["nothing new" in each for each in told] == [False, False, True]


def _head(text: str) -> str:
    return text.partition("\n")[0]
