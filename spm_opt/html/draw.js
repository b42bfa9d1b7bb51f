// Drawing onto canvases: a memory map, and the lanes below it on the same axis of time.
const LEFT = 104, RIGHT = 12, TOP = 8, BOTTOM = 30;
const FONT = "12px system-ui, 'DejaVu Sans', sans-serif";
const LANES = ["groups", "compute", "compute waits", "DMA", "DMA waits"];
const LANE_HIGH = 24, LANE_STEP = 28, LIVE_HIGH = 48;

// Makes the canvas as fine as the screen, and clears it.
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.font = FONT;
  return { context, width, height };
}

function niceStep(span, most) {
  const raw = span / most, unit = 10 ** Math.floor(Math.log10(raw));
  return unit * [1, 2, 5, 10].find((n) => n * unit >= raw);
}

// `texts` beside a cache: measuring thousands of names at every move would be slow.
const WIDTHS = new Map();
function textWidth(context, text) {
  if (!WIDTHS.has(text)) WIDTHS.set(text, context.measureText(text).width);
  return WIDTHS.get(text);
}

// Writes a name in a box, along or up, if it fits.
function nameBox(context, text, x, y, width, height, colour) {
  if (Math.max(width, height) < 24 || Math.min(width, height) < 13) return;
  let shown = text;
  const longest = Math.max(width, height) - 6;
  if (textWidth(context, shown) > longest) shown = "…" + text.slice(-12).replace(/^[./_]+/, "");
  const long = textWidth(context, shown);
  if (long > longest) return;
  context.save();
  context.translate(x + width / 2, y + height / 2);
  if (long > width - 6) context.rotate(-Math.PI / 2);
  context.fillStyle = colour;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(shown, 0, 0);
  context.restore();
}

const DARK = new Set(["#0072B2", "#009E73", "#D55E00"]);
const inkOn = (colour) => (DARK.has(colour) ? "white" : "#1b1b1b");

class Painter {
  constructor(view, canvas, time) {
    Object.assign(this, prepare(canvas), { view, plan: view.plan, time });
    this.scale = (this.width - LEFT - RIGHT) / (time.end - time.begin);
  }

  x(cycle) { return LEFT + (cycle - this.time.begin) * this.scale; }

  clip(height) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(LEFT, TOP, this.width - LEFT - RIGHT, height);
    this.context.clip();
  }

  timeAxis(bottom, labelled) {
    const { context } = this, step = niceStep(this.time.end - this.time.begin, Math.max(3, this.width / 120));
    context.strokeStyle = "#888";
    context.fillStyle = "#333";
    context.textAlign = "center";
    context.textBaseline = "top";
    context.lineWidth = 1;
    for (let t = Math.ceil(this.time.begin / step) * step; t <= this.time.end; t += step) {
      const x = this.x(t);
      context.beginPath();
      context.moveTo(x, bottom);
      context.lineTo(x, bottom + 4);
      context.stroke();
      const last = x > this.width - 60;
      context.textAlign = last ? "right" : "center";
      if (labelled) context.fillText(whole(t) + (t === 0 ? " cycles" : ""), last ? this.width : x, bottom + 6);
    }
  }
}

class MapPainter extends Painter {
  y(address) {
    const { low, high } = this.view.addresses, bottom = this.height - BOTTOM;
    return bottom - ((address - low) / (high - low)) * (bottom - TOP);
  }

