"use strict";
// The page is whole without this: here tables become sortable, and rows and domains of pictures can be chosen.
document.documentElement.classList.add("js");

// A number at the beginning, as in "12,345", "1.62x" or "47.9 (45.0 to 50.1)"; all else is text.
function number(text) {
  const found = /^[+-]?[\d,]*\.?\d+/.exec(text.trim());
  return found ? Number(found[0].replaceAll(",", "")) : NaN;
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const text = (row) => row.cells[column].textContent;
      const numeric = column > 0 && rows.some((row) => !Number.isNaN(number(text(row))));
      // Numbers begin with the largest: in most columns that is the best.
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((one, other) => {
        if (!numeric) return sign * text(one).localeCompare(text(other));
        const [a, b] = [number(text(one)), number(text(other))];
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);  // what is missing comes last
        return sign * (a - b);
      });
      table.tBodies[0].append(...rows);
    });
  });
}

const marks = [];  // {element, row}: what belongs to a row of the table
for (const element of document.querySelectorAll("figure svg [id]")) {
  const found = /-row(\d+)$/.exec(element.id);
  if (found) marks.push({element, row: found[1]});
}
const keys = [...document.querySelectorAll(".keys [data-row]")];
const names = Object.fromEntries(keys.map((key) => [key.dataset.row, key.textContent]));
const hidden = new Set();

function light(row) {
  for (const mark of marks) mark.element.classList.toggle("pale", row !== null && mark.row !== row);
  for (const key of keys) key.classList.toggle("lit", key.dataset.row === row);
}

function show() {
  for (const mark of marks) mark.element.classList.toggle("off", hidden.has(mark.row));
  for (const key of keys) key.setAttribute("aria-pressed", String(!hidden.has(key.dataset.row)));
}

function lights(element, row) {
  element.addEventListener("pointerenter", () => light(row));
  element.addEventListener("pointerleave", () => light(null));
}

for (const {element, row} of marks) {
  lights(element, row);
  // Lines are thin: what is wider and not seen is pointed at.
  for (const path of [...element.querySelectorAll("path")].filter((path) => !path.closest("defs"))) {
    const wide = path.cloneNode();
    wide.setAttribute("style", "fill: none; stroke: transparent; stroke-width: 10; pointer-events: stroke");
    element.append(wide);
  }
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = names[row] ?? "";
  element.prepend(title);
}

for (const key of keys) {
  const row = key.dataset.row;
  lights(key, row);
  key.addEventListener("focus", () => light(row));
  key.addEventListener("blur", () => light(null));
  key.addEventListener("click", () => {
    if (!hidden.delete(row)) hidden.add(row);
    show();
  });
}

function added(to, text, action) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", action);
  to.append(button);
}

for (const legend of document.querySelectorAll(".legend")) {
  const [rows, domains] = legend.querySelectorAll(".keys");
  added(rows, "all", () => { hidden.clear(); show(); });
  added(rows, "none", () => { keys.forEach((key) => hidden.add(key.dataset.row)); show(); });
  for (const key of domains.querySelectorAll("[data-domain]")) {
    key.setAttribute("aria-pressed", "true");
    key.addEventListener("click", () => {
      const off = key.getAttribute("aria-pressed") === "true";
      key.setAttribute("aria-pressed", String(!off));
      for (const figure of document.querySelectorAll(".panels figure")) {
        if (figure.dataset.domain === key.dataset.domain) figure.classList.toggle("off", off);
      }
    });
  }
}
for (const figure of document.querySelectorAll(".panels figure")) {
  figure.addEventListener("click", () => figure.classList.toggle("large"));
}
show();
