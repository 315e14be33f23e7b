"""From a filled database to what is printed, written and logged."""

import io
import re
import shutil
import sqlite3
import sys
from itertools import pairwise

import pandas as pd
import pytest

from src.analysis.runs.tracked.logbook import Entry, Logbook
from src.analysis.runs.tracked.tracker import Tracker
from src.analyze import main
from src.config.errors import ConfigError
from src.records.mlflow.connection import explained
from src.records.record import Outcome
from src.report.analysis import analyze
from tests.analysis.synthetic import CPU, NO_FLOAT8, linear_runs, made, write_records


def test_the_terminal_fits_100_columns_and_says_what_to_do_next(analysed, store):
    lines = analysed.printed.splitlines()
    assert analysed.status == 0
    opened = lines.index(f"report:      {(analysed.report / 'report.html').as_uri()}")
    assert lines[opened - 1].startswith("next, surer: python -m src.run model=flux-tiny quant=")
    assert max(map(len, lines[: opened - 1])) <= 100
    assert lines[0].startswith("flux-tiny, 256 px, batch 1, one call of the denoiser, on AMD")
    assert lines[-1].endswith(f"mlflow ui --workers 1 --backend-store-uri {store.uri}")
    row = next(line for line in lines if line.startswith("flux-tiny b4 256px int8dq · default"))
    assert re.search(r"1\.21× 1\.19–1\.23 +40 +84\.2 69\.6 +48% +33\.8 helps", row)


def test_what_did_not_run_is_shown_with_reason_and_remedy(analysed):
    told = " ".join(analysed.printed.split())
    assert "unsupported" in told
    assert "gpu=rtx4090" in told
    assert "compile_error" in told


def test_the_words_say_what_was_measured(analysed):
    told = " ".join(analysed.printed.split())
    assert "int8dq helps at batch 4, compile=default (1.21×, 1.19–1.23)" in told
    assert "int8wo hurts everywhere it was measured (0.57–0.59× in 4 runs)" in told
    assert "of the controls (quant=none) 4 of 4 came out neutral" in told
    assert "float8dq did not run (20 runs): needs compute capability >= 8.9" in told
    assert re.search(r"int8dq starts to pay between M = \d+ and \d+, depending on K×N", told)


def test_the_tables_hold_every_run(analysed):
    table = pd.read_parquet(analysed.report / "verdicts.parquet")
    again = pd.read_csv(analysed.report / "verdicts.csv", keep_default_na=False, na_values=[""])
    assert len(table) == len(again) == 22 + 2 * 2 * 4 * 4
    assert {"speedup/ratio", "reason", "remedy", "variant", "stands", "device"} <= set(table.columns)
    assert table["speedup/ratio"].sum() == pytest.approx(again["speedup/ratio"].sum())
    assert (table.loc[table["outcome"] == "unsupported", "reason"] == NO_FLOAT8).all()


def test_the_break_even_table_has_each_case(analysed):
    table = pd.read_csv(analysed.report / "breakeven.csv", keep_default_na=False, na_values=[""])
    assert set(table["quant"]) == {"int8dq", "int8wo", "int4wo"}
    assert table.loc[table["quant"] == "int8wo", "case"].eq("hurts").all()
    crossing = table[table["m"].notna()]
    rising = ["m_low", "m_below", "m", "m_above", "m_high"]
    assert all((crossing[a] <= crossing[b]).all() for a, b in pairwise(rising))
    assert {*crossing["m_low"], *crossing["m_high"]} <= {1, 16, 256, 4096}
    straight = r"turns faster between M = \d+ and \d+: [\d.]+ \([\d.]+–[\d.]+\) if straight in between"
    assert table["says"].str.match(straight).any()
    assert table["says"].str.contains("at every measured M \\(M = 1–4096\\)").any()


