"""The table of schemes: from made-up runs, and of the records that are kept."""

import json
import re
import tarfile

import pytest

from docs.make_scheme_tables import ARCHIVE, PAGES, page_with, tables
from src.analysis.runs.frame import standing
from src.analysis.runs.recorded import recorded
from src.analysis.schemes import scheme_tables, with_layers
from src.app.listing import scheme_names
from src.devices.capability import Status, capability
from src.devices.device import Device
from src.records.record import Outcome, read_record
from tests.analysis.synthetic import made, write_records
from tests.conftest import canonical

BASELINE_GIB = 0.0703125
SIDE = 6144  # one layer of SIDE x SIDE is BASELINE_GIB in bfloat16


def layer(scheme="", reason="", side=SIDE):
    return {"fqn": "x", "M": 1, "K": side, "N": side, "calls": 1, "scheme": scheme, "reason": reason}


@pytest.fixture
def table(tmp_path):
    """table(runs, layers, names, short): the markdown of made-up runs; layers: run key -> layer table."""

    def rendered(runs, layers=None, names=(), short=False):
        write_records(tmp_path, runs)
        for key, rows in (layers or {}).items():
            (tmp_path / "runs" / key / "001" / "layers.json").write_text(json.dumps(rows))
        frame, versions = recorded(tmp_path, 0.02)
        return scheme_tables(with_layers(standing(frame), tmp_path), names, versions, short=short)

    return rendered


def row(text, name):
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))


def ran(key, speedup, gib, **axes):
    run = made(key, speedup, **axes)
    run.record.metrics |= {"memory/baseline_model_gib": BASELINE_GIB, "memory/model_gib": gib}
    return run


def test_a_row_says_bits_speedups_quality_and_why(table):
    runs = [
        ran("a", 0.5, BASELINE_GIB * 8.25 / 16, quant="int8wo", compile="none"),
        made("b", outcome=Outcome.COMPILE_ERROR, reason="no type", quant="int8wo", compile="regional"),
    ]
    text = table(runs, {"a": [layer("int8wo"), layer(reason="K=64", side=64)]})
    assert "| scheme | bits | eager | regional | SQNR, dB | why |" in text
    assert row(text, "int8wo") == (
        "| `int8wo` | 8.25 | 0.50× 0.50–0.51 hurts | compile_error | 41.3 | "
        "regional: no type; 1 of 2 layers left alone (K=64) |"
    )


def test_a_scheme_without_a_run_has_a_row(table):
    text = table([ran("a", 1.0, BASELINE_GIB, quant="none")], names=["int4wo", "none"])
    assert row(text, "int4wo") == "| `int4wo` |  | not measured |  | no run in these records |"
    assert "`none` |  | 1.00×" in row(text, "none")


def test_reasons_do_not_repeat_the_row_and_the_caption(table):
    reason = "int8wo needs a cuda device; this is AMD EPYC 9R14, 2 threads, bfloat16"
    runs = [
        made(mode, outcome=Outcome.UNSUPPORTED, reason=reason, quant="int8wo", compile=mode)
        for mode in ("none", "regional")
    ]
    assert (
        row(table(runs), "int8wo") == "| `int8wo` |  | unsupported | unsupported |  | needs a cuda device |"
    )


def test_a_short_table_has_one_row_for_a_family(table):
    runs = [
        ran("a", 0.5, BASELINE_GIB / 8, quant="uint1wo", compile="none"),
        ran("b", 0.75, BASELINE_GIB / 2, quant="uint7wo", compile="none"),
    ]
    layers = {"a": [layer("uint1wo")], "b": [layer("uint7wo")]}
    names = ["uint1wo", "uint7wo", "uintx_weight_only"]
    text = table(runs, layers, names, short=True)
    assert row(text, "uint1wo").startswith("| `uint1wo` … `uint7wo` | 2.00 to 8.00 | 0.50 to 0.75× hurts |")
    assert "not measured" in row(text, "uintx_weight_only")


