// One plan's memory map and lanes, and what the pointer and the keys do in them.

// The axis of time, which all canvases share.
const TIME = {
  begin: 0, end: 1, whole: Math.max(1, ...PLANS.map((plan) => plan.figures.latency_cycles)),
  fit() { this.begin = 0; this.end = this.whole; },
  // `factor` above 1 shows more; `cycle` stays where it is
  zoom(factor, cycle) {
    const span = Math.min(this.whole, Math.max(20, (this.end - this.begin) * factor));
    const share = (cycle - this.begin) / (this.end - this.begin);
    this.place(cycle - share * span, span);
  },
  pan(share) { this.place(this.begin + share * (this.end - this.begin), this.end - this.begin); },
  place(begin, span) {
    this.begin = Math.min(Math.max(0, begin), this.whole - span);
    this.end = this.begin + span;
  },
};

class View {
  constructor(plan, index) {
    this.plan = plan;
    this.index = index;
    this.addresses = { low: 0, high: plan.capacity };
    this.stalls = [0, 1].map((engine) => plan.stalls.filter((s) => s[STALL.engine] === engine));
    // where the name of a buffer has to end: from then on another one lies over it
    this.covered = new Map();
    for (const b of plan.buffers) {
      const host = b[BUFFER.shares];
      if (host >= 0) this.covered.set(host, Math.min(b[BUFFER.first], this.covered.get(host) ?? Infinity));
    }
    this.hovered = -1;
    this.layer = null;
    this.onselect = () => {};
    this.byTime = plan.buffers.map((_, n) => n).sort((a, b) => plan.buffers[a][BUFFER.first] - plan.buffers[b][BUFFER.first]);
    const about = `of ${plan.label}. Arrow keys pan, plus and minus zoom, n and p go through the boxes, Enter shows the layer.`;
    this.map = make("canvas", { class: "map", tabindex: "0", role: "application", "aria-label": `Memory map ${about}` });
    this.lanes = make("canvas", { class: "lanes", tabindex: "0", role: "application", "aria-label": `Timeline ${about}` });
    const caption = `${plan.figures.model} on ${plan.figures.hardware}: ${plan.label}`;
    this.element = make("figure", { "aria-label": caption }, make("figcaption", {}, caption), this.map, this.lanes);
    for (const canvas of [this.map, this.lanes]) this.listen(canvas);
  }

  fit() { this.addresses = { low: 0, high: this.plan.capacity * 1.03 }; }

  paint() {
    const chosen = this.layer === null ? null : new Set(this.plan.uses[this.layer] || []);
    new MapPainter(this, this.map, TIME).paint(chosen, this.hovered);
    new LanePainter(this, this.lanes, TIME).paint(this.layer === null ? null : this.stepsOf(this.layer));
  }

  stepsOf(layer) {
    return new Set(this.plan.steps.map((_, n) => n).filter((n) => this.plan.steps[n][STEP.layers].includes(layer)));
  }

  // ------------------------------------------------------------------ what lies under the pointer

  cycleAt(canvas, x) {
    return TIME.begin + ((x - LEFT) / (canvas.clientWidth - LEFT - RIGHT)) * (TIME.end - TIME.begin);
  }

  addressAt(y) {
    const { low, high } = this.addresses, bottom = this.map.clientHeight - BOTTOM;
    return low + ((bottom - y) / (bottom - TOP)) * (high - low);
  }

  bufferAt(x, y) {
    const cycle = this.cycleAt(this.map, x), address = this.addressAt(y);
    const { buffers } = this.plan, inside = (b, from, to) =>
      b[from] <= cycle && cycle < b[to] && b[BUFFER.offset] <= address && address < b[BUFFER.offset] + b[BUFFER.size];
    // what is drawn later lies on top; what is merely claimed comes last
    for (let n = buffers.length - 1; n >= 0; n--) if (inside(buffers[n], BUFFER.first, BUFFER.last)) return n;
    return buffers.findIndex((b) => inside(b, BUFFER.claim, BUFFER.release));
  }

  // The lane and the record at a point of the timeline.
  recordAt(x, y) {
    const lane = LANES[Math.floor((y - TOP) / LANE_STEP)], cycle = this.cycleAt(this.lanes, x);
    const [records, begin, end] = {
      groups: [this.plan.steps, STEP.start, STEP.end],
      compute: [this.plan.computes, TASK.start, TASK.end],
      "compute waits": [this.stalls[0], STALL.begin, STALL.end],
      DMA: [this.plan.transfers, MOVE.start, MOVE.end],
      "DMA waits": [this.stalls[1], STALL.begin, STALL.end],
    }[lane] || [[], 0, 0];
    const n = firstEndingAfter(records, end, cycle);
    return n < records.length && records[n][begin] <= cycle ? { lane, record: records[n], n } : null;
  }

