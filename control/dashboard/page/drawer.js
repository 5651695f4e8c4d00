// Details of one object: summary, start, logs, YAML, events, and actions.

import { getJSON, lines, send } from "./api.js";
import { pathOf } from "./collections.js";
import { ask, notice } from "./dialogs.js";
import { element } from "./table.js";
import { age, steps } from "./time.js";
import { eventLine } from "./views.js";
import { toYAML } from "./yaml.js";

const scalable = new Set(["deployments", "statefulsets"]);
const restartable = new Set(["deployments", "statefulsets", "daemonsets"]);
const maxLines = 5000;

export class Drawer {
  constructor(root, app) {
    Object.assign(this, { root, app, record: null, kind: "", tab: "" });
    this.ending = new AbortController();
  }

  get open() {
    return !this.root.hidden;
  }

  show(kind, record, tab = "Summary") {
    Object.assign(this, { kind, record });
    this.root.hidden = false;
    const tabs = ["Summary", ...(kind === "pods" ? ["Start", "Logs"] : []), "YAML", "Events"];
    this.panel = element("div", { id: "panel", role: "tabpanel" });
    this.tabs = element("div", { class: "tabs", role: "tablist" }, ...tabs.map((t) => element("button", { role: "tab", onclick: () => this.select(t) }, t)));
    this.root.replaceChildren(
      element("div", { class: "top" },
        element("div", { class: "title" }, element("h2", {}, record.name, element("div", { class: "dim" }, `${kind}${record.namespace && ` in ${record.namespace}`}`)),
          element("button", { class: "quiet", "aria-label": "Close", onclick: () => this.close() }, "✕")),
        this.actions(), this.tabs),
      this.panel);
    this.select(tabs.includes(tab) ? tab : "Summary");
  }

  close() {
    this.ending.abort();
    this.root.hidden = true;
    this.record = null;
    this.app.focus();
  }

  select(tab) {
    this.ending.abort();
    this.ending = new AbortController();
    this.tab = tab;
    for (const b of this.tabs.children) b.setAttribute("aria-selected", b.textContent === tab);
    const fill = { Summary: () => this.summary(), Start: () => this.start(), Logs: () => this.logs(), YAML: () => this.yaml(), Events: () => this.events() }[tab];
    this.panel.replaceChildren(element("p", { class: "dim" }, "Loading ..."));
    Promise.resolve(fill()).catch((error) => {
      if (error.name !== "AbortError") this.panel.replaceChildren(element("p", { class: "bad" }, error.message));
    });
  }

  /** update redraws what follows the world. */
  update(changed) {
    if (!this.open) return;
    if (changed.has(this.kind)) {
      const now = this.app.world[this.kind].records.get(this.record.uid);
      if (!now) return void (this.tab !== "Logs" && this.close());
      const before = JSON.stringify(this.record);
      this.record = now;
      if (this.tab === "Summary" && JSON.stringify(now) !== before) this.summary().catch(() => {});
    }
    if (changed.has("events") && (this.tab === "Events" || this.tab === "Start")) this[this.tab.toLowerCase()]();
  }

  get = (sub) => getJSON(pathOf(this.kind, this.record, sub), { signal: this.ending.signal });

  about = () => this.app.world.list("events", (e) => e.aboutUID === this.record.uid).sort((a, b) => b.at - a.at);

  async summary() {
    const object = await this.get();
    const rows = [["Created", `${age(Date.parse(object.metadata.creationTimestamp))} ago`]];
    const add = (label, value) => value && rows.push([label, value]);
    add("Status", this.record.state && element("span", { class: `state ${this.record.level}` }, this.record.state));
    for (const key of ["owner", "node", "ip", "platform", "runtime", "version", "type", "ports", "images"]) add(key[0].toUpperCase() + key.slice(1), this.record[key]);
    if (this.record.wanted !== undefined) add("Ready", `${this.record.ready} of ${this.record.wanted}`);
    add("Message", object.status?.message);
    for (const [key, value] of Object.entries(object.metadata.labels || {})) add(key, value);
    for (const c of object.status?.containerStatuses || []) {
      const state = Object.entries(c.state || {})[0] || ["", {}];
      add(c.name, `${state[0]}${state[1].reason ? ` (${state[1].reason})` : ""}, ${c.image}, ${c.restartCount} restarts${state[1].message ? `: ${state[1].message}` : ""}`);
    }
    for (const c of object.status?.conditions || []) add(c.type, element("span", { title: c.message || "" }, `${c.status}${c.reason ? `, ${c.reason}` : ""}, for ${age(Date.parse(c.lastTransitionTime))}`));
    this.panel.replaceChildren(element("dl", {}, ...rows.flatMap(([k, v]) => [element("dt", {}, k), element("dd", {}, v)])));
  }

