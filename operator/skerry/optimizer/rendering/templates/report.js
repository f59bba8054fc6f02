"use strict";
// Without this script the table has the order of the trials; with it each column of figures can be sorted.
for (const heading of document.querySelectorAll("#table th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const table = document.getElementById("table");
    const figure = (body) => {
      const value = body.rows[0].cells[heading.cellIndex].dataset.value;
      return value === undefined ? NaN : Number(value);
    };
    const order = (one, other) => {
      const [a, b] = [figure(one), figure(other)];
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return ascending ? a - b : b - a;
    };
    table.append(...[...table.tBodies].sort(order));
  });
}
