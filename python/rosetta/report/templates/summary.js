// Sorting and filtering of the tables of results, and links that open what they lead to. The page is whole without it.
"use strict";

// What a cell is sorted by: its data-sort, else its text where that is a number as a whole (`caffe2` is a name).
function number(cell) {
  const text = cell.dataset.sort ?? cell.textContent.replace(/[\s\u00a0\u202f,]/g, "");
  return text === "" ? NaN : Number(text);
}

function compare(index, direction) {
  return (one, other) => {
    const [a, b] = [one.cells[index], other.cells[index]];
    const [x, y] = [number(a), number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return direction * (x - y);
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // what was not measured comes last
    return direction * a.textContent.localeCompare(b.textContent);
  };
}

function sortable(table) {
  // Legs without a rank stay below the line, and what is only published below those.
  const body = table.querySelector("tbody.ranked");
  if (!body) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort(compare(index, up ? 1 : -1)));
    });
  });
}

function filterable(table, number) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  input.type = "search";
  input.id = `filter-${number}`;
  label.htmlFor = input.id;
  label.textContent = "Only rows with ";
  count.htmlFor.add(input.id);
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.append(label, input, " ", count);
  table.closest(".scroll").before(bar);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = wanted ? `${shown} of ${rows.length}` : "";
  });
}

function open_target() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  target.scrollIntoView();
}

document.querySelectorAll("table.ranking").forEach((table, number) => {
  sortable(table);
  filterable(table, number);
});
addEventListener("hashchange", open_target);
open_target();