  // ------------------------------------------------------------------ what a thing is, in words

  describeBuffer(n) {
    const b = this.plan.buffers[n], { texts, kinds } = this.plan;
    const readers = b[BUFFER.readers].map((place) => texts[place]);
    const shown = readers.slice(0, 6).join(", ") + (readers.length > 6 ? ` and ${readers.length - 6} more` : "");
    return [
      `${texts[b[BUFFER.tensor]]} (${kinds[b[BUFFER.kind]][0]})`,
      `${whole(b[BUFFER.size])} B (${size(b[BUFFER.size])}) at offset ${whole(b[BUFFER.offset])}`,
      `lifetime: cycles ${whole(b[BUFFER.first])} to ${whole(b[BUFFER.last])}, claimed ${whole(b[BUFFER.claim])} to ${whole(b[BUFFER.release])}`,
      `steps ${b[BUFFER.firstStep]} to ${b[BUFFER.endStep] - 1}`,
      readers.length ? `read by ${shown}` : "read by no layer: it goes to DRAM",
      b[BUFFER.shares] < 0 ? "" : `in place over ${texts[this.plan.buffers[b[BUFFER.shares]][BUFFER.tensor]]}`,
    ].filter(Boolean).join("\n");
  }

  describeRecord({ lane, record, n }) {
    const { texts } = this.plan, span = (a, b) => `cycles ${whole(a)} to ${whole(b)} (${whole(b - a)})`;
    if (lane === "groups") {
      return `step ${n}: ${record[STEP.layers].map((place) => texts[place]).join(", ")}\n` +
        `${tiles(record[STEP.tiles], record[STEP.axis])}\n${span(record[STEP.start], record[STEP.end])}`;
    }
    if (lane === "compute") return `compute ${texts[record[TASK.layer]]}, step ${record[TASK.step]}, tile ${record[TASK.tile]}\n${span(record[TASK.start], record[TASK.end])}`;
    if (lane === "DMA") {
      const tile = record[MOVE.tile] < 0 ? "" : `, tile ${record[MOVE.tile]}`;
      return `${MOVES[record[MOVE.sort]]} ${texts[record[MOVE.tensor]]}${tile}\n${whole(record[MOVE.bytes])} B for step ${record[MOVE.need]}\n${span(record[MOVE.start], record[MOVE.end])}`;
    }
    const why = record[STALL.done] ? "has nothing left to do" : `waits for ${texts[record[STALL.text]]}`;
    return `${lane.split(" ")[0]} ${why}\n${span(record[STALL.begin], record[STALL.end])}`;
  }

  // The layer that a click on a buffer or a record means: who computes it, else who reads it.
  layerOfBuffer(n) {
    const b = this.plan.buffers[n], tensor = b[BUFFER.tensor];
    const made = this.plan.links.find((link) => link[0] === tensor && this.plan.texts[link[1]]);
    const owner = String(tensor) in this.plan.uses ? tensor : made ? made[1] : b[BUFFER.readers][0];
    return owner === undefined ? Number(Object.keys(this.plan.uses).find((key) => this.plan.uses[key].includes(n))) : owner;
  }

  layerOfRecord({ lane, record }) {
    if (lane === "groups") return record[STEP.layers][0];
    if (lane === "compute") return record[TASK.layer];
    return lane === "DMA" ? this.layerOfBuffer(record[MOVE.buffer]) : null;
  }

  // ------------------------------------------------------------------ pointer and keys

