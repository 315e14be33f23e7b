"""The report in a real browser: it renders, asks nobody for anything, and shows text as text."""

import re
import shutil
import subprocess
from html import escape, unescape
from itertools import pairwise

import pytest

from src.analysis.frame import tidy
from src.analysis.tracker import Tracker
from src.config.schema import TrackingConf
from src.report.figures import forest, speedup_range
from tests.analysis.synthetic import NO_FLOAT8, REMEDY, made

PROBE = """<script>
var probe = {errors: [], requests: 0, plots: [], sorted: ""};
window.addEventListener("error", function (e) { probe.errors.push(e.message); });
window.addEventListener("load", function () {
  setTimeout(function () {
    document.querySelectorAll(".js-plotly-plot").forEach(function (plot) {
      var box = plot.querySelector(".main-svg").getBoundingClientRect();
      var marks = plot.querySelectorAll(".scatterlayer .points path").length;
      probe.plots.push([box.width, box.height, marks]);
    });
    var head = document.querySelectorAll("table.sortable th button")[3];
    head.click(); head.click();
    probe.sorted = document.querySelector("table.sortable tbody tr").innerText;
    probe.requests = performance.getEntriesByType("resource").filter(function (entry) {
      return !entry.name.startsWith("data:") && !entry.name.startsWith("blob:");
    }).length;
    probe.overflow = document.documentElement.scrollWidth - window.innerWidth;
    var out = document.createElement("pre");
    out.id = "probe"; out.textContent = JSON.stringify(probe);
    document.body.appendChild(out);
  }, 2000);
});
</script>"""


@pytest.fixture(scope="module")
def page(analysed) -> str:
    return (analysed.report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=[1280, 500])
def probed(request, page, tmp_path_factory) -> dict:
    import json

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page.replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
             f"--user-data-dir={folder}/profile", f"--window-size={request.param},2000",
             "--virtual-time-budget=10000", "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [chromium, *flags, f"file://{folder}/report.html"], capture_output=True, text=True, timeout=90
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.browser
def test_it_renders_in_a_browser_and_asks_nobody_for_anything(probed):
    assert probed["errors"] == []
    assert probed["requests"] == 0
    assert len(probed["plots"]) == 2 + 1 + 4  # two workloads, memory, two K x N at two compile modes
    assert all(width > 200 and height > 200 and marks > 3 for width, height, marks in probed["plots"]), probed
    assert probed["overflow"] <= 0, "wider than the window"


@pytest.mark.browser
def test_a_click_sorts_the_table(probed):
    assert "1.21×" in probed["sorted"]


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*["']?(?!["']?data:)""", page)
    assert "@import" not in page.split("</style>")[0]
    assert page.count("plotly.js v") == 1


@pytest.mark.parametrize(("slowest", "fastest"), [(0.98, 1.03), (0.5, 1.5), (0.09, 3.1), (0.02, 30.0)])
def test_an_axis_of_speedups_can_be_read(store, slowest, fastest):
    name, _ = store.experiment([made("s", slowest), made("f", fastest, batch=4)])
    rows = tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02)
    axis = forest(rows, speedup_range(rows, 0.02), 0.02).layout.xaxis
    assert 3 <= len(axis.tickvals) <= 7
    if fastest / slowest < 100:  # no step of ten, which says only which power
        assert max(b / a for a, b in pairwise(axis.tickvals)) <= 2.5


def test_options_in_a_label_leave_room_for_the_plot(store):
    where = [
        {"quant.where": where, "quant.via": via}
        for where, via in (("streamed", "direct"), ("cpu", "diffusers"))
    ]
    name, _ = store.experiment([made(f"k{i}", 1.1 + i, params=given) for i, given in enumerate(where)])
    rows = tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02)
    labels = forest(rows, speedup_range(rows, 0.02), 0.02).layout.yaxis.categoryarray
    assert len({*labels}) == 2
    for label, given in zip(labels, rows["variant"][::-1], strict=True):  # from the bottom
        assert given.replace(" ", "") in label.replace("<br>", "").replace(" ", "")
        assert max(map(len, label.split("<br>"))) < 40


def test_text_of_runs_is_escaped(page):
    assert NO_FLOAT8 not in page
    assert escape(NO_FLOAT8) in page
    assert escape(REMEDY) in page


def test_the_page_has_its_sections(page):
    heads = re.findall(r"<h2[^>]*><a[^>]*>(.*?)</a></h2>", page)
    assert heads == ["What to use", "Verdicts", "Speedups", "Memory against speed", "Break-even shapes",
                     "Speedup over M",
                     "Verdicts over shapes", "Rules", "How it was measured"]  # fmt: skip
    assert "torchao</dt><dd>0.18.0" in page
    assert 'class="hatched"' in page


def test_unmeasured_cells_are_blank(store, analysing):
    from tests.analysis.synthetic import made

    name, _ = store.experiment([made("a", 1.1, shape=(1, 512, 512)), made("b", 0.9, shape=(4, 512, 1024))])
    analysing(store.conf(name))
    page = (store.outputs / "reports" / name / "report.html").read_text()
    assert page.count('class="blank"') == 2
    assert "at M = 1, the only M measured" in page


def test_angle_brackets_in_names_do_not_break_the_plots(store, analysing):
    from tests.analysis.synthetic import made

    name, _ = store.experiment([made("a", 1.1, quant="</script><i>x", shape=(1, 512, 512)), made("b", 1.2)])
    analysing(store.conf(name))
    page = (store.outputs / "reports" / name / "report.html").read_text()
    assert "</script><i>x" not in page
