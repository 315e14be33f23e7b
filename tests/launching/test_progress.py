"""One line per run, whatever its task."""

import io
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from src.config.console import Terminal
from src.launching.progress import SweepProgress, endings, label, result
from src.records.record import EMULATED, Outcome, Record
from tests.conftest import SMALL_LINEAR

SPEEDUP = {"speedup/ratio": 1.234, "speedup/ci_low": 1.2, "speedup/ci_high": 1.25}


@pytest.mark.parametrize(
    ("outcome", "verdict", "reason", "metrics", "line"),
    [
        (Outcome.OK, "helps", "", SPEEDUP, "[green]helps[/] 1.234x (1.200-1.250)"),
        (Outcome.OK, "", "safetensors: 1 of 2 GiB", {}, "[green]ok[/]; safetensors: 1 of 2 GiB"),
        (Outcome.UNSUPPORTED, "", "no [gpu]", {}, "[dim]unsupported[/]: no \\[gpu]"),
        (Outcome.TIMEOUT, "", "", {}, "[bold red]timeout[/]: "),
    ],
)
def test_what_came_out_in_one_line(outcome, verdict, reason, metrics, line):
    record = Record("k", 1, "s", {}, outcome=outcome, verdict=verdict, reason=reason, metrics=metrics)
    assert result(record) == line


def test_what_did_not_run_says_what_to_do() -> None:
    record = Record(
        "k", 1, "s", {}, outcome=Outcome.UNSUPPORTED, reason="fits none", remedy="quant.group_size=64"
    )
    assert result(record) == "[dim]unsupported[/]: fits none → quant.group_size=64"
    record.remedy = ""
    assert result(record) == "[dim]unsupported[/]: fits none"


@pytest.mark.parametrize("option", ["quant.where=cpu", "quant.where=streamed", "quant.via=diffusers"])
def test_a_run_is_told_from_one_that_is_quantized_elsewhere(compose, option) -> None:
    usual = label(compose("model=flux-tiny"))
    assert label(compose("model=flux-tiny", option)) == f"{usual} {option.removeprefix('quant.')}"


def test_a_runs_line_has_what_differs_in_its_sweep_and_what_is_not_as_usual(compose) -> None:
    flux = compose("model=flux-tiny", "gpu=cpu")
    assert label(flux) == "flux-tiny int8wo none batch=1"
    assert label(compose("model=flux-tiny", "resolution=64", "target=block", "seed=3")) == (
        "flux-tiny int8wo none batch=1 resolution=64 target=block seed=3"
    )
    varied = {"resolution": "256", "dtype": "bfloat16", "gpu": "cpu", "seed": "0", "task": "latency"}
    varied |= {"layers": "all", "quant.where": "device", "model.dims.text_tokens": "64", "quant": "int8wo"}
    line = label(replace(flux, varied=varied))
    for word in (
        "resolution=256",
        "dtype=bfloat16",
        "gpu=cpu",
        "seed=0",
        "task=latency",
        "layers=all",
        "where=device",
    ):
        assert line.split().count(word) == 1
    assert line.split().count("text_tokens=64") == 1
    probe = replace(compose(*SMALL_LINEAR), varied={"model.dims.M": "16", "gpu.threads": "1"})
    assert label(probe) == "linear int8wo none batch=1 M=16 gpu.threads=1 K=256 N=128"
    rows = label(compose(*SMALL_LINEAR, "batch=4"))
    assert rows == "linear int8wo none batch=4 M=64 K=256 N=128", "of all samples"


def test_a_sweep_goes_on_where_nobody_reads_what_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr(sys, "stderr", unread)
        with SweepProgress([1.0]) as progress:
            progress.start_run("linear")
            progress.end_run("helps", measured=True)
        assert progress.done == 1


def test_a_terminal_outlives_its_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        terminal = Terminal(file=unread)
        terminal.print("a plan")
        terminal.print("and its end")


@pytest.mark.parametrize(
    ("metrics", "told"),
    [({"quality/max_abs_error": 0.0, "quality/cosine": 1.0}, "emulated, inf dB SQNR"),
     ({"quality/max_abs_error": 1.0}, "emulated"),  # of an unquantized output of zeros
     ({"quality/max_abs_error": 1.0, "quality/sqnr_db": 20.0}, "emulated, 20.0 dB SQNR")],
)  # fmt: skip
def test_only_an_equal_output_is_told_without_an_error(metrics: dict[str, float], told: str) -> None:
    assert result(Record("k", 1, "s", {}, outcome=Outcome.OK, verdict=EMULATED, metrics=metrics)) == told


def ended(outcome: Outcome, reason: str, quant: str = "int8wo", remedy: str = "") -> Record:
    return Record("k", 1, "s", {"quant": quant}, outcome=outcome, reason=reason, remedy=remedy)


def test_runs_that_ended_alike_are_told_in_one_line_failures_first() -> None:
    failed = [ended(Outcome.FAILED, "a bug", quant) for quant in ("int8wo", "int8dq", "int8wo")]
    other = [ended(Outcome.FAILED, "another bug")]
    unsupported = [ended(Outcome.UNSUPPORTED, "no kernel", f"q{i}", "a GPU") for i in range(6)]
    assert endings([*unsupported, *other, *failed, ended(Outcome.OK, "")]) == [
        "  3 failed (int8wo, int8dq): a bug",
        "  1 failed (int8wo): another bug",
        "  6 unsupported (q0, q1, q2, q3, ...): no kernel → a GPU",
    ]
    assert endings(other) == []
    many = endings([ended(Outcome.FAILED, f"bug {i}") for i in range(10)])
    assert (len(many), many[-1].split(":")[0]) == (9, "  2 more, for other reasons")


def test_the_time_left_follows_what_each_run_was_guessed_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was guessed to take four times as long is predicted so, in the seconds of those that were seen."""
    now = 0.0
    monkeypatch.setattr("src.launching.progress.time", SimpleNamespace(monotonic=lambda: now))
    progress = SweepProgress([60, 60, 60, 240], Console(file=io.StringIO()))
    progress.start_run("first")
    assert progress.left_s() == 420
    now += 30
    progress.end_run("done", measured=True)
    progress.start_run("does not run here")
    progress.end_run("unsupported", measured=False)
    progress.start_run("third")
    assert progress.left_s() == 30 + 120
    now += 10
    assert progress.left_s() == 140
    now += 90
    assert progress.left_s() == 120


def test_a_dumb_terminal_gets_a_line_per_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's shell cannot redraw a bar."""
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: True))
    for name, lines in (("dumb", 2), ("xterm", 0)):
        file = io.StringIO()
        console = Console(file=file, force_terminal=True, _environ={"TERM": name})
        progress = SweepProgress([60], console)
        progress.start_run("the run")
        progress.phase("compile")
        assert len(file.getvalue().splitlines()) == lines


def test_the_command_that_lists_the_rest_is_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/nowhere/quantpay-collect"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert (
        "/nowhere/quantpay-analyze lists them all"
        in endings([ended(Outcome.FAILED, f"bug {i}") for i in range(10)])[-1]
    )
