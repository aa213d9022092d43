"use strict";
(function () {
  function value(cell) {
    var raw = cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
    var number = Number(raw);
    return raw !== "" && !Number.isNaN(number) ? number : raw;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") { return a - b; }
    if (typeof a === "number") { return -1; }
    if (typeof b === "number") { return 1; }
    return a < b ? -1 : a > b ? 1 : 0;
  }

  function sortBy(table, header, index) {
    var down = header.getAttribute("aria-sort") !== "descending";
    table.querySelectorAll("thead th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    Array.from(table.tBodies)
      .map(function (body, place) { return { body: body, place: place, key: value(body.rows[0].cells[index]) }; })
      .sort(function (a, b) { return (down ? compare(b.key, a.key) : compare(a.key, b.key)) || a.place - b.place; })
      .forEach(function (item) { table.appendChild(item.body); });
  }

  function unpacked(text) {
    var bytes = Uint8Array.from(atob(text), function (char) { return char.charCodeAt(0); });
    var stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  var waiting = new Map();
  function whole(table) {
    if (!waiting.has(table)) {
      var packed = document.querySelector('script[data-rows="' + table.id + '"]');
      var more = document.querySelector('[data-more="' + table.id + '"]');
      waiting.set(table, packed === null ? Promise.resolve() : unpacked(packed.textContent).then(function (rows) {
        table.insertAdjacentHTML("beforeend", rows);
        packed.remove();
        more.remove();
      }));
    }
    return waiting.get(table);
  }

  function everything() {
    return Promise.all(Array.from(document.querySelectorAll("script[data-rows]")).map(function (packed) {
      return whole(document.getElementById(packed.dataset.rows));
    }));
  }

  document.querySelectorAll("[data-more]").forEach(function (line) {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = "Show all " + document.getElementById(line.dataset.more).dataset.total + " rows";
    button.addEventListener("click", function () {
      var table = document.getElementById(line.dataset.more);
      whole(table).then(function () { table.parentElement.focus(); apply(); });
    });
    line.replaceChildren(button);
  });

  var tables = Array.from(document.querySelectorAll("table[data-sortable]"));
  tables.forEach(function (table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (header, index) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (header.firstChild) { button.appendChild(header.firstChild); }
      button.addEventListener("click", function () {
        whole(table).then(function () { sortBy(table, header, index); });
      });
      header.appendChild(button);
    });
  });

  var form = document.getElementById("feature-filter");
  var text = document.getElementById("filter-text");
  var rung = document.getElementById("filter-rung");
  var output = document.getElementById("filter-count");
  function mark() {
    var wanted = text.value.trim().toLowerCase();
    var shown = 0;
    var total = 0;
    tables.forEach(function (table) {
      total += Number(table.dataset.total);
      Array.from(table.tBodies).forEach(function (body) {
        var hit = (!rung.value || body.dataset.group === rung.value) && body.textContent.toLowerCase().includes(wanted);
        body.hidden = !hit;
        shown += hit ? 1 : 0;
      });
    });
    output.textContent = shown + " of " + total + " findings shown";
  }

  function apply() {
    if (!form) { return; }
    // A search looks at every row, not only at those that are shown at first.
    (text.value || rung.value ? everything() : Promise.resolve()).then(mark);
  }
  if (form && tables.length) {
    form.hidden = false;
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    text.addEventListener("input", apply);
    rung.addEventListener("change", apply);
    apply();
  }

  if (window.location.hash === "#all-rows") { everything().then(apply); }
})();
