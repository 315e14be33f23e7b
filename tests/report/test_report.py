"""The report in a real browser: it renders, asks nobody for anything, and shows text as text."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from itertools import pairwise

import pandas as pd
import pytest

from src.analysis.answers.advice import advised
from src.analysis.answers.picks import answers
from src.analysis.provenance import Provenance
from src.analysis.runs.frame import standing, tidy
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.shapes import breakeven_table
from src.config.schema.root import TrackingConf
from src.report.report import Report
from src.report.report import page as page_of
from src.report.runs.figures import forest, speedup_range
from tests.analysis.synthetic import NO_FLOAT8, REMEDY, made

HASH = "#verdicts&scheme=int8dq&verdict=helps"
FRAMES = {"wide": (1280, ""), "phone": (390, ""), "filtered": (1280, HASH)}
PROBE = """<!DOCTYPE html><body>%s<script>
function probe(frame) {
  var page = frame.contentDocument, view = frame.contentWindow, found = {plots: [], cut: []};
  var all = function (selector) { return Array.from(page.querySelectorAll(selector)); };
  all("svg.plot").forEach(function (plot) {
    var box = plot.getBoundingClientRect();
    found.plots.push([box.width, box.height, plot.querySelectorAll("g title").length,
      Boolean(plot.getAttribute("aria-label")), plot.querySelector("desc").textContent.length]);
  });
  found.requests = view.performance.getEntriesByType("resource").filter(function (entry) {
    return !entry.name.startsWith("data:");
  }).length;
  found.overflow = page.documentElement.scrollWidth - view.innerWidth;
  all("main *").forEach(function (each) {
    if (each.closest("svg") || each.closest(".sr") || !each.getClientRects().length) return;
    if (each.getBoundingClientRect().right > view.innerWidth + 1) found.cut.push(each.outerHTML.slice(0, 80));
  });
  found.shown = all("tr[data-run]").filter(function (row) { return !row.hidden; })
    .map(function (row) { return row.cells[1].textContent + "|" + row.cells[2].textContent; });
  found.output = page.querySelector(".filters output").textContent;
  found.chosen = all(".filters select").map(function (each) { return each.selectedOptions[0].textContent; });
  found.card = view.getComputedStyle(page.querySelector("tr[data-run]")).display;
  found.head = view.getComputedStyle(page.querySelector("tr[data-run] td"), "::before").content;
  var head = all("table.sortable th button")[3];
  head.click(); head.click();
  found.sorted = page.querySelector("table.sortable tbody tr").innerText;
  var scheme = page.querySelector('.filters select[name="scheme"]');
  scheme.value = Array.from(scheme.options).find(function (one) { return one.textContent === "int8wo"; }).value;
  scheme.dispatchEvent(new view.Event("change", {bubbles: true}));
  found.address = view.location.hash;
  var folded = function () { return all("details:not([open]):not(.run)").length; };
  found.folded = [folded()];
  view.dispatchEvent(new view.Event("beforeprint")); found.folded.push(folded());
  view.dispatchEvent(new view.Event("afterprint")); found.folded.push(folded());
  return found;
}
addEventListener("load", function () {
  var out = document.createElement("pre"), found = {};
  document.querySelectorAll("iframe").forEach(function (frame) { found[frame.name] = probe(frame); });
  out.id = "probe"; out.textContent = JSON.stringify(found); document.body.appendChild(out);
});
</script></body>"""


@pytest.fixture(scope="module")
def page(analysed) -> str:
    return (analysed.report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> dict:
    """What one start of a browser sees: the page at each width and address."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page, encoding="utf-8")
    frames = "".join(
        f'<iframe name="{name}" src="report.html{place}" style="width:{width}px;height:800px;border:0"></iframe>'
        for name, (width, place) in FRAMES.items()
    )
    (folder / "probe.html").write_text(PROBE % frames, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
             "--allow-file-access-from-files", f"--user-data-dir={folder}/profile", "--window-size=1300,2000",
             "--virtual-time-budget=5000", "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [chromium, *flags, f"file://{folder}/probe.html"], capture_output=True, text=True, timeout=240
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.browser
@pytest.mark.parametrize("width", ["wide", "phone"])
def test_it_renders_in_a_browser_and_asks_nobody_for_anything(browser, width):
    probed = browser[width]
    assert probed["requests"] == 0
    assert (
        len(probed["plots"]) == 2 + 1 + 4 + 6
    )  # two workloads, memory, two K x N and three schemes at two modes
    for wide, high, marks, named, told in probed["plots"]:
        assert wide > 200
        assert high > 130
        assert marks > 3
        assert named
        assert told > 100, "a text for those who do not see it"
    assert probed["overflow"] <= 0, "wider than the window"
    assert probed["cut"] == []


@pytest.mark.browser
def test_a_click_sorts_the_table(browser):
    assert "1.21×" in browser["wide"]["sorted"]


@pytest.mark.browser
def test_rows_are_cards_on_a_phone(browser):
    assert (browser["wide"]["card"], browser["phone"]["card"]) == ("table-row", "block")
    assert browser["phone"]["head"] == '"Workload"'


@pytest.mark.browser
def test_the_address_holds_filters_and_section(browser):
    probed = browser["filtered"]
    assert probed["shown"], "int8dq helps somewhere"
    assert all("int8dq" in each and each.endswith("helps") for each in probed["shown"])
    assert probed["output"] == f"{len(probed['shown'])} of 86 runs"
    assert probed["chosen"][-1] == "helps"
    assert probed["address"] == "#verdicts&scheme=int8wo&verdict=helps"
    assert browser["wide"]["output"] == "86 of 86 runs"


@pytest.mark.browser
def test_print_unfolds_everything_and_leaves_it_as_it_was(browser):
    before, printed, after = browser["wide"]["folded"]
    assert before == after > 0
    assert printed == 0


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*["']?(?!["']?data:)""", page)
    assert "@import" not in page.split("</style>")[0]
    assert len(page.encode()) < 1_000_000


@pytest.mark.parametrize(("slowest", "fastest"), [(0.98, 1.03), (0.5, 1.5), (0.09, 3.1), (0.02, 30.0)])
def test_an_axis_of_speedups_can_be_read(store, slowest, fastest):
    name, _ = store.experiment([made("s", slowest), made("f", fastest, batch=4)])
    rows = tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02)
    axis = forest(rows, speedup_range(rows, 0.02), 0.02).xaxis
    assert 3 <= len(axis["tickvals"]) <= 7
    if fastest / slowest < 100:  # no step of ten, which says only which power
        assert max(b / a for a, b in pairwise(axis["tickvals"])) <= 2.5


def test_options_in_a_label_leave_room_for_the_plot(store):
    where = [
        {"quant.where": where, "quant.via": via}
        for where, via in (("streamed", "direct"), ("cpu", "diffusers"))
    ]
    name, _ = store.experiment([made(f"k{i}", 1.1 + i, params=given) for i, given in enumerate(where)])
    rows = tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02)
    labels = forest(rows, speedup_range(rows, 0.02), 0.02).yaxis["categoryarray"]
    assert len({*labels}) == 2
    for label, given in zip(labels, rows["variant"][::-1], strict=True):  # from the bottom
        assert given.replace(" ", "") in label.replace("<br>", "").replace(" ", "")
        assert max(map(len, label.split("<br>"))) < 40


