// Asks the endpoints every few seconds, and less often while they do not answer.

import { Curve } from "./curves.js";
import {
  by, put, showCollected, showEndpoints, showGc, showProcess, showTypes, showUnjudged, showVerdict, showWorkers,
} from "./panels.js";
import { clock, milliseconds } from "./words.js";
import { Workers } from "./workers.js";

const PATIENCE_MS = 15_000;
const LEAST_MS = 2_000;
const MOST_MS = 60_000;
const COUNT_MS = 60_000;

// By this the server knows a request of this page from a form of another one that the cookie was sent with.
const HEADERS = { "X-Memleak": "page" };

class Refused extends Error {
  constructor(status, detail, waitS) {
    super(detail);
    this.status = status;
    this.waitS = waitS;
  }
}

const workers = new Workers();
const curves = [new Curve(by("rss"), "RSS", "rss"), new Curve(by("live"), "Live heap", "live")];
let everyMs = 5_000;
let failures = 0;
let timer = 0;
let asking = false;
let counted = 0;
let isDeclined = false;

async function ask(path, method = "GET") {
  const options = { method, headers: HEADERS, cache: "no-store", credentials: "same-origin" };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const detail = typeof told.detail === "string" ? told.detail : "";
    throw new Refused(answer.status, detail, Number(answer.headers.get("Retry-After")) || 0);
  }
  const found = await answer.json();
  if (typeof found.pid !== "number") throw new Refused(answer.status, "the answer is not the monitor's", 0);
  return found;
}

function inWords(error) {
  if (error.name === "TimeoutError") return `The server has not answered within ${PATIENCE_MS / 1000} seconds.`;
  if (!(error instanceof Refused)) {
    return error instanceof TypeError ? "The server cannot be reached." : `The answer cannot be read: ${error.message}`;
  }
  const detail = error.detail || error.message;
  if (error.status === 401) return "The server asks for the token again (401): load this page anew to enter it.";
  if (error.status === 403) {
    return "The server does not admit this browser (403). Without a token the monitor answers its own machine only:" +
      " open an SSH tunnel to it, or set a token.";
  }
  if (error.status === 404) return "The monitor is not here any more (404): the app may run without it now.";
  if (error.status === 429) return `The server asks to wait (429): ${detail}`;
  return `The server answered ${error.status}${detail ? `: ${detail}` : ""}.`;
}

/** All at once, on connections of their own: of several workers more than one is heard. */
async function poll() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  const asked = workers.wanted;
  const paths = [`history?minutes=${asked}`, "leaks", "process-info", "gc-stats"];
  const [history, leaks, process, gc] = await Promise.allSettled(paths.map((path) => ask(path)));
  asking = false;
  const at = Date.now();
  note(history, at, (worker, value) => {
    workers.add(worker, value, asked);
    everyMs = Math.max(LEAST_MS, Math.min(MOST_MS, value.interval_s * 1000));
  });
  note(leaks, at, (worker, value) => (worker.leaks = value));
  note(process, at, (worker, value) => (worker.process = value));
  note(gc, at, (worker, value) => (worker.gc = value));
  settle([history, leaks, process, gc]);
}

function note(result, at, take) {
  if (result.status === "fulfilled") take(workers.heard(result.value.pid, at), result.value);
}

function settle(results) {
  const answers = results.filter((result) => result.status === "fulfilled").map((result) => result.value);
  // Too costly just now is no trouble: the last verdict stays.
  const errors = results.filter((result) => result.status === "rejected").map((result) => result.reason);
  const serious = errors.filter((error) => error.status !== 429);
  failures = serious.length ? failures + 1 : 0;
  tell(serious[0]);
  const waitMs = Math.min(MOST_MS, everyMs * 2 ** Math.min(failures, 6));
  if (answers.length) {
    by("figures").hidden = false;
    const stall = Math.max(...answers.map((answer) => answer.stalled_ms));
    put("cost", `These answers stalled the event loop for ${milliseconds(stall)} at most; asked every ${waitMs / 1000} s.`);
    put("state", `Updated ${clock(Date.now() / 1000)}`);
    show();
  } else {
    workers.chosen = null; // after a restart another process answers
    put("state", `Trying again in ${Math.round(waitMs / 1000)} s`);
  }
  later(waitMs);
}

function tell(error) {
  by("problem").hidden = error === undefined;
  put("problem", error === undefined ? "" : inWords(error));
}

function later(waitMs) {
  clearTimeout(timer);
  // Nobody looks at a hidden tab.
  if (!document.hidden) timer = setTimeout(poll, waitMs * (0.9 + Math.random() * 0.2));
}

function show() {
  const worker = workers.current;
  showProcess(worker, workers.all.length);
  if (worker.leaks) {
    showVerdict(worker.leaks);
    showEndpoints(worker.leaks);
  } else {
    showUnjudged();
  }
  if (worker.gc) showGc(worker.gc);
  showWorkers(workers, Date.now(), (pid) => {
    workers.chosen = pid;
    show();
  });
  redraw();
}

function redraw() {
  if (workers.current) for (const curve of curves) curve.draw(workers);
}

async function countObjects(isBaseline) {
  const buttons = [by("count"), by("baseline")];
  if (buttons[0].disabled) return;
  for (const button of buttons) button.disabled = true;
  put("types-text", "Counting …");
  try {
    if (isBaseline) await ask("growth/baseline", "POST");
    showTypes(await ask("growth"));
  } catch (error) {
    put("types-text", inWords(error));
  }
  for (const button of buttons) button.disabled = false;
}

async function collectGarbage() {
  const button = by("collect");
  if (button.disabled) return;
  button.disabled = true;
  put("collect-text", "Collecting …");
  try {
    const found = await ask(isDeclined ? "gc-collect?force=true" : "gc-collect", "POST");
    isDeclined = found.declined !== null;
    showCollected(found);
  } catch (error) {
    put("collect-text", inWords(error));
  }
  put("collect", isDeclined ? "Collect all the same" : "Collect garbage");
  button.disabled = false;
}

by("forget").addEventListener("click", async () => {
  const options = { method: "POST", body: new URLSearchParams({ token: "" }), redirect: "manual" };
  await fetch("./", options).catch(() => undefined);
  location.reload(); // and with it everything that it has shown
});
by("window").addEventListener("change", (event) => {
  workers.look(Number(event.target.value));
  poll();
});
by("count").addEventListener("click", () => countObjects(false));
by("baseline").addEventListener("click", () => countObjects(true));
by("collect").addEventListener("click", collectGarbage);
by("repeat").addEventListener("change", (event) => {
  clearInterval(counted);
  if (event.target.checked) counted = setInterval(() => document.hidden || countObjects(false), COUNT_MS);
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));
addEventListener("resize", redraw);
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", redraw);
}
poll();