def test_the_analysis_is_logged_in_the_same_experiment(analysed, store):
    (run,) = store.client.search_runs([analysed.experiment_id], "tags.kind = 'analysis'")
    names = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    assert names == {"report.html", "verdicts.csv", "verdicts.parquet", "breakeven.csv", "schemes.md"}
    assert run.data.metrics["runs/total"] == 86
    assert run.data.metrics["runs/timeout"] == 1
    assert run.data.metrics["verdict/helps"] > 0
    assert run.data.metrics["speedup/best"] > 1
    assert run.info.status == "FINISHED"


def test_the_sweeps_own_run_begins_with_the_answer_and_carries_the_report(store, analysing):
    name, experiment_id = store.experiment([made("a", 1.3, sweep="known")])
    tags = {
        "kind": "sweep",
        "sweep": "known",
        "mlflow.note.content": "an earlier answer\n\n`command`\n\n| run |",
    }
    run_id = store.client.create_run(experiment_id, tags=tags).info.run_id
    for _ in range(2):
        assert analysing(store.conf(name, sweep="known"))[0] == 0
    note = store.client.get_run(run_id).data.tags["mlflow.note.content"]
    first, _, rest = note.partition("\n\n")
    assert re.search(
        r"fastest.*: \*\*int8.*\*\*, 1\.3\d?× \(.*\) helps, \d+ pairs? of rounds in 1 process", first
    )
    assert first.endswith(f"[The report](#/experiments/{experiment_id}/runs/{run_id}/artifacts/report.html)")
    assert rest == "`command`\n\n| run |"
    assert [file.path for file in store.client.list_artifacts(run_id)] == ["report.html"]


def test_an_experiment_without_runs_says_so_in_one_line(store, analysing):
    name, _ = store.experiment()
    status, printed = analysing(store.conf(name))
    assert status == 1
    assert printed == (
        f"experiment={name}: no finished runs yet in {store.uri}; python -m src.run makes one\n"
    )


def test_a_sweep_without_runs_is_a_config_error(store, analysing):
    name, _ = store.experiment([made("a", 1.1, sweep="known")])
    with pytest.raises(
        ConfigError,
        match=r"sweep=typo: no finished runs that compare speeds; the newest sweeps that have are known",
    ):
        analysing(store.conf(name, sweep="typo"))


def test_a_report_folder_that_is_a_file_is_a_config_error(store, analysing, tmp_path):
    (tmp_path / "report").write_text("")
    name, _ = store.experiment([made("a", 1.1)])
    with pytest.raises(ConfigError, match="report="):
        analysing(store.conf(name, report=str(tmp_path / "report")))


def test_an_import_that_cannot_be_read_leaves_the_report_before_as_it_was(store, analysing, tmp_path):
    name, _ = store.experiment([made("a", 1.3)])
    with pytest.raises(ConfigError, match=r"none\.csv"):
        analysing(store.conf(name, imports=[str(tmp_path / "none.csv")]))
    assert not [*(store.outputs / "reports" / name).iterdir()]


def test_only_unsupported_runs_still_make_a_report(store, analysing):
    name, _ = store.experiment([made("a", outcome=Outcome.UNSUPPORTED, reason="no", device="")])
    status, printed = analysing(store.conf(name))
    page = (store.outputs / "reports" / name / "report.html").read_text()
    assert status == 0
    assert "1 run; 0 compared a treatment with its baseline." in " ".join(printed.split())
    assert "python -m src.run -m sweeps=linear_shapes" in page
    assert "gpu=cpu" in page


def test_only_linear_runs_say_how_to_get_the_others(store, analysing):
    name, _ = store.experiment(list(linear_runs(((512, 512),), (1, 64))))
    assert analysing(store.conf(name))[0] == 0
    page = (store.outputs / "reports" / name / "report.html").read_text()
    assert "No runs of whole models or blocks yet" in page


