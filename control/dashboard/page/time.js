// Times and numbers as kubectl prints them.

/** age renders how long ago a time (milliseconds) is. */
export function age(at, now = Date.now()) {
  if (!at) return "";
  const s = Math.max(0, Math.round((now - at) / 1000));
  if (s < 120) return `${s}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  if (s < 172800) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86400)}d`;
}

const units = { ms: 1, s: 1000, "µs": 0.001, us: 0.001 };

/**
 * steps reads the message of a pod's start timings,
 * "started in 4.1 ms: image 0.2 ms, volumes 0.1 ms, ...", into milliseconds.
 */
export function steps(message) {
  const [, rest = ""] = message.split(": ");
  return [...rest.matchAll(/([a-z ]+?) ([\d.]+) (ms|s|µs|us)(?:,|$)/g)].map(([, name, number, unit]) => ({ name: name.trim(), ms: Number(number) * units[unit] }));
}

const suffixes = { m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** quantity reads a Kubernetes quantity such as "10k" or "500m". */
export function quantity(text) {
  const [, number, suffix] = /^([\d.]+(?:e\d+)?)([A-Za-z]*)$/.exec(String(text ?? "")) || [];
  return number === undefined ? 0 : Number(number) * (suffix ? suffixes[suffix] || 0 : 1);
}

/** bytes renders an amount of memory. */
export function bytes(n) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) if (n >= size) return `${(n / size).toPrecision(3)} ${unit}`;
  return `${n} B`;
}
