// Curves as SVG, with the same in words and as a table for who does not see them.

import { bytes, clock, duration, MB, signed } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

// Less than this is what any process moves by: drawn over the whole height it would look like news.
const LEAST_RANGE = MB;

const MARGIN = { left: 64, right: 10, top: 12, bottom: 24 };
const ROWS = 8;

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Round steps: 1, 2 or 5 times a power of ten. */
function ticks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(tick);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step / MB))) };
}

export function swatch(worker) {
  const drawn = shape("svg", { viewBox: "0 0 28 12", class: "swatch", "aria-hidden": "true" });
  drawn.append(shape("path", { d: "M0 6H28", class: `curve c${worker.colour}` }));
  return drawn;
}

export class Curve {
  constructor(figure, name, key) {
    this.name = name;
    this.key = key;
    this.drawing = shape("svg", { role: "img" });
    this.words = document.createElement("p");
    this.words.className = "fine";
    this.details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = `${name} as a table`;
    this.table = document.createElement("table");
    this.details.append(summary, this.table);
    figure.append(this.drawing, this.words, this.details);
  }

  draw(workers) {
    const lines = workers.all
      .map((worker) => ({ worker, points: worker.points.filter((point) => point[this.key] !== null) }))
      .filter((line) => line.points.length > 0);
    const own = lines.find((line) => line.worker === workers.current);
    const none = workers.current.points.length ? "cannot be read in this process now" : "no reading yet";
    const words = own ? this.say(own.points, own.worker, lines.length) : `${this.name}: ${none}.`;
    this.words.textContent = words;
    this.drawing.setAttribute("aria-label", words);
    this.drawing.replaceChildren();
    if (lines.length) this.trace(lines, workers);
    if (this.details.open || !this.table.rows.length) this.list(own ? own.points : []);
  }

  say(points, worker, drawn) {
    const first = points[0];
    const last = points.at(-1);
    const change = last[this.key] - first[this.key];
    const levels = points.map((point) => point[this.key]);
    const who = drawn > 1 ? ` of worker ${worker.pid}` : "";
    return `${this.name}${who}: ${bytes(last[this.key])} now, ${signed(bytes(change), change)} in` +
      ` ${duration(last.t - first.t)}; lowest ${bytes(Math.min(...levels))}, highest ${bytes(Math.max(...levels))}.`;
  }

  trace(lines, workers) {
    const { width, height } = this.drawing.getBoundingClientRect();
    if (!width) return;
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const scale = this.scale(lines, workers, width, height);
    this.frame(scale, width, height);
    for (const { worker, points } of lines) {
      const kind = `c${worker.colour}${worker === workers.current ? "" : " other"}`;
      const path = points.map((point, at) => `${at ? "L" : "M"}${scale.x(point.t)} ${scale.y(point[this.key])}`);
      this.drawing.append(shape("path", { d: path.join(""), class: `curve ${kind}` }));
      const last = points.at(-1);
      this.drawing.append(
        shape("circle", { cx: scale.x(last.t), cy: scale.y(last[this.key]), r: 3.5, class: `end ${kind}` }),
      );
    }
  }

  scale(lines, workers, width, height) {
    const all = lines.flatMap((line) => line.points);
    const to = workers.now;
    const from = Math.min(all.reduce((least, point) => Math.min(least, point.t), to), to - 10);
    let low = all.reduce((least, point) => Math.min(least, point[this.key]), Infinity);
    let high = all.reduce((most, point) => Math.max(most, point[this.key]), 0);
    const room = Math.max(LEAST_RANGE - (high - low), (high - low) * 0.1) / 2;
    low = Math.max(0, low - room);
    high += room;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const x = (t) => (MARGIN.left + ((t - from) / (to - from)) * (right - MARGIN.left)).toFixed(1);
    const y = (level) => (bottom - ((level - low) / (high - low)) * (bottom - MARGIN.top)).toFixed(1);
    return { from, to, low, high, right, bottom, x, y };
  }

  frame(scale, width, height) {
    const { found, digits } = ticks(scale.low, scale.high, height / 36);
    for (const level of found) {
      const y = scale.y(level);
      this.drawing.append(shape("path", { d: `M${MARGIN.left} ${y}H${scale.right}`, class: "grid" }));
      const text = `${(level / MB).toFixed(digits)} MB`;
      const place = { x: MARGIN.left - 6, y, "text-anchor": "end", "dominant-baseline": "middle", class: "label" };
      this.drawing.append(shape("text", place, text));
    }
    const y = height - 6;
    const begin = shape("text", { x: MARGIN.left, y, class: "label" }, clock(scale.from));
    const end = shape("text", { x: scale.right, y, "text-anchor": "end", class: "label" }, clock(scale.to));
    this.drawing.append(begin, end);
  }

  list(points) {
    const step = Math.max(1, Math.ceil((points.length - 1) / (ROWS - 1)));
    const some = points.filter((_, at) => (points.length - 1 - at) % step === 0);
    const caption = document.createElement("caption");
    caption.textContent = `${this.name} of the chosen worker, some readings of the window`;
    this.table.replaceChildren(caption);
    const head = this.table.createTHead().insertRow();
    for (const title of ["Time", this.name]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    const body = this.table.createTBody();
    for (const point of some) {
      const row = body.insertRow();
      row.insertCell().textContent = clock(point.t);
      row.insertCell().textContent = bytes(point[this.key]);
    }
  }
}
