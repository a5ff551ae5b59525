// Numbers as text, as the command line writes them: 1 MB is 1,000,000 bytes.

export const MB = 1e6;

const UNKNOWN = "not known";

function threeDigits(amount) {
  const size = Math.abs(amount);
  if (size >= 100) return amount.toFixed(0);
  return Number(amount.toPrecision(3)).toString();
}

export function bytes(size) {
  if (size === null || size === undefined || !Number.isFinite(size)) return UNKNOWN;
  for (const [factor, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (Math.abs(size) >= factor * 0.9995) return `${threeDigits(size / factor)} ${unit}`;
  }
  return `${threeDigits(size)} B`;
}

export function signed(text, amount) {
  return amount > 0 ? `+${text}` : text;
}

export function rate(mbPerMin) {
  if (mbPerMin === 0) return "0";
  return Math.abs(mbPerMin) < 0.001 ? mbPerMin.toExponential(1) : threeDigits(mbPerMin);
}

/** An end that is null is unbounded: nothing is known on that side. */
export function interval(found, text) {
  if (found.low === null && found.high === null) return UNKNOWN;
  if (found.low === null) return `at most ${text(found.high)}`;
  if (found.high === null) return `at least ${text(found.low)}`;
  return `${text(found.low)} to ${text(found.high)}`;
}

export function count(number) {
  return number === null || number === undefined ? UNKNOWN : number.toLocaleString("en");
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  if (whole < 172800) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} days`;
}

export function milliseconds(ms) {
  return `${threeDigits(ms)} ms`;
}

export function clock(t) {
  return new Date(t * 1000).toLocaleTimeString("en-GB");
}
