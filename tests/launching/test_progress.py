"""One line per run, whatever its task."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from src.launching.progress import SweepProgress, label, result
from src.records.record import Outcome, Record

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


def test_the_time_left_follows_what_each_run_was_guessed_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was guessed to take four times as long is foretold so, in the seconds of those that were seen."""
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
