// A table of any length: only the rows in sight exist. Rows have one height.

const rowHeight = 34, spare = 8;

export function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

/**
 * Table shows records in columns {title, width, cell, sort, number}. cell
 * returns a text or [text, class]; sort what to order by (the text by default).
 */
export class Table {
  constructor(columns, { onOpen, empty }) {
    Object.assign(this, { columns, onOpen, empty, rows: [], chosen: null, by: 0, down: false });
    this.head = element("div", { class: "head", role: "row" });
    this.canvas = element("div", { class: "canvas" });
    this.body = element("div", { class: "body", role: "grid", tabindex: "0", onscroll: () => this.scrolled() }, this.canvas);
    this.head.style.setProperty("--columns", columns.map((c) => c.width).join(" "));
    this.canvas.style.setProperty("--columns", columns.map((c) => c.width).join(" "));
    this.drawHead();
  }

  mount(parent) {
    parent.replaceChildren(this.head, this.body);
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.body);
  }

  unmount() {
    this.watcher?.disconnect();
  }

  drawHead() {
    this.head.replaceChildren(
      ...this.columns.map((column, i) =>
        element("button", { class: column.number ? "number" : "", onclick: () => this.sortBy(i), "aria-label": `Sort by ${column.title}` },
          column.title + (this.by === i ? (this.down ? " ↓" : " ↑") : "")),
      ),
    );
  }

  sortBy(i) {
    this.down = this.by === i && !this.down;
    this.by = i;
    this.drawHead();
    this.show(this.rows);
  }

  show(rows) {
    const column = this.columns[this.by];
    const text = (r) => [column.cell(r)].flat()[0];
    const key = column.sort || text;
    const keyed = rows.map((r) => [key(r), r]);
    keyed.sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x.name < y.name ? -1 : 1));
    if (this.down) keyed.reverse();
    this.rows = keyed.map(([, r]) => r);
    this.canvas.style.height = `${this.rows.length * rowHeight}px`;
    this.draw();
  }

  /** scrolled keeps the titles above their columns. */
  scrolled() {
    this.head.scrollLeft = this.body.scrollLeft;
    this.draw();
  }

  draw() {
    if (this.rows.length === 0) {
      this.canvas.replaceChildren(element("div", { class: "empty" }, ...[].concat(this.empty())));
      return;
    }
    const first = Math.max(0, Math.floor(this.body.scrollTop / rowHeight) - spare);
    const last = Math.min(this.rows.length, Math.ceil((this.body.scrollTop + this.body.clientHeight) / rowHeight) + spare);
    const shown = [];
    for (let i = first; i < last; i++) shown.push(this.row(this.rows[i], i));
    this.canvas.replaceChildren(...shown);
  }

  row(record, i) {
    const chosen = record.uid === this.chosen;
    const row = element("div", { class: `row${chosen ? " chosen" : ""}`, role: "row", "aria-selected": chosen, onclick: () => this.choose(record, true) },
      ...this.columns.map((column) => {
        const [text, style = ""] = [column.cell(record)].flat();
        return element("span", { class: `${column.number ? "number " : ""}${style}`, title: String(text) }, String(text));
      }));
    row.style.top = `${i * rowHeight}px`;
    return row;
  }

  choose(record, open) {
    this.chosen = record.uid;
    this.draw();
    if (open) this.onOpen(record);
  }

  /** move chooses the row that is so many below the chosen one, and scrolls to it. */
  move(by) {
    if (this.rows.length === 0) return null;
    const now = this.rows.findIndex((r) => r.uid === this.chosen);
    const next = Math.min(this.rows.length - 1, Math.max(0, now < 0 ? 0 : now + by));
    const top = next * rowHeight;
    if (top < this.body.scrollTop) this.body.scrollTop = top;
    if (top + rowHeight > this.body.scrollTop + this.body.clientHeight) this.body.scrollTop = top + rowHeight - this.body.clientHeight;
    this.choose(this.rows[next], false);
    return this.rows[next];
  }

  current() {
    return this.rows.find((r) => r.uid === this.chosen) || null;
  }
}
