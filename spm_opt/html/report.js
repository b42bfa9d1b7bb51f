// Puts the page together: summary, plots, details of a layer, tables, what would help.
const VIEWS = PLANS.map((plan, n) => new View(plan, n));
const TABLES = [];
const two = PLANS.length > 1;

// ---------------------------------------------------------------- summary

function summaryRows() {
  const ms = (plan, cycles) => `${whole(cycles)} cycles (${((1000 * cycles) / plan.hertz).toFixed(3)} ms)`;
  const f = (plan) => plan.figures, bytes = (n) => `${whole(n)} B (${size(n)})`;
  const same = (name, of) => [name, of, null, null];
  const less = (name, of, write) => [name, (plan) => write(plan, of(plan)), of, (n) => write(null, n)];
  const cycles = (plan, n) => (plan ? ms(plan, n) : whole(n) + " cycles");
  return [
    same("strategy", (p) => `${f(p).strategy}, least ${f(p).objective}`),
    same("status", (p) => `${f(p).status}, gap ${percent(f(p).gap)}`),
    less("latency", (p) => f(p).latency_cycles, cycles),
    less("lower bound", (p) => f(p).latency_lower_bound_cycles, cycles),
    same("roofline", (p) => `${ms(p, f(p).roofline_cycles)}; latency is ${(f(p).latency_cycles / Math.max(1, f(p).roofline_cycles)).toFixed(3)} times that`),
    less("compute busy", (p) => f(p).compute_cycles, cycles),
    less("DRAM traffic", (p) => f(p).dram_bytes.total, (_, n) => bytes(n)),
    less("weights", (p) => f(p).dram_bytes.weights, (_, n) => bytes(n)),
    less("feature maps", (p) => f(p).dram_bytes.feature_maps, (_, n) => bytes(n)),
    less("SPM peak", (p) => f(p).spm_peak_bytes, (p, n) => bytes(n) + (p ? `, ${percent(n / p.capacity)} of ${size(p.capacity)}` : "")),
    same("DRAM bandwidth", (p) => `${p.bandwidth} B/cycle`),
    same("layers", (p) => `${f(p).layers} in ${f(p).groups} groups, ${f(p).fused_layers} fused, ${f(p).pinned_feature_maps} maps pinned`),
    less("recomputed MACs", (p) => f(p).recomputed_macs, (_, n) => whole(n)),
    same("solved in", (p) => `${f(p).solve_seconds.toFixed(1)} s`),
  ];
}

function fillSummary() {
  const rows = summaryRows().map(([name, shown, value, write]) => {
    const cells = [name, ...PLANS.map(shown)];
    if (two) cells.push(value === null ? "" : change(value(PLANS[0]), value(PLANS[1]), write));
    return cells;
  });
  const heads = ["", ...PLANS.map((plan) => plan.label), ...(two ? ["difference"] : [])];
  byId("summary-body").append(plainTable(heads, rows));
  const beside = make("div", { class: "beside" });
  if (DATA.strategies.length > 1) beside.append(strategies());
  VIEWS.forEach((view) => beside.append(longestWaits(view)));
  byId("summary-body").append(beside);
  for (const plan of PLANS) {
    for (const text of plan.figures.warnings) byId("summary-body").append(make("p", { class: "note" }, `warning: ${text}`));
  }
}

// Stalls of one plan by what they wait for, the longest first.
function causesOf(view) {
  const causes = new Map(), { plan } = view, length = (s) => s[STALL.end] - s[STALL.begin];
  for (const s of plan.stalls) {
    const key = `${s[STALL.engine]} ${s[STALL.done] ? "" : s[STALL.text]}`;
    const text = s[STALL.done] ? "nothing left to do" : plan.texts[s[STALL.text]];
    const cause = causes.get(key) || { engine: ["compute", "DMA"][s[STALL.engine]], text, cycles: 0, count: 0, longest: s };
    cause.cycles += length(s);
    cause.count += 1;
    if (length(s) > length(cause.longest)) cause.longest = s;
    causes.set(key, cause);
  }
  return [...causes.values()].sort((a, b) => b.cycles - a.cycles);
}

