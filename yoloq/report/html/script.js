"use strict";
// Sorting: a click on a column's title, once more for the other way round.
function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(text);
  return { empty: text === "" || text === "-", number, text };
}
function compare(a, b) {
  if (a.empty || b.empty) return a.empty - b.empty;
  if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return a.number - b.number;
  return a.text.localeCompare(b.text);
}
document.querySelectorAll("table.sortable th").forEach((head) => {
  head.querySelector("button").addEventListener("click", () => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const up = head.getAttribute("aria-sort") === "descending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => ({ row, value: valueOf(row.cells[column]) }));
    rows.sort((a, b) => (a.value.empty || b.value.empty || up ? 1 : -1) * compare(a.value, b.value));
    body.append(...rows.map((each) => each.row));
  });
});
// Hover text that also answers to a tap; without this script browsers show the titles themselves.
const tip = document.getElementById("tip");
document.querySelectorAll("svg title").forEach((title) => {
  title.parentNode.dataset.tip = title.textContent;
  title.parentNode.setAttribute("aria-label", title.textContent);
  title.remove();
});
function showTip(event) {
  const owner = event.target.closest?.("[data-tip]");
  tip.hidden = !owner;
  if (!owner) return;
  tip.textContent = owner.dataset.tip;
  const room = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - room.width - 8);
  const below = event.clientY + 18 + room.height < innerHeight;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (below ? event.clientY + 18 : event.clientY - room.height - 10) + "px";
}
document.addEventListener("pointermove", showTip);
document.addEventListener("pointerdown", showTip);
// The other theme, for this visit.
const theme = document.getElementById("theme"), root = document.documentElement;
theme.hidden = false;
theme.addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// A closed table would be missing on paper; a long one is not missed there.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => {
  if (each.querySelectorAll("tr").length <= 30) each.open = true;
}));
