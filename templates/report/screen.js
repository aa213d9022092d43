"use strict";
(function () {
  // The words of the report's language, by the English ones; English needs none.
  var dictionary = document.getElementById("affidavit-words");
  var words = dictionary === null ? {} : JSON.parse(dictionary.textContent);
  function _(message, values) {
    return (words[message] || message).replace(/\{(\w+)\}/g, function (whole, name) { return values[name]; });
  }

  // What changed on a key press or a click, for those who do not see it.
  var news = document.createElement("p");
  news.className = "unseen";
  news.setAttribute("role", "status");
  document.querySelector("main").appendChild(news);
  function say(text) { news.textContent = text; }

  // What fits needs no stop of its own for the Tab key; what scrolls does.
  var boxes = new ResizeObserver(function (entries) {
    entries.forEach(function (entry) {
      entry.target.tabIndex = entry.target.scrollWidth > entry.target.clientWidth ? 0 : -1;
    });
  });

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
    var column = header.innerText.replace(/\s+/g, " ").trim();
    say(down ? _("Sorted by {column}, descending", { column: column }) : _("Sorted by {column}, ascending", { column: column }));
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
  function once(key, packed, insert) {
    if (!waiting.has(key)) {
      waiting.set(key, packed === null ? Promise.resolve() : unpacked(packed.textContent).then(insert));
    }
    return waiting.get(key);
  }

  function whole(table) {
    var packed = document.querySelector('script[data-rows="' + table.id + '"]');
    return once(table.id, packed, function (rows) {
      table.insertAdjacentHTML("beforeend", rows);
      packed.remove();
      document.querySelector('[data-more="' + table.id + '"]').remove();
    });
  }

  function opened(place) {
    var packed = document.querySelector('script[data-part="' + place.id + '"]');
    return once(place.id, packed, function (markup) {
      place.innerHTML = markup;
      prepare(place);
    });
  }

  function all(selector, open) {
    return Promise.all(Array.from(document.querySelectorAll(selector)).map(function (packed) {
      return open(document.getElementById(packed.dataset.part || packed.dataset.rows));
    }));
  }

  // Tables inside a packed part have packed rows of their own.
  function everything() {
    return all("script[data-part]", opened).then(function () { return all("script[data-rows]", whole); });
  }

  function offer(line, label, act) {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "open";
    button.textContent = label;
    button.addEventListener("click", act);
    line.classList.add("offered");
    line.appendChild(button);
  }

  var tables = [];
  function prepare(root) {
    root.querySelectorAll(".table-wrap, .chart-wrap").forEach(function (box) { boxes.observe(box); });
    root.querySelectorAll("[data-open]").forEach(function (line) {
      offer(line, line.dataset.label, function () {
        var place = document.getElementById(line.dataset.open);
        opened(place).then(function () { reach(place); apply(); });
      });
    });
    root.querySelectorAll("[data-more]").forEach(function (line) {
      var table = document.getElementById(line.dataset.more);
      offer(line, _("Show all {count} rows", { count: table.dataset.total }), function () {
        whole(table).then(function () {
          table.parentElement.focus();
          say(_("All {count} rows are shown", { count: table.dataset.total }));
          apply();
        });
      });
    });
    root.querySelectorAll("table[data-sortable]").forEach(function (table) {
      tables.push(table);
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
  }

  function reach(target) {
    if (!target.hasAttribute("tabindex")) { target.tabIndex = -1; }
    target.focus({ preventScroll: true });
    target.scrollIntoView();
  }

  // A link may lead into a part that is still packed; each part names the places in it.
  function follow() {
    var name = window.location.hash.slice(1);
    if (name === "" || document.getElementById(name) !== null) { return; }
    var packed = document.querySelector('script[data-ids~="' + CSS.escape(name) + '"]');
    if (packed === null) { return; }
    opened(document.getElementById(packed.dataset.part)).then(function () {
      apply();
      reach(document.getElementById(name));
    });
  }

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
    output.textContent = text.value || rung.value ? _("{shown} of {total} findings shown", { shown: shown, total: total }) : "";
  }

  function apply() {
    if (!form) { return; }
    // A search looks at every row, not only at those that are shown at first.
    (text.value || rung.value ? everything() : Promise.resolve()).then(mark);
  }
  prepare(document);
  if (form && (tables.length || document.querySelector("script[data-part]"))) {
    form.hidden = false;
    document.getElementById("show-all").addEventListener("click", function () { everything().then(apply); });
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    text.addEventListener("input", apply);
    rung.addEventListener("change", apply);
    apply();
  }

  window.addEventListener("hashchange", follow);
  if (window.location.hash === "#all-rows") { everything().then(apply); } else { follow(); }
})();