function longestWaits(view) {
  const latency = Math.max(1, view.plan.figures.latency_cycles);
  const found = causesOf(view).filter((cause) => cause.engine === "compute").slice(0, 6), most = found.length ? found[0].cycles : 1;
  const rows = found.map((c) => [c.text, make("td", { class: "barcell" }, bar(c.cycles, most, WAIT_COLOUR), ` ${percent(c.cycles / latency)}`)]);
  return plainTable(["compute waits for", "share of the latency"], rows, two ? view.plan.label : null);
}

function bar(value, most, colour = "#0072b2") {
  const mark = make("span", { class: "bar", "aria-hidden": "true" });
  mark.style.width = `${Math.round((100 * value) / Math.max(1, most))}px`;
  mark.style.setProperty("--c", colour);
  return mark;
}

function strategies() {
  const found = DATA.strategies, slowest = Math.max(...found.map((s) => s.latency_cycles)), most = Math.max(...found.map((s) => s.dram_bytes.total));
  const rows = found.map((s) => [
    s.strategy, `${s.status}, gap ${percent(s.gap)}`,
    make("td", { class: "barcell" }, bar(s.latency_cycles, slowest), ` ${whole(s.latency_cycles)}`),
    make("td", { class: "barcell" }, bar(s.dram_bytes.total, most, "#e69f00"), ` ${size(s.dram_bytes.total)}`),
    String(s.groups), String(s.pinned_feature_maps),
  ]);
  return plainTable(["strategy", "status", "latency (cycles)", "DRAM traffic", "groups", "pinned"], rows, "Strategies on the same machine");
}

// ---------------------------------------------------------------- plots

let painting = false;
function schedulePaint() {
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    VIEWS.forEach((view) => view.paint());
  });
}

function fitAll() {
  TIME.fit();
  VIEWS.forEach((view) => view.fit());
  schedulePaint();
}

function fillPlots() {
  const kinds = new Map();
  for (const plan of PLANS) for (const b of plan.buffers) kinds.set(...plan.kinds[b[BUFFER.kind]]);
  const shown = [...kinds, ["claimed, idle", "#e6e6e6"], ["compute", COMPUTE_COLOUR], ["waits", WAIT_COLOUR], ["nothing left to do", DONE_COLOUR]];
  for (const [label, colour] of shown) {
    const entry = make("span", {}, label);
    entry.style.setProperty("--c", colour);
    byId("legend").append(entry);
  }
  const dashed = make("span", { class: "dashed" }, "in place over another");
  dashed.style.setProperty("--c", "white");
  byId("legend").append(dashed);
  byId("plots").classList.toggle("two", two);
  for (const view of VIEWS) {
    view.onselect = (layer) => select(view.index, layer);
    byId("plots").append(view.element);
  }
  const middle = () => (TIME.begin + TIME.end) / 2;
  const press = (id, action) => byId(id).addEventListener("click", () => { action(); schedulePaint(); });
  press("zoom-in", () => TIME.zoom(0.6, middle()));
  press("zoom-out", () => TIME.zoom(1 / 0.6, middle()));
  press("pan-left", () => TIME.pan(-0.25));
  press("pan-right", () => TIME.pan(0.25));
  press("fit", fitAll);
  window.addEventListener("resize", schedulePaint);
  window.addEventListener("beforeprint", () => {
    TIME.fit();
    VIEWS.forEach((view) => { view.fit(); view.paint(); });
    ALL_TABLES.forEach((table) => table.more(Infinity));
  });
}

// ---------------------------------------------------------------- one layer

// `layer` is a place in the texts of plan `index`, or null; the other plan shows the same layer.
function select(index, layer) {
  const name = layer === null || layer === undefined || Number.isNaN(layer) ? null : PLANS[index].texts[layer];
  for (const view of VIEWS) {
    const place = name === null ? -1 : view.plan.texts.indexOf(name);
    view.layer = place < 0 || !(place in view.plan.uses) ? null : place;
  }
  for (const table of TABLES) table.mark(name);
  byId("details").replaceChildren(...(name === null ? [] : VIEWS.map((view) => details(view))));
  schedulePaint();
}