def test_variants_have_rows_of_their_own(table, tmp_path):
    runs = [ran(size, 0.5, BASELINE_GIB, quant="int4wo", compile="none") for size in ("32", "64")]
    write_records(tmp_path, runs)
    for run in runs:
        size = run.record.run_key
        (tmp_path / "runs" / size / "001" / "config.yaml").write_text(f"quant: {{group_size: {size}}}\n")
    text = table([], names=["int4wo"])
    assert re.findall(r"^\| `(int4wo.*?)`", text, re.MULTILINE) == [
        "int4wo (group_size=32)",
        "int4wo (group_size=64)",
    ]


def test_one_linear_is_no_row(table):
    assert table([made("a", 2.0, shape=(1, 64, 64))]) == ""


# What is kept


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The kept records, as a folder of runs."""
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def records(kept):
    return [read_record(path) for path in sorted(kept.glob("runs/*/*/record.json"))]


@pytest.mark.parametrize(("page", "short"), PAGES.items(), ids=["README.md", "schemes.md"])
def test_a_page_has_the_table_of_the_kept_records(page, short):
    text = page.read_text()
    assert text.count("<!-- schemes:begin -->") == text.count("<!-- schemes:end -->") == 1
    assert page_with(text, tables(short=short)) == text, "python docs/make_scheme_tables.py makes it again"


def test_every_scheme_has_an_outcome_and_what_has_none_a_reason(records):
    table = tables(short=False)
    assert sorted(scheme_names()) == canonical("quant")
    for name in {*scheme_names()} - {"regime"}:  # of no sweep over all schemes
        cells = [cell.strip() for cell in row(table, name).strip("|").split("|")]
        assert all(cells[2:4]), name
        assert cells[-1] or re.match(r"\d", cells[2]), f"{name}: no number and no reason"
    for record in records:
        assert record.outcome.is_finding, (record.axes, record.outcome, record.reason)
        assert record.outcome is Outcome.OK or record.reason


def test_what_is_stored_is_what_an_entry_says(entries, kept):
    """A scale per row is not in an entry's bits: 40 bits (scale and zero) on a K of 64 to 2560 add 0.1."""
    runs, _ = recorded(kept, 0.02)
    found = with_layers(runs, kept).dropna(subset=["bits"])
    assert len(found) > 80
    for _, run in found[found["quant"] != "autoquant"].iterrows():
        bits = entries[run["quant"]].on("cpu").bits
        assert bits - 0.02 <= run["bits"] <= bits + 0.15, (run["quant"], run["bits"])


def test_the_listing_predicted_every_outcome(entries, records):
    assert len(records) >= 116
    for record in records:
        conf = entries[record.axes["quant"]]
        device = Device(record.device["kind"], record.device["name"], record.device["memory_gib"])
        found = capability(conf, device, record.axes["dtype"])
        what = (record.axes["quant"], record.axes["compile"], record.reason)
        if found.status is Status.UNSUPPORTED:
            assert (record.outcome, record.reason, record.remedy) == (
                Outcome.UNSUPPORTED,
                found.reason,
                found.remedy,
            ), what
        elif record.axes["compile"] != "none" and device.kind in conf.eager_only:
            assert record.outcome is Outcome.COMPILE_ERROR, what
        else:
            assert record.outcome is Outcome.OK, what
            assert (record.verdict == "emulated") == (found.status is Status.EMULATED), what


def test_compiling_changes_little_of_the_quality(records):
    by = {(r.axes["quant"], r.axes["compile"]): r.metrics.get("quality/sqnr_db") for r in records}
    for quant in {quant for quant, _ in by}:
        eager, compiled = by.get((quant, "none")), by.get((quant, "regional"))
        if eager is not None and compiled is not None:
            assert eager == pytest.approx(compiled, abs=1), quant
