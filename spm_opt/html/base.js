"use strict";
// What every part of the page uses: the data, how numbers are written, how elements are made.
const DATA = JSON.parse(document.getElementById("data").textContent);
const PLANS = DATA.schedules;

// fields of the records in the data (see spm_opt/html/data.py)
const BUFFER = { name: 0, kind: 1, tensor: 2, offset: 3, size: 4, claim: 5, release: 6, first: 7, last: 8, firstStep: 9, endStep: 10, shares: 11, readers: 12 };
const MOVE = { sort: 0, tensor: 1, buffer: 2, step: 3, need: 4, tile: 5, bytes: 6, start: 7, end: 8 };
const TASK = { layer: 0, step: 1, tile: 2, start: 3, end: 4 };
const STALL = { engine: 0, begin: 1, end: 2, text: 3, done: 4 };
const STEP = { start: 0, end: 1, layers: 2, tiles: 3, axis: 4, halo: 5, depth: 6, channels: 7 };
const MOVES = ["load weights", "load map", "store map"];
const MOVE_COLOURS = ["#E69F00", "#56B4E9", "#CC79A7"];
const COMPUTE_COLOUR = "#009E73", WAIT_COLOUR = "#D55E00", DONE_COLOUR = "#BBBBBB";

const byId = (id) => document.getElementById(id);
const whole = (n) => n.toLocaleString("en-US");
const tiles = (n, axis) => `${n} ${n === 1 ? "tile" : "tiles"} of ${axis}`;
const percent = (x) => (100 * x).toFixed(2) + " %";

function size(bytes) {
  for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (bytes >= unit) return (bytes / unit).toFixed(bytes % unit ? 2 : 0) + " " + name;
  }
  return bytes + " B";
}

// An element; texts become text nodes, so that names from foreign files are never markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function plainTable(heads, rows, caption = null) {
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => (cell instanceof Node && cell.tagName === "TD" ? cell : make("td", {}, cell)))));
  return make("table", {}, caption ? make("caption", {}, caption) : null,
    heads ? make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))) : null,
    make("tbody", {}, ...body));
}

// A change of a number of which less is better, with a sign that needs no colour.
function change(before, after, write = whole) {
  const difference = after - before;
  const share = before ? ` (${difference > 0 ? "+" : ""}${((100 * difference) / before).toFixed(1)} %)` : "";
  const text = difference === 0 ? "same" : (difference > 0 ? "+" : "−") + write(Math.abs(difference)) + share;
  return make("td", { class: difference < 0 ? "better" : difference > 0 ? "worse" : "" }, text);
}

// First place in records, sorted by their field `end`, whose end is behind `value`.
function firstEndingAfter(records, end, value) {
  let low = 0, high = records.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (records[middle][end] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
