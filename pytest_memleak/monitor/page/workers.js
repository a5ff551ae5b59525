// What is known of each process that answers behind this address. All of it is bounded: an open tab may stay for weeks.

const MOST_WORKERS = 12;
const MOST_POINTS = 1500;
const GONE_MS = 300_000;
// The one that is shown; at a restart of the server another is.
const STALE_MS = 30_000;

// How often the whole window is asked for on behalf of a worker that was seen and is not the one that answers.
const TRIES = 6;

export class Workers {
  constructor() {
    this.byPid = new Map();
    this.chosen = null;
    this.minutes = 60;
    this.now = 0;
    this.tries = 0;
    this.colours = 0;
  }

  /** The worker that an answer comes from; the tab's own clock says when, the server's may be another. */
  heard(pid, at) {
    let worker = this.byPid.get(pid);
    if (!worker) {
      worker = { pid, points: [], isFilled: false, colour: this.colours++ % 6 };
      this.byPid.set(pid, worker);
      this.tries = 0;
    }
    worker.heardAt = at;
    this.forgetSilent(at);
    const chosen = this.byPid.get(this.chosen);
    if (!chosen || at - chosen.heardAt > STALE_MS) this.chosen = pid;
    return worker;
  }

  forgetSilent(at) {
    const byAge = [...this.byPid.values()].sort((one, other) => other.heardAt - one.heardAt);
    byAge.forEach((worker, place) => {
      if (place >= MOST_WORKERS || at - worker.heardAt > GONE_MS) this.byPid.delete(worker.pid);
    });
  }

  get all() {
    return [...this.byPid.values()].sort((one, other) => one.pid - other.pid);
  }

  get current() {
    return this.byPid.get(this.chosen);
  }

  /** How many minutes to ask for: all of the window, or what is new to the worker that was heard last longest ago. */
  get wanted() {
    const all = this.all;
    const isAllFilled = all.length > 0 && all.every((worker) => worker.isFilled);
    if (!isAllFilled && this.tries < TRIES) {
      this.tries += 1;
      return this.minutes;
    }
    const last = all.map((worker) => worker.points.at(-1)?.t).filter(Boolean);
    if (!last.length) return this.minutes;
    // The minute more: a reading every few seconds, and an answer that is on its way.
    return Math.min(this.minutes, (this.now - Math.min(...last)) / 60 + 1);
  }

  look(minutes) {
    this.minutes = minutes;
    this.tries = 0;
    for (const worker of this.byPid.values()) worker.isFilled = false;
  }

  add(worker, history, asked) {
    const isWhole = asked >= this.minutes;
    const last = isWhole ? -Infinity : worker.points.at(-1)?.t ?? -Infinity;
    const fresh = history.readings
      .filter((reading) => reading.t > last)
      .map(({ t, rss_bytes: rss, live_bytes: live }) => ({ t, rss, live }));
    worker.points = isWhole ? fresh : worker.points.concat(fresh);
    worker.isFilled ||= isWhole;
    this.now = Math.max(this.now, worker.points.at(-1)?.t ?? 0);
    const since = this.now - this.minutes * 60;
    worker.points = worker.points.filter((point) => point.t >= since);
    // Half as dense rather than half as long.
    while (worker.points.length > MOST_POINTS) worker.points = worker.points.filter((_, place) => place % 2 === 0);
  }
}