function details(view) {
  const { plan, layer } = view;
  if (layer === null) return make("p", { class: "note" }, `${plan.label}: this layer computes nothing here`);
  const { texts } = plan, name = texts[layer], steps = [...view.stepsOf(layer)];
  const group = plan.groups.find((layers) => layers.includes(name)) || [name];
  const moves = plan.transfers.filter((t) => steps.includes(t[MOVE.sort] === 2 ? t[MOVE.step] : t[MOVE.need]));
  const links = plan.links.filter((link) => link[2] === layer).map((link) => `${texts[link[0]]}: ${WAYS[texts[link[3]]]}${texts[link[1]] ? ` (from ${texts[link[1]]})` : ""}`);
  const readers = plan.links.filter((link) => link[1] === layer).map((link) => `${texts[link[2]]} (${WAYS[texts[link[3]]]})`);
  const step = plan.steps[steps[0]], last = plan.steps[steps[steps.length - 1]];
  const line = (label, text) => make("div", {}, make("strong", {}, label + ": "), text);
  return make("div", {},
    make("h3", {}, two ? `${name}, ${plan.label}` : name),
    line("group", group.join(", ")),
    line("steps", `${steps[0]}${steps.length > 1 ? ` to ${steps[steps.length - 1]}` : ""}, ${tiles(step[STEP.tiles], step[STEP.axis])}, depth ${step[STEP.depth]}, halo ${step[STEP.halo]}; cycles ${whole(step[STEP.start])} to ${whole(last[STEP.end])}`),
    line("reads", links.join("; ") || "nothing"), line("read by", readers.join("; ") || "nobody"),
    make("button", { type: "button", onclick: () => { TIME.place(step[STEP.start], Math.max(20, last[STEP.end] - step[STEP.start])); TIME.zoom(1.3, (TIME.begin + TIME.end) / 2); schedulePaint(); } }, "zoom to it"),
    movesTable(moves, texts));
}

const WAYS = { inside: "inside the group", pinned: "kept in SPM", spilled: "from DRAM" };

function movesTable(moves, texts) {
  if (!moves.length) return make("p", { class: "note" }, "its group moves nothing over the DRAM pins");
  const total = moves.reduce((sum, t) => sum + t[MOVE.bytes], 0), shown = moves.slice(0, 200);
  const rows = shown.map((t) => [
    `${MOVES[t[MOVE.sort]]} ${texts[t[MOVE.tensor]]}`, t[MOVE.tile] < 0 ? "whole" : String(t[MOVE.tile]), whole(t[MOVE.bytes]),
    whole(t[MOVE.start]), whole(t[MOVE.end]),
  ]);
  const more = shown.length < moves.length ? `; the first ${shown.length} are shown` : "";
  return make("div", { class: "scroll" }, plainTable(["transfer", "tile", "bytes", "starts", "ends"], rows, `${moves.length} transfers of its group, ${size(total)}${more}`));
}

// ---------------------------------------------------------------- tables

const TITLES = {
  cycles: "of its tiles on the compute engine", spm_bytes: "resident at the fullest of its steps",
  mac_utilisation: "useful MACs over those that the array could do in its cycles", bound_by: "what sets its time",
  energy_fj: "femtojoules of its commands, without leakage",
};

function layersTable(plan, index) {
  const texts = new Set(["layer", "op", "axis", "halo", "bound_by"]);
  // the name first: it is what a row is about
  const order = ["layer", ...plan.columns.filter((name) => name !== "layer")];
  const columns = order.map((name) => ({
    name: name.replaceAll("_", " ").replace("dram", "DRAM").replace("spm", "SPM").replace("mac ", "MAC ").replace(/^macs$/, "MACs"),
    text: texts.has(name), title: TITLES[name],
    write: name === "mac_utilisation" ? percent : null,
  }));
  const places = order.map((name) => plan.columns.indexOf(name));
  const rows = plan.layers.map((row) => places.map((place) => row[place]));
  return new DataTable(columns, rows, {
    label: `layers of ${plan.label}`, choose: order.indexOf("bound_by"), key: 0,
    onpick: (row) => { select(index, plan.texts.indexOf(row[0])); byId("views").scrollIntoView({ block: "start" }); },
  });
}