  paint(chosen, hovered) {
    const { context, plan } = this, kinds = plan.kinds;
    this.clip(this.height - TOP - BOTTOM);
    context.fillStyle = "#e6e6e6";
    for (const b of plan.buffers) this.box(b, BUFFER.claim, BUFFER.release, (...r) => context.fillRect(...r));
    for (const [n, b] of plan.buffers.entries()) {
      const faded = chosen && !chosen.has(n);
      this.box(b, BUFFER.first, BUFFER.last, (x, y, w, h) => {
        context.globalAlpha = faded ? 0.25 : 1;
        context.fillStyle = kinds[b[BUFFER.kind]][1];
        context.fillRect(x, y, w, h);
        this.edge(b, x, y, w, h);
        if (!faded && w > 12 && h > 12) this.name(n, x, y, w, h);
        context.globalAlpha = 1;
        if (n === hovered || (chosen && chosen.has(n))) this.mark(x, y, w, h, n === hovered);
      });
    }
    this.line(plan.capacity);
    context.restore();
    this.axes();
  }

  // Calls `draw` with the rectangle of a buffer between two of its cycles, if it can be seen.
  box(b, begin, end, draw) {
    if (b[end] < this.time.begin || b[begin] > this.time.end) return;
    const x = this.x(b[begin]), y = this.y(b[BUFFER.offset] + b[BUFFER.size]);
    const width = Math.max(this.x(b[end]) - x, 0.7), height = Math.max(this.y(b[BUFFER.offset]) - y, 0.7);
    if (y < this.height && y + height > 0) draw(x, y, width, height);
  }

  edge(b, x, y, width, height) {
    const { context } = this;
    if (width < 3 || height < 2) return;
    const shared = b[BUFFER.shares] >= 0;
    context.strokeStyle = shared ? "#111" : "white";
    context.lineWidth = shared ? 1.2 : 1;
    context.setLineDash(shared ? [4, 3] : []);
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    context.setLineDash([]);
  }

  mark(x, y, width, height, strong) {
    this.context.strokeStyle = "black";
    this.context.lineWidth = strong ? 3 : 2;
    this.context.strokeRect(x, y, width, height);
  }

  name(n, x, y, width, height) {
    const b = this.plan.buffers[n], end = this.view.covered.has(n) ? this.x(this.view.covered.get(n)) : Infinity;
    const left = Math.max(x, LEFT), right = Math.min(x + width, this.width - RIGHT, end);
    const up = Math.max(y, TOP), down = Math.min(y + height, this.height - BOTTOM);
    const colour = inkOn(this.plan.kinds[b[BUFFER.kind]][1]);
    nameBox(this.context, this.plan.texts[b[BUFFER.tensor]], left, up, right - left, down - up, colour);
  }

  line(address) {
    this.context.strokeStyle = "black";
    this.context.lineWidth = 2;
    this.context.beginPath();
    this.context.moveTo(LEFT, this.y(address));
    this.context.lineTo(this.width - RIGHT, this.y(address));
    this.context.stroke();
  }

  axes() {
    const { context } = this, { low, high } = this.view.addresses, bottom = this.height - BOTTOM;
    let step = 1024;
    while ((high - low) / step > 9) step *= 2;
    while ((high - low) / step < 3 && step > 16) step /= 2;
    context.fillStyle = "#333";
    context.strokeStyle = "#888";
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.strokeRect(LEFT, TOP, this.width - LEFT - RIGHT, bottom - TOP);
    for (let a = Math.ceil(low / step) * step; a <= high; a += step) {
      context.beginPath();
      context.moveTo(LEFT - 4, this.y(a));
      context.lineTo(LEFT, this.y(a));
      context.stroke();
      context.fillText(size(a), LEFT - 7, Math.max(this.y(a), TOP + 4));
    }
    this.timeAxis(bottom, true);
  }
}

class LanePainter extends Painter {
  top(lane) { return TOP + LANE_STEP * LANES.indexOf(lane); }

