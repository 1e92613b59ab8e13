for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value;
  const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : Number(a) - Number(b);
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const words = isNaN(value(body.rows[0], column));
    const falls = head.ariaSort === "none" ? !words : head.ariaSort === "ascending";
    heads.forEach(each => { each.ariaSort = "none"; });
    head.ariaSort = falls ? "descending" : "ascending";
    body.append(...[...body.rows].sort((a, b) => compare(value(a, column), value(b, column)) * (falls ? -1 : 1)));
  }));
}