function differencesTable() {
  const [a, b] = PLANS, column = (name) => a.columns.indexOf(name);
  const [layer, op, cycles, weights, maps, spm] = ["layer", "op", "cycles", "dram_weight_bytes", "dram_feature_map_bytes", "spm_bytes"].map(column);
  const other = new Map(b.layers.map((row) => [row[layer], row]));
  const group = (plan, name) => (plan.groups.find((layers) => layers.includes(name)) || []).length;
  const rows = a.layers.filter((row) => other.has(row[layer])).map((row) => {
    const found = other.get(row[layer]), moved = (r) => r[weights] + r[maps];
    return [row[layer], row[op], row[cycles], found[cycles], found[cycles] - row[cycles], moved(row), moved(found), moved(found) - moved(row), row[spm], found[spm], group(a, row[layer]), group(b, row[layer])];
  });
  const delta = (value) => make("td", { class: value < 0 ? "better" : value > 0 ? "worse" : "" }, value === 0 ? "same" : (value > 0 ? "+" : "−") + whole(Math.abs(value)));
  const columns = [
    { name: "layer", text: true }, { name: "op", text: true }, { name: `cycles, ${a.label}` }, { name: `cycles, ${b.label}` }, { name: "Δ cycles", cell: delta },
    { name: `DRAM bytes, ${a.label}` }, { name: `DRAM bytes, ${b.label}` }, { name: "Δ DRAM bytes", cell: delta },
    { name: `SPM bytes, ${a.label}` }, { name: `SPM bytes, ${b.label}` }, { name: `group of, ${a.label}` }, { name: `group of, ${b.label}` },
  ];
  return new DataTable(columns, rows, { label: "differences by layer", key: 0, onpick: (row) => select(0, a.texts.indexOf(row[0])) });
}

function fillLayers() {
  const place = byId("layers-body");
  const put = (heading, table) => {
    TABLES.push(table);
    if (two) place.append(make("h3", {}, heading));
    place.append(table.element);
  };
  if (two) put("Differences", differencesTable());
  PLANS.forEach((plan, n) => put(plan.label, layersTable(plan, n)));
}

function fillStalls() {
  VIEWS.forEach((view) => {
    const { plan } = view, latency = Math.max(1, plan.figures.latency_cycles), found = causesOf(view);
    const rows = found.map((c) => [c.engine, c.text, c.cycles, c.cycles / latency, c.count, c.longest[STALL.begin], c.longest]);
    const columns = [{ name: "engine", text: true }, { name: "waits for", text: true }, { name: "cycles" }, { name: "share of latency", write: percent }, { name: "stalls" }, { name: "longest from cycle" }];
    if (two) byId("stalls-body").append(make("h3", {}, plan.label));
    byId("stalls-body").append(new DataTable(columns, rows, { label: `stalls of ${plan.label}`, choose: 0, onpick: (row) => zoomTo(row[6]) }).element);
  });
}

function zoomTo(stall) {
  const length = stall[STALL.end] - stall[STALL.begin];
  TIME.place(stall[STALL.begin] - length, Math.max(60, 3 * length));
  schedulePaint();
  byId("views").scrollIntoView({ block: "start" });
}

// ---------------------------------------------------------------- what would help

function fillHelp() {
  const found = DATA.what_if, place = byId("help-body");
  if (found === null) {
    place.append(make("p", { class: "note" }, "Not asked: `spm-opt report … --what-if` plans the network again with more scratchpad and with more bandwidth."));
    return;
  }
  place.append(make("p", { class: "note" }, `Each line is a plan of its own, searched for at most ${found.time_limit} s; the plan above takes ${whole(found.latency_cycles)} cycles, and no plan on its machine takes fewer than ${whole(found.lower_bound_cycles)}.`));
  for (const axis of found.axes) {
    const slowest = Math.max(found.latency_cycles, ...axis.points.map((p) => p.latency_cycles));
    const rows = axis.points.map((p) => [
      p.value, make("td", { class: "barcell" }, bar(p.latency_cycles, slowest), ` ${p.verdict === "none" ? "≤ " : ""}${whole(p.latency_cycles)}`),
      change(found.latency_cycles, p.latency_cycles), size(p.dram_bytes), p.verdict === "none" ? "" : `${p.status}, gap ${percent(p.gap)}`, VERDICTS[p.verdict],
    ]);
    place.append(make("h3", {}, axis.title), make("p", { class: "headline" }, axis.headline), plainTable([axis.name, "latency (cycles)", "against now", "DRAM traffic", "status", "what it says"], rows));
  }
}

const VERDICTS = {
  proven: "faster than any plan on the machine as it is",
  found: "faster than what is known for less",
  none: "nothing faster found; a plan for less runs here too",
};

fillSummary();
fillPlots();
fillLayers();
fillStalls();
fillHelp();
TIME.fit();
VIEWS.forEach((view) => { view.fit(); view.paint(); });
document.body.dataset.ready = Math.round(performance.now());