  paint(chosenSteps) {
    const { context, plan } = this, bottom = TOP + LANE_STEP * LANES.length + LIVE_HIGH;
    this.clip(bottom - TOP);
    this.steps(chosenSteps);
    this.spans("compute", plan.computes, TASK.start, TASK.end, () => COMPUTE_COLOUR);
    this.spans("DMA", plan.transfers, MOVE.start, MOVE.end, (t) => MOVE_COLOURS[t[MOVE.sort]]);
    const waits = (s) => (s[STALL.done] ? DONE_COLOUR : WAIT_COLOUR);
    this.spans("compute waits", this.view.stalls[0], STALL.begin, STALL.end, waits);
    this.spans("DMA waits", this.view.stalls[1], STALL.begin, STALL.end, waits);
    this.live(bottom);
    context.restore();
    context.fillStyle = "#333";
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const lane of LANES) context.fillText(lane, LEFT - 7, this.top(lane) + LANE_HIGH / 2);
    context.fillText("live bytes", LEFT - 7, bottom - LIVE_HIGH / 2);
    this.timeAxis(bottom, true);
  }

  // Rectangles of one lane; those thinner than half a pixel are drawn once for each half pixel.
  spans(lane, records, begin, end, colour) {
    const { context } = this, y = this.top(lane);
    let until = -1;
    for (let n = firstEndingAfter(records, end, this.time.begin); n < records.length; n++) {
      const record = records[n];
      if (record[begin] > this.time.end) break;
      const x = this.x(record[begin]), right = this.x(record[end]);
      if (right < until) continue;
      const width = Math.max(right - x, 0.5);
      context.fillStyle = colour(record);
      context.fillRect(x, y, width, LANE_HIGH);
      if (width > 4) {
        context.fillStyle = "white";
        context.fillRect(x + width - 0.7, y, 0.7, LANE_HIGH);
      }
      if (width > 40) this.label(lane, record, x, y, width);
      until = x + width;
    }
  }

  label(lane, record, x, y, width) {
    const { texts } = this.plan;
    const place = lane === "compute" ? record[TASK.layer] : lane === "DMA" ? record[MOVE.tensor] : record[STALL.text];
    const left = Math.max(x, LEFT), right = Math.min(x + width, this.width - RIGHT);
    const dark = lane === "compute" || (lane !== "DMA" && !record[STALL.done]);
    nameBox(this.context, texts[place], left, y, right - left, LANE_HIGH, dark ? "white" : "#1b1b1b");
  }

  steps(chosen) {
    const { context, plan } = this, y = this.top("groups");
    const first = firstEndingAfter(plan.steps, STEP.end, this.time.begin);
    for (let n = first; n < plan.steps.length; n++) {
      const step = plan.steps[n];
      if (step[STEP.start] > this.time.end) break;
      const x = Math.max(this.x(step[STEP.start]), LEFT), width = Math.min(this.x(step[STEP.end]), this.width - RIGHT) - x;
      const picked = chosen && chosen.has(n);
      context.fillStyle = picked ? "#9ed0ec" : n % 2 ? "#efefef" : "#d9d9d9";
      context.fillRect(x, y, width, LANE_HIGH);
      const names = step[STEP.layers].map((place) => plan.texts[place]);
      const long = names.length > 1 ? `${names[0]} … ${names[names.length - 1]}` : names[0];
      const fits = textWidth(context, long) < width - 6;
      nameBox(context, fits ? long : String(n), x, y, width, LANE_HIGH, "#1b1b1b");
    }
  }

  live(bottom) {
    const { context, plan } = this, curve = plan.live;
    context.beginPath();
    context.moveTo(LEFT, bottom);
    let high = 0;
    for (let n = 0; n < curve.length; n += 2) {
      const x = this.x(curve[n]);
      context.lineTo(x, bottom - high);
      high = (curve[n + 1] / plan.capacity) * (LIVE_HIGH - 6);
      context.lineTo(x, bottom - high);
    }
    context.lineTo(this.x(plan.figures.latency_cycles), bottom);
    context.fillStyle = "#9aa7b1";
    context.fill();
    context.strokeStyle = "black";
    context.lineWidth = 1;
    context.strokeRect(LEFT, bottom - LIVE_HIGH + 6, this.width - LEFT - RIGHT, 0);
  }
}