  listen(canvas) {
    let grabbed = null, moved = false;
    canvas.addEventListener("pointerdown", (event) => {
      grabbed = { x: event.offsetX, y: event.offsetY, begin: TIME.begin, low: this.addresses.low };
      moved = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grabbed) return this.hover(canvas, event);
      moved ||= Math.hypot(event.offsetX - grabbed.x, event.offsetY - grabbed.y) > 4;
      return moved ? this.drag(canvas, grabbed, event) : null;
    });
    canvas.addEventListener("pointerup", (event) => {
      if (grabbed && !moved) this.pick(canvas, event.offsetX, event.offsetY);
      grabbed = null;
    });
    canvas.addEventListener("pointercancel", () => { grabbed = null; });
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("wheel", (event) => this.wheel(canvas, event), { passive: false });
    canvas.addEventListener("keydown", (event) => { if (this.key(canvas, event)) event.preventDefault(); });
  }

  hover(canvas, event) {
    const { offsetX: x, offsetY: y } = event;
    const record = canvas === this.lanes ? this.recordAt(x, y) : null;
    const n = canvas === this.map ? this.bufferAt(x, y) : -1;
    if (n !== this.hovered) {
      this.hovered = n;
      schedulePaint();
    }
    if (n >= 0) showTip(this.describeBuffer(n), event.clientX, event.clientY);
    else if (record) showTip(this.describeRecord(record), event.clientX, event.clientY);
    else hideTip();
  }

  leave() {
    this.hovered = -1;
    hideTip();
    schedulePaint();
  }

  drag(canvas, grabbed, event) {
    hideTip();
    const span = TIME.end - TIME.begin, cycles = ((event.offsetX - grabbed.x) / (canvas.clientWidth - LEFT - RIGHT)) * span;
    TIME.place(grabbed.begin - cycles, span);
    if (canvas === this.map) {
      const { low, high } = this.addresses, share = (event.offsetY - grabbed.y) / (canvas.clientHeight - TOP - BOTTOM);
      this.setAddresses(grabbed.low + share * (high - low), high - low);
    }
    schedulePaint();
  }

  pick(canvas, x, y) {
    if (canvas === this.map) {
      const n = this.bufferAt(x, y);
      this.onselect(n < 0 ? null : this.layerOfBuffer(n));
    } else {
      const found = this.recordAt(x, y);
      this.onselect(found ? this.layerOfRecord(found) : null);
    }
  }

  wheel(canvas, event) {
    // the page scrolls on where nobody has asked for the canvas
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    const turn = event.deltaY || event.deltaX, factor = Math.exp(Math.sign(turn) * Math.min(Math.abs(turn), 100) * 0.003);
    if (event.shiftKey && canvas === this.map) this.zoomAddresses(factor, this.addressAt(event.offsetY));
    else TIME.zoom(factor, this.cycleAt(canvas, event.offsetX));
    hideTip();
    schedulePaint();
  }

  zoomAddresses(factor, address) {
    const { low, high } = this.addresses, span = Math.min(this.plan.capacity * 1.03, Math.max(256, (high - low) * factor));
    this.setAddresses(address - ((address - low) / (high - low)) * span, span);
  }

  setAddresses(low, span) {
    const begin = Math.min(Math.max(0, low), this.plan.capacity * 1.03 - span);
    this.addresses = { low: begin, high: begin + span };
  }

  // Whether the key meant something here.
  key(canvas, event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const middle = (TIME.begin + TIME.end) / 2, { low, high } = this.addresses;
    const actions = {
      ArrowLeft: () => TIME.pan(-0.1), ArrowRight: () => TIME.pan(0.1),
      ArrowUp: () => this.setAddresses(low + 0.1 * (high - low), high - low),
      ArrowDown: () => this.setAddresses(low - 0.1 * (high - low), high - low),
      "+": () => TIME.zoom(0.8, middle), "=": () => TIME.zoom(0.8, middle), "-": () => TIME.zoom(1.25, middle),
      "]": () => this.zoomAddresses(0.8, (low + high) / 2), "[": () => this.zoomAddresses(1.25, (low + high) / 2),
      0: () => fitAll(), n: () => this.walk(1), p: () => this.walk(-1),
      Enter: () => this.hovered >= 0 && this.onselect(this.layerOfBuffer(this.hovered)),
      Escape: () => this.onselect(null),
    };
    if (!(event.key in actions)) return false;
    actions[event.key]();
    schedulePaint();
    return true;
  }

  // To the next or the last box in time; it comes into sight, and is read out.
  walk(by) {
    const { byTime, plan } = this, total = byTime.length;
    if (!total) return;
    const at = byTime.indexOf(this.hovered);
    this.hovered = byTime[at < 0 ? (by > 0 ? 0 : total - 1) : (at + by + total) % total];
    const b = plan.buffers[this.hovered], span = TIME.end - TIME.begin;
    if (b[BUFFER.first] < TIME.begin || b[BUFFER.first] > TIME.end) TIME.place(b[BUFFER.first] - span / 3, span);
    const box = this.map.getBoundingClientRect(), x = LEFT + ((b[BUFFER.first] - TIME.begin) / (TIME.end - TIME.begin)) * (box.width - LEFT - RIGHT);
    showTip(this.describeBuffer(this.hovered), box.left + Math.max(x, LEFT), box.top + 40);
    byId("say").textContent = this.describeBuffer(this.hovered);
  }
}

function showTip(text, x, y) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, window.innerWidth - width - 6)) + "px";
  tip.style.top = Math.max(4, y + 16 + height > window.innerHeight ? y - height - 10 : y + 16) + "px";
}

function hideTip() { byId("tip").hidden = true; }
