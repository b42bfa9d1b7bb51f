// A table that sorts by any column and is filtered by text and by the values of one column.
const FIRST_ROWS = 120, NEXT_ROWS = 150;
const ALL_TABLES = [];

class DataTable {
  // columns: {name, text?, write?, cell?, title?}; rows: arrays of values; onpick(row) on a click.
  constructor(columns, rows, { label, choose = null, key = null, onpick = null }) {
    Object.assign(this, { columns, rows, choose, key, onpick, label });
    this.order = { column: -1, rising: true };
    // made when first shown: a thousand rows at once would hold up the page
    this.lines = new Array(rows.length);
    this.chosen = null;
    this.pending = [];
    this.body = make("tbody");
    this.count = make("span", { class: "note", "aria-live": "polite" });
    this.filter = make("input", { type: "search", placeholder: "filter: parts of names, all of them", "aria-label": `Filter ${label}`, oninput: () => this.show() });
    this.select = choose === null ? null : this.chooser();
    const head = make("tr", {}, ...columns.map((column, n) => this.head(column, n)));
    this.table = make("table", { "aria-label": label }, make("thead", {}, head), this.body);
    this.heads = [...head.children];
    this.element = make("div", {},
      make("div", { class: "filters" }, this.filter, this.select, this.count),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, this.table));
    ALL_TABLES.push(this);
    this.show();
  }

  chooser() {
    const name = this.columns[this.choose].name;
    const values = [...new Set(this.rows.map((row) => row[this.choose]))].sort();
    return make("select", { "aria-label": name, onchange: () => this.show() },
      make("option", { value: "" }, `${name}: all`), ...values.map((value) => make("option", { value }, String(value))));
  }

  head(column, n) {
    const button = make("button", { type: "button", title: column.title || null, onclick: () => this.sort(n) }, column.name);
    return make("th", { scope: "col", class: column.text ? "text" : "", "aria-sort": "none" }, button);
  }

  line(row) {
    const cells = this.columns.map((column, n) => {
      if (column.cell) return column.cell(row[n], row);
      return make("td", { class: column.text ? "text" : "" }, column.write ? column.write(row[n]) : column.text ? String(row[n]) : whole(row[n]));
    });
    const line = make("tr", {}, ...cells);
    if (this.onpick) {
      line.className = "go";
      line.tabIndex = 0;
      line.addEventListener("click", () => this.onpick(row));
      line.addEventListener("keydown", (event) => this.keys(event, row, line));
    }
    return line;
  }

  keys(event, row, line) {
    const next = { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling }[event.key];
    if (event.key === "Enter") this.onpick(row);
    else if (next) next.focus();
    else return;
    event.preventDefault();
  }

  sort(column) {
    const numbers = !this.columns[column].text;
    // the first click on numbers brings up the largest
    const rising = this.order.column === column ? !this.order.rising : !numbers;
    this.order = { column, rising };
    this.heads.forEach((head, n) => head.setAttribute("aria-sort", n !== column ? "none" : rising ? "ascending" : "descending"));
    this.show();
  }

  show() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const value = this.select ? this.select.value : "";
    const texts = this.columns.map((column, n) => (column.text ? n : -1)).filter((n) => n >= 0);
    const kept = this.rows.map((_, n) => n).filter((n) => {
      const row = this.rows[n];
      if (value !== "" && String(row[this.choose]) !== value) return false;
      const all = texts.map((t) => row[t]).join(" ").toLowerCase();
      return words.every((word) => all.includes(word));
    });
    const { column, rising } = this.order;
    if (column >= 0) {
      const rank = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      kept.sort((a, b) => (rising ? 1 : -1) * rank(this.rows[a][column], this.rows[b][column]) || a - b);
    }
    this.count.textContent = `${kept.length} of ${this.rows.length}`;
    this.body.replaceChildren();
    this.pending = kept;
    this.more(FIRST_ROWS);
  }

  // Adds rows that wait to be shown, and the rest when the page has nothing else to do.
  more(count) {
    const next = this.pending.splice(0, count);
    this.body.append(...next.map((n) => this.lineOf(n)));
    clearTimeout(this.timer);
    if (this.pending.length) this.timer = setTimeout(() => this.more(NEXT_ROWS), 30);
  }

  lineOf(n) {
    this.lines[n] ??= this.line(this.rows[n]);
    this.paint(n);
    return this.lines[n];
  }

  paint(n) { this.lines[n].classList.toggle("chosen", this.chosen !== null && this.rows[n][this.key] === this.chosen); }

  // Marks the rows of a layer.
  mark(value) {
    this.chosen = value;
    this.lines.forEach((_, n) => this.paint(n));
  }
}
