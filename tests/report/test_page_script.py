"""The page's script, run by node over the few parts of a page that it needs."""

import json
import math
import shutil
import subprocess

import pytest

from src.report.graphics.markup import Cell, number_cell, table
from src.report.report import page_parts

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")
PAGE = """
var listeners = {}, given = JSON.parse(process.argv[1]);
function element(more) {
  var own = {}, node = {hidden: false, listeners: {}, setAttribute: function (k, v) { own[k] = v; },
    getAttribute: function (k) { return k in own ? own[k] : null; }, removeAttribute: function (k) { delete own[k]; },
    addEventListener: function (k, f) { node.listeners[k] = f; }, querySelectorAll: function () { return []; }};
  return Object.assign(node, more);
}
var head = element({textContent: "head"}), button = element({});
head.querySelector = function () { return button; };
var rows = given.rows.map(function (cell) {
  var made = element({textContent: cell.text, colSpan: cell.span});
  if (cell.v !== null) made.setAttribute("data-v", cell.v);
  return element({cells: [made], name: cell.text});
});
var body = {rows: rows, querySelectorAll: function () { return rows; },
  appendChild: function (row) { body.rows = body.rows.filter(function (r) { return r !== row; }).concat([row]); }};
var sortable = {tBodies: [body], querySelectorAll: function () { return [head]; }};
globalThis.addEventListener = function (name, f) { listeners[name] = f; };
globalThis.location = {hash: given.hash};
globalThis.history = {replaceState: function () {}};
globalThis.document = {querySelectorAll: function (s) { return s === "table.sortable" ? [sortable] : []; },
  createElement: function () { return element({}); },
  querySelector: function () { return null; }, getElementById: function () { return null; }};
"""
TOLD = """
var names = function () { return body.rows.map(function (row) { return row.name; }); };
button.listeners.click(); var up = names(); button.listeners.click();
console.log(JSON.stringify({up: up, down: names(), listens: Object.keys(listeners)}));
"""


def ran(rows, hash_=""):
    script = f"{PAGE}{page_parts()[1]}{TOLD}"
    given = json.dumps({"rows": rows, "hash": hash_})
    done = subprocess.run([NODE, "-e", script, given], capture_output=True, text=True, timeout=60)
    assert not done.stderr, done.stderr[-600:]
    return json.loads(done.stdout)


def cell(text, value=None, span=1):
    return {"text": text, "v": value, "span": span}


def test_numbers_are_sorted_before_texts_and_what_is_missing_comes_last():
    rows = [cell("b", "1.5"), cell("why", span=5), cell("zebra"), cell(""), cell("a", "0.7"), cell("apple")]
    found = ran(rows)
    assert found["up"] == ["a", "b", "apple", "zebra", "why", ""]
    assert found["down"] == ["zebra", "apple", "b", "a", "why", ""]


def test_an_address_that_is_no_encoding_stops_nothing():
    assert "beforeprint" in ran([cell("a")], "#model=100%")["listens"]


def test_a_missing_number_has_nothing_to_be_sorted_by():
    html = table(
        ["dB"], [[number_cell("", math.nan)], [Cell("x", math.nan, number=True)], [number_cell("1", 2.0)]]
    )
    assert "nan" not in html
    assert 'data-v="2"' in html
