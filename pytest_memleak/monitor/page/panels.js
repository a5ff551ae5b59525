// The panels beside the curves. Every word of the server's becomes text, never markup.

import { swatch } from "./curves.js";
import { bytes, clock, count, duration, interval, milliseconds, rate, signed } from "./words.js";

const MOST_ENDPOINTS = 25;
const MOST_TYPES = 12;

// Which worker answers is chance: one that was not asked for so long may be gone.
const SILENT_S = 20;

export const by = (id) => document.getElementById(id);

/** Leaves alone what has not changed: a live region is read out again by a screen reader whenever it is set. */
export function put(id, text) {
  const place = by(id);
  if (place.textContent !== text) place.textContent = text;
}

/** Cells: texts, or {text, words: true} for what is no number, an element too. The first is the row's own head. */
function fill(body, rows) {
  const titles = [...body.parentElement.tHead.rows[0].cells].map((cell) => cell.textContent);
  body.replaceChildren(...rows.map((cells) => rowOf(cells, titles)));
}

function rowOf(cells, titles) {
  const row = document.createElement("tr");
  row.setAttribute("role", "row");
  cells.forEach((content, at) => {
    const cell = document.createElement(at ? "td" : "th");
    cell.setAttribute("role", at ? "cell" : "rowheader");
    if (at) cell.dataset.label = titles[at];
    else cell.scope = "row";
    const { text, words } = typeof content === "object" && "text" in content ? content : { text: content };
    if (words) cell.classList.add("words");
    if (text === NOTHING) cell.classList.add("none");
    cell.append(text);
    row.append(cell);
  });
  return row;
}

function badge(text, kind) {
  const made = document.createElement("span");
  made.className = `badge ${kind}`;
  made.textContent = text;
  return made;
}

const NOTHING = "-";
const KINDS = new Set(["leak", "clean", "inconclusive"]);

export function showUnjudged() {
  put("verdict-word", "not judged yet");
  by("verdict-word").className = "badge inconclusive";
  for (const id of ["verdict-rate", "verdict-why", "verdict-rss", "endpoints-rest"]) put(id, "");
  for (const id of ["verdict-notes", "endpoint-rows"]) by(id).replaceChildren();
}

export function showVerdict(leaks) {
  const word = leaks.severity === "none" ? leaks.verdict : `${leaks.verdict}, ${leaks.severity}`;
  put("verdict-word", word);
  by("verdict-word").className = `badge ${KINDS.has(leaks.verdict) ? leaks.verdict : "inconclusive"}`;
  const basis = leaks.basis.charAt(0).toUpperCase() + leaks.basis.slice(1);
  put("verdict-rate", leaks.mb_per_min.low === null && leaks.mb_per_min.high === null ? "" : trend(leaks));
  put("verdict-why", `${basis}: ${leaks.why || leaks.shape}.`);
  const judged = `Judged on ${count(leaks.readings)} readings of ${duration(leaks.seconds)}.`;
  const rss = leaks.basis === "RSS" ? "" : ` RSS: ${leaks.rss.verdict}, ${trend(leaks.rss)}.`;
  put("verdict-rss", judged + rss);
  const notes = leaks.notes.map((note) => {
    const line = document.createElement("li");
    line.textContent = note;
    return line;
  });
  by("verdict-notes").replaceChildren(...notes);
}

function trend({ mb_per_min: found, basis }) {
  const sure = interval(found, rate);
  return `${basis ? `${basis} ` : ""}${signed(rate(found.value), found.value)} MB/min (99 % interval: ${sure})`;
}

export function showEndpoints(leaks) {
  const ranked = [...leaks.endpoints].sort(
    (one, other) => other.mb_per_min.value - one.mb_per_min.value || other.requests - one.requests,
  );
  // Nothing found while nothing could be told is no acquittal.
  const innocent = leaks.verdict === "inconclusive" ? "cannot be told yet" : "no leak seen";
  const rows = ranked.slice(0, MOST_ENDPOINTS).map((one) => [
    one.endpoints.join(", or "),
    rate(one.mb_per_min.value),
    interval(one.mb_per_min, rate),
    bytes(one.bytes_per_request.value),
    count(one.requests),
    { text: one.leaks ? badge("leaks", "leak") : innocent, words: true },
  ]);
  fill(by("endpoint-rows"), rows);
  const rest = ranked.slice(MOST_ENDPOINTS).reduce((sum, one) => sum + one.mb_per_min.value, 0);
  const more = ranked.length > MOST_ENDPOINTS ? `${ranked.length - MOST_ENDPOINTS} more keep ${rate(rest)} MB/min together. ` : "";
  put("endpoints-rest", `${more}Growth that no request explains: ${rate(leaks.unattributed_mb_per_min)} MB/min.`);
}