def test_it_links_to_its_sections_and_the_tables_beside_it(page, analysed):
    links = re.findall(r'<a href="([^"]+)"', page)
    names = set(re.findall(r' id="([^"]+)"', page))
    assert {link[1:] for link in links if link[0] == "#"} <= names
    for name in ("verdicts.csv", "breakeven.csv", "verdicts.parquet"):
        assert name in links
        assert (analysed.report / name).is_file()


def test_a_row_unfolds_to_its_command_and_folder(page):
    assert page.count('<details class="run">') == 86
    assert "python -m src.run model=flux-tiny quant=int8dq compile=default batch=4 gpu=cpu" in page
    assert re.search(
        r'<a href="../../runs/model-int8dq-4-default/001/">runs/model-int8dq-4-default/001</a>', page
    )


def test_many_runs_stay_under_a_megabyte(store):
    name, _ = store.experiment([made("n", 1.1)])
    one = standing(tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02))
    runs = pd.concat(
        [one.assign(batch=batch, run_key=f"n{batch}") for batch in range(1, 450)], ignore_index=True
    )
    found, left = answers(runs)
    advice = advised(found, store.outputs, lambda *_: None)
    report = Report(runs, breakeven_table(runs), [], Provenance(449), [], 0.02, "many", None, advice, left)
    written = page_of(report, store.outputs)
    assert len(written.encode()) < 1_000_000
    assert 'The newest 100 of 449 runs; all are in <a href="verdicts.csv">' in written
    assert re.search(r"<td>int8dq</td>|>int8dq</td>.*>449</td>", written), "one row for all of them"
    assert "425 more workloads in" in written
    assert "413 more workloads in verdicts.csv" in written


def test_text_of_runs_is_escaped(page):
    assert NO_FLOAT8 not in page
    assert escape(NO_FLOAT8) in page
    assert escape(REMEDY) in page


def test_the_page_has_its_sections(page):
    heads = re.findall(r"<h2[^>]*><a[^>]*>(.*?)</a></h2>", page)
    assert heads == ["What to use", "Verdicts", "Speedups", "Memory against speed", "Break-even shapes",
                     "Speedup over M",
                     "Verdicts over shapes", "Regime map", "Rules", "How it was measured"]  # fmt: skip
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
