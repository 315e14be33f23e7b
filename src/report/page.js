// Sorting, filters with their state in the address, heads for cards on a phone, unfolding for print.
(function () {
  "use strict";
  var all = function (selector, inside) { return Array.from((inside || document).querySelectorAll(selector)); };

  all("table.sortable").forEach(function (table) {
    var heads = all("th", table), body = table.tBodies[0];
    function value(row, column) {
      var cell = row.cells[column];
      var given = cell && cell.colSpan === 1 && (cell.getAttribute("data-v") || cell.textContent);
      if (!given) return null;
      return !isNaN(given) ? Number(given) : given.toLowerCase();
    }
    function order(a, b) {
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      return a < b ? -1 : a > b ? 1 : 0;
    }
    heads.forEach(function (head) { head.setAttribute("data-h", head.textContent); });
    all("tr", body).forEach(function (row) {
      Array.from(row.cells).forEach(function (cell, column) {
        cell.setAttribute("data-h", cell.colSpan > 1 ? "Why" : heads[column].textContent);
      });
    });
    heads.forEach(function (head, column) {
      head.querySelector("button").addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        Array.from(body.rows).sort(function (left, right) {
          var a = value(left, column), b = value(right, column);
          if (a === null || b === null) return (a === null) - (b === null);
          return order(a, b) * (down ? -1 : 1);
        }).forEach(function (row) { body.appendChild(row); });
      });
    });
  });

  all(".scroll").forEach(function (box) {
    if (box.scrollWidth > box.clientWidth) { box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", "table, scrolls sideways"); }
  });

  var form = document.querySelector(".filters"), place = "";
  function state() {
    return all("select", form || document.createElement("i")).filter(function (each) { return each.value; });
  }
  function filter() {
    var chosen = state().map(function (each) { return each.value; });
    all("[data-f]").forEach(function (element) {
      var own = element.getAttribute("data-f").split(" ");
      element.hidden = chosen.some(function (token) {
        return !own.includes(token) && own.some(function (each) { return each[0] === token[0]; });
      });
    });
    if (!form) return;
    var rows = all("tr[data-run]"), shown = rows.filter(function (row) { return !row.hidden; }).length;
    form.querySelector("output").textContent = rows.length ? shown + " of " + rows.length + " runs" : "";
    form.querySelector("button").hidden = !chosen.length;
  }
  function write() {
    var parts = state().map(function (each) {
      return encodeURIComponent(each.name) + "=" + encodeURIComponent(each.selectedOptions[0].textContent);
    });
    if (place) parts.unshift(place);
    history.replaceState(null, "", "#" + parts.join("&"));
  }
  function decoded(text) {
    try { return decodeURIComponent(text); } catch (error) { return text; }
  }
  function read() {
    place = "";
    var given = {};
    location.hash.slice(1).split("&").filter(Boolean).forEach(function (part) {
      var at = part.indexOf("=");
      if (at < 0) place = part; else given[decoded(part.slice(0, at))] = decoded(part.slice(at + 1));
    });
    if (form && (Object.keys(given).length || !place)) all("select", form).forEach(function (each) {
      var option = Array.from(each.options).find(function (one) { return one.textContent === given[each.name]; });
      each.value = option ? option.value : "";
    });
    filter();
    var target = place && document.getElementById(place);
    if (target) target.scrollIntoView();
    if (place && state().length && !Object.keys(given).length) write();
  }
  if (form) {
    form.addEventListener("change", function () { filter(); write(); });
    form.querySelector("button").addEventListener("click", function () {
      all("select", form).forEach(function (each) { each.value = ""; });
      filter(); write();
    });
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.hidden = false;
  }
  addEventListener("hashchange", read);
  read();

  var folded = [];
  addEventListener("beforeprint", function () {
    folded = all("details:not([open]):not(.run)");
    folded.forEach(function (each) { each.open = true; });
  });
  addEventListener("afterprint", function () { folded.forEach(function (each) { each.open = false; }); });
})();
