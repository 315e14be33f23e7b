"""The report: of a whole calibration in a real browser, and of one in which nothing could be measured."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from src.calibration.record import Calibration
from src.calibration.report import write_files
from src.calibration.summary import summarize
from src.calibration.terminal import show
from tests.calibration.synthetic import MEASURE, instrument, write_raw

CONFIG = {"measure": {"name": "standard", "margin": 0.02}, "model": {"name": "flux-tiny"}, "target": "block",
          "compile": {"name": "regional"}, "batch": 1, "dtype": "bfloat16", "seed": 0, "processes": 12}  # fmt: skip
DEVICE = "a <b>device</b>"


def written(folder: Path, **quality: float) -> Calibration:
    experiments = instrument(**quality) if quality else []  # type: ignore[arg-type]
    write_raw(experiments, folder)
    trouble = [] if experiments else ["process 1: oom: <out of memory>"]
    done = Calibration({"name": DEVICE}, {"protocol": "1"}, CONFIG, summarize(experiments, MEASURE, [], trouble),
                       "2026-07-01T10:00:00+00:00", "2026-07-01T10:15:00+00:00")  # fmt: skip
    write_files(done, experiments, folder)
    return done


@pytest.mark.browser
def test_it_renders_in_a_browser_on_a_phone(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    written(tmp_path, bias=0.001)
    page = (tmp_path / "report.html").read_text()
    probe = """<script>addEventListener("load", function () {
        document.title = [document.querySelectorAll("svg.plot").length,
            document.documentElement.scrollWidth - window.innerWidth,
            performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length].join(" ");
        });</script>"""
    (tmp_path / "probed.html").write_text(page.replace("<head>", f"<head>{probe}", 1))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/profile",
             "--window-size=500,2000", "--virtual-time-budget=5000", "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [chromium, *flags, f"file://{tmp_path}/probed.html"], capture_output=True, text=True, timeout=240
    )
    found = re.search(r"<title>(\d+) (-?\d+) (\d+)</title>", done.stdout)
    assert found, done.stderr[-1000:]
    drawn, too_wide, requests = map(int, found.groups())
    assert drawn >= 3
    assert too_wide <= 0
    assert requests == 0


def test_its_sections_and_what_comes_from_the_device_is_escaped(tmp_path: Path) -> None:
    written(tmp_path, bias=0.001)
    page = (tmp_path / "report.html").read_text()
    heads = re.findall(r"<h2[^>]*><a[^>]*>(.*?)</a></h2>", page)
    assert heads == ["Requirements", "Every comparison", "Differences that no treatment makes",
                     "One comparison, round by round", "What measure=standard costs and resolves here",
                     "How it was measured"]  # fmt: skip
    assert DEVICE not in page
    assert "Smallest slowdown found in 95 %</dt><dd>3 %" in page


def test_where_nothing_was_measured_it_says_why(tmp_path: Path) -> None:
    done = written(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "oom: &lt;out of memory&gt;" in page
    assert "No comparison counts." in page
    out = io.StringIO()
    show(Console(file=out, width=100), done)
    assert "too little counts to say" in out.getvalue()
    assert "<out of memory>" in out.getvalue()