def test_a_tracker_lost_after_reading_costs_only_the_logging(store, analysing, monkeypatch):
    from src.analysis.runs.tracked.tracker import Tracker

    def lost(*_: object) -> str:
        raise ConnectionError("gone")

    monkeypatch.setattr(Tracker, "publish", lost)
    name, _ = store.experiment([made("a", 1.1)])
    status, printed = analysing(store.conf(name))
    assert status == 0
    assert "could not be logged" in printed
    assert (store.outputs / "reports" / name / "report.html").is_file()


def test_a_database_that_may_only_be_read_costs_one_line(store, analysing, monkeypatch):
    def probe(_: str, **__: object) -> None:
        with explained(store.uri, "cannot be used"):
            raise sqlite3.OperationalError("attempt to write a readonly database\n[SQL: INSERT INTO ...]")

    monkeypatch.setattr("src.analysis.runs.tracked.tracker.probe", probe)
    name, _ = store.experiment([made("a", 1.1)])
    status, printed = analysing(store.conf(name))
    assert status == 0
    told = " ".join(printed.split())
    assert f"could not be logged to {store.uri}: attempt to write a readonly database" in told
    assert "INSERT" not in printed


def test_warnings_name_what_to_mind(store, analysing):
    from tests.analysis.synthetic import write_records

    turn = made("turn", 1.3, quant="int4wo")
    turn.record.details["pairing"] = "in_turn"
    busy = made("busy", 1.5, batch=2, params={"measure.margin": "0.02"})
    busy.record.verdict = "inconclusive"
    runs = [
        turn,
        busy,
        made("old", 1.0, batch=4),
        made("new", 1.0, batch=4),
        made("lost", outcome=Outcome.LOST, batch=8),
    ]
    name, _ = store.experiment(runs)
    write_records(store.outputs, runs[:1])
    analysing(store.conf(name))
    page = (store.outputs / "reports" / name / "report.html").read_text()
    for text in ("measured with their arms in turn", "withholds its verdict", "SQNR below 20 dB", "1 lost",
                 "left out; verdicts.parquet", "read from 1 of 4 records"):  # fmt: skip
        assert text in page, text


def test_the_command_line(store, capfd):
    from src.analyze import main

    name, _ = store.experiment([made("a", 1.25)])
    arguments = [f"outputs={store.outputs}", f"experiment={name}", f"report={store.outputs}/reports/cli"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["analyze", *arguments])
        assert main() == 0
        patch.setattr("sys.argv", ["analyze", *arguments, "sweep=typo"])
        assert main() == 2
    out, err = capfd.readouterr()
    assert CPU in out
    assert err.strip().splitlines()[-1].startswith("error: sweep=typo: no finished runs")


def test_analyze_is_what_the_command_calls(store):
    name, _ = store.experiment([made("a", 1.25)])
    assert analyze(store.conf(name)) == 0


def test_break_evens_of_two_dtypes_are_told_apart(store, analysing):
    runs = [run for dtype in ("bfloat16", "float32") for run in [
        made(f"{dtype}{m}", 1.0 + m / 100, shape=(m, 512, 512), dtype=dtype) for m in (1, 16, 64)]]  # fmt: skip
    name, _ = store.experiment(runs)
    printed = analysing(store.conf(name))[1]
    assert "int8dq · default bfloat16" in printed
    assert "int8dq · default float32" in printed


def test_the_command_prints_on_an_ascii_terminal(store, monkeypatch):
    name, _ = store.experiment([made("a", 1.3), made("b", outcome=Outcome.UNSUPPORTED, reason="no", batch=4)])
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    argv = [f"tracking.uri={store.uri}", f"experiment={name}", f"report={store.outputs}/ascii"]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["analyze.py", *argv])
        patched.setattr(sys, "stdout", terminal)
        assert main() == 0
        terminal.flush()
    assert b"1.30x 1.29-1.31" in terminal.buffer.getvalue()