export function showProcess(worker, some) {
  const info = worker.process;
  const who = some > 1 ? `Worker ${worker.pid} of ${some}` : `Process ${worker.pid}`;
  if (!info) {
    put("process", who);
    return;
  }
  const fds = info.fds === null ? "" : `, ${count(info.fds)} descriptors`;
  const text = `${who}: ${info.stage}, up ${duration(info.uptime_s)}, ${count(info.requests)} requests` +
    ` (${count(info.in_flight)} inside now), ${count(info.threads)} threads${fds}, Python ${info.python}`;
  put("process", text);
}

export function showGc(stats) {
  const state = stats.enabled ? "On" : "Switched off";
  put("gc-text", `${state}; thresholds ${stats.thresholds.join(", ")}.`);
  const rows = stats.generations.map((one) => [
    `${one.generation}`,
    count(one.collections),
    count(one.collected),
    count(one.uncollectable),
    one.collections ? milliseconds(one.pause_ms_total / one.collections) : "-",
    milliseconds(one.pause_ms_longest),
  ]);
  fill(by("gc-rows"), rows);
}

export function showCollected(found) {
  if (found.declined !== null) {
    put("collect-text", `Process ${found.pid}: ${found.declined}`);
    return;
  }
  const isKnown = found.live_bytes_before !== null && found.live_bytes_after !== null;
  const freed = isKnown ? ` with ${bytes(Math.max(0, found.live_bytes_before - found.live_bytes_after))}` : "";
  const stall = `it stalled the event loop for ${milliseconds(found.stalled_ms)} at most`;
  put("collect-text", `Process ${found.pid} has freed ${count(found.collected)} objects${freed}; ${stall}.`);
}

export function showTypes(growth) {
  if (growth.declined !== null) {
    put("types-text", `Not counted: ${growth.declined}`);
    return;
  }
  const stall = `it stalled the event loop for ${milliseconds(growth.stalled_ms)} at most`;
  put("types-text", `Process ${growth.pid} has ${count(growth.objects)} objects; ${stall}.`);
  const since = growth.baseline_t === null ? "the baseline from now on" : `against ${clock(growth.baseline_t)}`;
  put("types-caption", `Process ${growth.pid} at ${clock(growth.t)}, ${since}`);
  const rows = growth.types.slice(0, MOST_TYPES).map((one) => [
    one.type,
    count(one.count),
    one.delta === null ? "-" : signed(count(one.delta), one.delta),
    one.growth_percent === null ? "-" : `${signed(one.growth_percent.toFixed(1), one.growth_percent)} %`,
    { text: held(one), words: true },
  ]);
  fill(by("type-rows"), rows);
  const more = growth.types.length - rows.length;
  put("types-rest", more > 0 ? `${more} more types${growth.baseline_t === null ? "" : " have grown less, or not"}.` : "");
  by("types-table").hidden = false;
}

function held(one) {
  if (!one.path.length && !one.site) return NOTHING;
  const made = document.createElement("span");
  made.className = "path";
  const site = one.site ? `made at ${one.site}` : "";
  made.textContent = [one.path.join(" → "), site].filter(Boolean).join("; ");
  return made;
}

export function showWorkers(workers, at, choose) {
  const all = workers.all;
  by("workers").hidden = all.length < 2;
  const place = by("worker-choice");
  const known = [...place.querySelectorAll("input")].map((input) => Number(input.value));
  if (known.join() !== all.map((worker) => worker.pid).join()) {
    place.replaceChildren(...all.map((worker) => choice(worker, choose)));
  }
  for (const worker of all) {
    const input = place.querySelector(`input[value="${worker.pid}"]`);
    input.checked = worker.pid === workers.chosen;
    const verdict = worker.leaks ? worker.leaks.verdict : "not judged yet";
    const rss = worker.points.length ? `, RSS ${bytes(worker.points.at(-1).rss)}` : "";
    const silentS = (at - worker.heardAt) / 1000;
    const silent = silentS < SILENT_S ? "" : `, silent for ${duration(silentS)}`;
    const text = `${worker.pid}: ${verdict}${rss}${silent}`;
    const words = input.parentElement.lastElementChild;
    if (words.textContent !== text) words.textContent = text;
  }
}

function choice(worker, choose) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "radio";
  input.name = "worker";
  input.value = worker.pid;
  input.addEventListener("change", () => choose(worker.pid));
  label.append(input, swatch(worker), document.createElement("span"));
  return label;
}
