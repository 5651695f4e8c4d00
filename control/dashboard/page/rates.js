// Rates of connections per Service, from the proxy's counters in /metrics.

import { send } from "./api.js";

const interval = 5000;
const line = /^wherry_proxy_connections_total\{([^}]*)\} ([\d.e+]+)/gm;
const label = (text, name) => new RegExp(`${name}="([^"]*)"`).exec(text)?.[1] || "";

let last = null;
const rates = new Map();

async function read() {
  const text = await (await send("/metrics", { accept: "text/plain" })).text();
  const counts = new Map();
  for (const [, labels, value] of text.matchAll(line)) {
    const key = `${label(labels, "namespace")}/${label(labels, "service")}`;
    counts.set(key, (counts.get(key) || 0) + Number(value));
  }
  const now = { at: Date.now(), counts };
  if (last) for (const [key, n] of counts) rates.set(key, Math.max(0, ((n - (last.counts.get(key) || 0)) * 1000) / (now.at - last.at)));
  last = now;
}

/** serviceRate is the rate of a Service's connections, "" where none is known. */
export function serviceRate(service) {
  const rate = rates.get(`${service.namespace}/${service.name}`);
  return rate === undefined ? "" : rate.toFixed(rate < 10 ? 1 : 0);
}

/** followRates reads the counters as long as the page is looked at; without the right to, it stops. */
export async function followRates(onChange) {
  for (;;) {
    try {
      if (!document.hidden) {
        await read();
        onChange();
      }
    } catch (error) {
      if (error.code) return;
    }
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}