def test_an_analysis_is_logged_by_a_process_beside_where_mlflow_is_not_imported(store, tmp_path):
    name, experiment_id = store.experiment([made("a", 1.1)])
    (tmp_path / "report.html").write_text("told")
    entry = Entry("by itself", {"told": "yes"}, {"runs/total": 3.0}, [tmp_path / "report.html"])
    with Logbook(Tracker(store.conf(name).tracking), beside=True) as logbook:
        for why in ("", "the process that logs it ended"):
            logbook.start(entry)
            assert logbook.finish() == why
    (run,) = store.client.search_runs([experiment_id], "tags.kind = 'analysis'")
    assert (run.data.tags["told"], run.data.metrics["runs/total"]) == ("yes", 3.0)
    assert [file.path for file in store.client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_a_sweep_that_was_measured_again_since_is_shown_as_it_was(store, analysing):
    def step(key, speedup, sweep, **axes):
        return made(key, speedup, sweep=sweep, quant="none", params={"treatment": '["compile"]'}, **axes)

    name, _ = store.experiment(
        [
            made("old", 1.4, sweep="S1", quant="int8wo"),
            step("old_step", 1.7, "S1"),
            made("new", 1.1, sweep="S2", quant="int8wo"),
            step("new_step", 1.2, "S2"),
        ]
    )
    status, _ = analysing(store.conf(name, sweep="S1"))
    page = (store.outputs / "reports" / name / "report.html").read_text()
    assert status == 0
    assert "1.40×" in page
    assert "1.70" in page
    analysing(store.conf(name))
    page = (store.outputs / "reports" / name / "report.html").read_text()
    assert "1.40×" not in page
    assert "1.10×" in page


@pytest.mark.parametrize("since", ["sweep", "treatment", "experiment"])
def test_what_was_measured_since_is_not_left_to_the_forecast(store, analysing, request, since):
    folder = store.outputs / "sweeps" / f"L-{since}"
    folder.mkdir(parents=True)
    request.addfinalizer(lambda: shutil.rmtree(folder))  # other analyses of this store would tell of it
    table = ["run_key,run,verdict,speedup,low,high,sure,reason"]
    table += [f"{key}-{since},int8dq b4,helps,1.2,1.1,1.3,0.9," for key in ("since", "never")]
    (folder / "left.csv").write_text("\n".join(table) + "\n")
    params = {"treatment": '["compile"]'} if since == "treatment" else {}
    later = made(f"since-{since}", 0.8, sweep="later", batch=4, params=params)
    first = made(f"first-{since}", 1.2, sweep=folder.name, quant="int8wo")
    name, _ = store.experiment([first] if since == "experiment" else [first, later])
    if since == "experiment":
        write_records(store.outputs, [later])
    analysing(store.conf(name, sweep=folder.name))
    left = pd.read_csv(store.outputs / "reports" / name / "left.csv")
    assert left["run_key"].tolist() == [f"never-{since}"]


def test_only_tables_of_this_analysis_are_linked(store, analysing, tmp_path):
    (tmp_path / "shapes.csv").write_text("M,K,N,quant\n16,512,512,int8dq\n")
    name, _ = store.experiment([made("l1", 1.2, shape=(4, 512, 512)), made("l2", 1.2, shape=(64, 512, 512))])
    page = store.outputs / "reports" / name / "report.html"
    analysing(store.conf(name, predict=str(tmp_path / "shapes.csv")))
    assert 'href="predictions.csv"' in page.read_text()
    analysing(store.conf(name))
    assert 'href="predictions.csv"' not in page.read_text()
    assert 'href="verdicts.csv"' in page.read_text()


def test_a_report_that_cannot_be_written_is_a_config_error(store, analysing, tmp_path):
    (tmp_path / "report.html").mkdir()
    name, _ = store.experiment([made("one", 1.2)])
    with pytest.raises(ConfigError, match=r"report=.*report\.html cannot be written"):
        analysing(store.conf(name, report=str(tmp_path)))