  /** start shows where the time of the pod's start went, from the agent's event. */
  start() {
    const timing = this.about().find((e) => e.reason === "StartTimings");
    if (!timing) return this.panel.replaceChildren(element("p", { class: "dim" }, "The node has not told how this pod started, or its event is older than an hour."));
    const legs = steps(timing.message);
    const total = legs.reduce((sum, s) => sum + s.ms, 0) || 1;
    let begun = 0;
    const cells = legs.flatMap((s, i) => {
      const bar = element("div", { class: "bar" });
      bar.style.left = `${(100 * begun) / total}%`;
      bar.style.width = `${(100 * s.ms) / total}%`;
      bar.style.background = `var(--step-${i % 6})`;
      begun += s.ms;
      return [element("span", {}, s.name), element("div", { class: "track" }, bar), element("span", { class: "number" }, `${s.ms.toPrecision(3)} ms`)];
    });
    this.panel.replaceChildren(element("p", {}, timing.message.split(": ")[0]), element("div", { class: "waterfall" }, ...cells));
  }

  events() {
    const list = this.about();
    this.panel.replaceChildren(...(list.length ? list.map(eventLine) : [element("p", { class: "dim" }, "None in the last hour.")]));
  }

  async yaml() {
    const text = toYAML(await this.get());
    const pre = element("pre");
    for (const line of text.split("\n")) {
      const key = /^(\s*(?:- )*)([^\s:"][^:]*:)(.*)$/.exec(line);
      pre.append(...(key ? [key[1], element("span", { class: "key" }, key[2]), key[3]] : [line]), "\n");
    }
    this.panel.replaceChildren(element("div", { class: "actions" }, element("button", { onclick: () => navigator.clipboard?.writeText(text).then(() => notice("Copied.")) }, "Copy")), pre);
  }

  async logs() {
    const { spec } = await this.get();
    const { signal } = this.ending;
    const names = [...(spec.initContainers || []), ...spec.containers].map((c) => c.name);
    const choice = element("select", { "aria-label": "Container", onchange: () => read(choice.value) }, ...names.map((n) => element("option", {}, n)));
    choice.value = spec.containers[0].name;
    const pre = element("pre");
    this.panel.replaceChildren(element("div", { class: "actions" }, choice), pre);
    let current = null;
    const read = async (container) => {
      current?.abort();
      const mine = (current = new AbortController());
      signal.addEventListener("abort", () => mine.abort());
      pre.replaceChildren();
      try {
        const response = await send(pathOf("pods", this.record, `log?follow=true&tailLines=500&container=${encodeURIComponent(container)}`), { accept: "*/*", signal: mine.signal });
        for await (const line of lines(response)) {
          const below = this.panel.scrollHeight - this.panel.scrollTop - this.panel.clientHeight < 40;
          pre.append(`${line}\n`);
          while (pre.childNodes.length > maxLines) pre.firstChild.remove();
          if (below) this.panel.scrollTop = this.panel.scrollHeight;
        }
        pre.append(element("span", { class: "dim" }, "(end)"));
      } catch (error) {
        if (error.name !== "AbortError") pre.append(element("span", { class: "bad" }, error.message));
      }
    };
    await read(choice.value);
  }

  actions() {
    const button = (text, act, style = "") => element("button", { class: style, onclick: () => this.act(act) }, text);
    return element("div", { class: "actions" },
      scalable.has(this.kind) ? button("Scale", "scale") : null,
      restartable.has(this.kind) ? button("Restart", "restart") : null,
      this.kind === "events" || this.kind === "nodes" ? null : button("Delete", "delete", "danger"));
  }

  /** act does what a button or key asks for, as far as the kind has it. */
  async act(name) {
    const { kind, record } = this;
    const possible = { scale: scalable.has(kind), restart: restartable.has(kind), delete: kind !== "events" && kind !== "nodes" };
    if (!record || !possible[name]) return;
    try {
      if (name === "scale") await scale(kind, record);
      else if (name === "restart") await restart(kind, record);
      else await remove(kind, record);
    } catch (error) {
      notice(error.message, true);
    }
  }
}

const merge = "application/merge-patch+json";

async function scale(kind, record) {
  const answer = await ask(`Scale ${record.name}`, { label: "Replicas", value: String(record.wanted), type: "number", action: "Scale" });
  if (answer === null) return;
  const replicas = Number(answer);
  if (!Number.isInteger(replicas) || replicas < 0) throw new Error(`"${answer}" is no number of replicas`);
  await send(pathOf(kind, record, "scale"), { method: "PATCH", type: merge, body: { spec: { replicas } } });
  notice(`${record.name} is to have ${replicas} replicas.`);
}

async function restart(kind, record) {
  if ((await ask(`Restart all pods of ${record.name}?`, { action: "Restart" })) === null) return;
  const annotations = { "kubectl.kubernetes.io/restartedAt": new Date().toISOString() };
  await send(pathOf(kind, record), { method: "PATCH", type: merge, body: { spec: { template: { metadata: { annotations } } } } });
  notice(`${record.name} restarts.`);
}

async function remove(kind, record) {
  if ((await ask(`Delete ${record.name}?`, { action: "Delete", danger: true })) === null) return;
  await send(pathOf(kind, record), { method: "DELETE", body: { propagationPolicy: "Background" } });
  notice(`${record.name} is deleted.`);
}
