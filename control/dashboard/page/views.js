// The views: what each shows of the world.

import { Table, element } from "./table.js";
import { age } from "./time.js";
import { serviceRate } from "./rates.js";

const stateCell = (r) => [r.state, `state ${r.level}`];
const ageColumn = { title: "Age", width: "70px", cell: (r) => [age(r.created), "dim"], sort: (r) => -r.created, number: true };
const nameColumn = { title: "Name", width: "minmax(230px, 3fr)", cell: (r) => [r.name, "name"], sort: (r) => r.name };
const namespaceColumn = { title: "Namespace", width: "minmax(90px, 1fr)", cell: (r) => [r.namespace, "dim"] };

/** view describes a table over kinds; kind(record) is what the drawer opens. */
const tables = {
  pods: {
    title: "Pods", kinds: ["pods"], kind: () => "pods", text: (r) => `${r.name} ${r.state} ${r.node} ${r.ip} ${r.owner}`,
    empty: ["No pods here.", element("br"), element("code", {}, "wherry up --demo")],
    columns: [
      nameColumn, namespaceColumn,
      { title: "Status", width: "minmax(120px, 1fr)", cell: stateCell },
      { title: "Ready", width: "60px", cell: (r) => `${r.ready}/${r.containers}`, sort: (r) => r.ready / r.containers, number: true },
      { title: "Restarts", width: "70px", cell: (r) => [r.restarts, r.restarts ? "" : "dim"], number: true },
      { title: "Node", width: "minmax(80px, 1fr)", cell: (r) => [r.node, "dim"] },
      { title: "IP", width: "120px", cell: (r) => [r.ip, "dim"] },
      ageColumn,
    ],
  },
  nodes: {
    title: "Nodes", kinds: ["nodes"], kind: () => "nodes", text: (r) => `${r.name} ${r.state} ${r.platform}`,
    empty: ["No node has registered yet."],
    columns: [
      nameColumn,
      { title: "Status", width: "minmax(120px, 1fr)", cell: stateCell },
      { title: "Pods", width: "110px", cell: (r, w) => `${r.pods ?? 0} / ${r.capacity}`, sort: (r) => r.pods ?? 0, number: true },
      { title: "Platform", width: "minmax(100px, 1fr)", cell: (r) => r.platform },
      { title: "Runtime", width: "minmax(120px, 1fr)", cell: (r) => [r.runtime, "dim"] },
      { title: "CPU", width: "60px", cell: (r) => r.cpu, number: true },
      { title: "Memory", width: "110px", cell: (r) => [r.memory, "dim"], number: true },
      ageColumn,
    ],
  },
  workloads: {
    title: "Workloads", kinds: ["deployments", "statefulsets", "daemonsets", "jobs", "cronjobs"], kind: (r) => `${r.kind.toLowerCase()}s`,
    text: (r) => `${r.name} ${r.kind} ${r.images} ${r.state}`,
    empty: ["No workloads here.", element("br"), element("code", {}, "kubectl create deployment hello --image=hello:v1")],
    columns: [
      nameColumn, namespaceColumn,
      { title: "Kind", width: "110px", cell: (r) => [r.kind, "dim"] },
      { title: "Status", width: "minmax(110px, 1fr)", cell: stateCell },
      { title: "Ready", width: "80px", cell: (r) => `${r.ready}/${r.wanted}`, sort: (r) => r.ready, number: true },
      { title: "Images", width: "minmax(120px, 2fr)", cell: (r) => [r.images, "dim"] },
      ageColumn,
    ],
  },
  services: {
    title: "Services", kinds: ["services"], kind: () => "services", text: (r) => `${r.name} ${r.type} ${r.ip} ${r.ports}`,
    empty: ["No Services here."],
    columns: [
      nameColumn, namespaceColumn,
      { title: "Type", width: "110px", cell: (r) => [r.type, "dim"] },
      { title: "Address", width: "140px", cell: (r) => r.ip },
      { title: "Ports", width: "minmax(110px, 1fr)", cell: (r) => r.ports },
      { title: "Endpoints", width: "90px", cell: (r) => [`${r.endpoints?.ready ?? 0}/${r.endpoints?.all ?? 0}`, r.endpoints?.ready ? "" : "warn"], sort: (r) => r.endpoints?.ready ?? 0, number: true },
      { title: "Conns/s", width: "80px", cell: (r) => serviceRate(r), sort: (r) => Number(serviceRate(r)) || 0, number: true },
      ageColumn,
    ],
  },
  events: {
    title: "Events", kinds: ["events"], kind: () => "events", text: (r) => `${r.reason} ${r.about} ${r.message}`,
    empty: ["Nothing happened in the last hour."],
    columns: [
      { title: "Seen", width: "60px", cell: (r) => [age(r.at), "dim"], sort: (r) => -r.at, number: true },
      { title: "Reason", width: "minmax(110px, 1fr)", cell: (r) => [r.reason, r.level || "name"] },
      { title: "About", width: "minmax(150px, 2fr)", cell: (r) => r.about },
      { title: "Message", width: "minmax(220px, 5fr)", cell: (r) => [r.message, "dim"] },
      { title: "Count", width: "60px", cell: (r) => r.count, number: true },
    ],
  },
};

/** TableView shows one kind of thing; join adds what other collections know. */
class TableView {
  constructor(spec, app) {
    Object.assign(this, { spec, app, title: spec.title });
    this.table = new Table(spec.columns, {
      onOpen: (r) => app.open(spec.kind(r), r),
      empty: () => {
        const failed = spec.kinds.map((k) => app.world[k].error).find(Boolean);
        if (failed) return [failed.message];
        if (!spec.kinds.every((k) => app.world[k].loaded)) return ["Loading ..."];
        return app.filtered() ? ["Nothing matches."] : spec.empty.map((e) => (e.cloneNode ? e.cloneNode(true) : e));
      },
    });
  }

  mount(parent) {
    this.table.mount(parent);
    this.update();
    this.table.body.focus({ preventScroll: true });
  }

  unmount() {
    this.table.unmount();
  }

  wants(changed) {
    return this.spec.kinds.some((k) => changed.has(k)) || (this.spec.title === "Services" && changed.has("slices")) || (this.spec.title === "Nodes" && changed.has("pods"));
  }

  update() {
    const { world } = this.app;
    if (this.spec.title === "Services") {
      const counts = new Map();
      for (const s of world.slices.records.values()) {
        const key = `${s.namespace}/${s.service}`;
        const sum = counts.get(key) || { ready: 0, all: 0 };
        counts.set(key, { ready: sum.ready + s.ready, all: sum.all + s.all });
      }
      for (const s of world.services.records.values()) s.endpoints = counts.get(`${s.namespace}/${s.name}`);
    }
    if (this.spec.title === "Nodes") countPods(world);
    this.table.show(world.list(this.spec.kinds, (r) => this.app.matches(r, this.spec.text(r))));
  }
}

function countPods(world) {
  const on = new Map();
  for (const p of world.pods.records.values()) on.set(p.node, (on.get(p.node) || 0) + 1);
  for (const n of world.nodes.records.values()) n.pods = on.get(n.name) || 0;
}

/** Overview answers the first question: is everything well? */
class Overview {
  constructor(app) {
    Object.assign(this, { app, title: "Overview", table: null });
    this.root = element("div", { class: "scroll" });
  }

  mount(parent) {
    parent.replaceChildren(this.root);
    this.update();
  }

  unmount() {}

  wants() {
    return true;
  }

  update() {
    const { world } = this.app;
    const pods = world.list("pods", (r) => this.app.inNamespace(r));
    const by = (level) => pods.filter((p) => p.level === level).length;
    const nodes = world.list("nodes");
    const workloads = world.list(tables.workloads.kinds, (r) => this.app.inNamespace(r));
    const recent = world.list("events", (r) => r.level && this.app.inNamespace(r)).sort((a, b) => b.at - a.at).slice(0, 8);
    const card = (view, number, label, style = "") => element("a", { class: "card", href: `#${view}` }, element("b", { class: style }, String(number)), element("small", {}, label));
    countPods(world);
    this.root.replaceChildren(
      element("div", { class: "cards" },
        card("nodes", `${nodes.filter((n) => n.level === "good").length}/${nodes.length}`, "nodes ready", nodes.some((n) => n.level === "bad") ? "bad" : ""),
        card("pods", by("good"), "pods well"),
        card("pods", by("warn"), "pods on their way", by("warn") ? "warn" : ""),
        card("pods", by("bad"), "pods in trouble", by("bad") ? "bad" : ""),
        card("workloads", `${workloads.filter((w) => w.level === "good").length}/${workloads.length}`, "workloads ready"),
        card("services", world.list("services", (r) => this.app.inNamespace(r)).length, "services")),
      element("h2", {}, "Nodes"),
      element("section", { class: "nodes" }, ...nodes.slice(0, 60).map((n) => this.node(n))),
      element("h2", {}, "Warnings of the last hour"),
      element("section", {}, ...(recent.length ? recent.map(eventLine) : [element("p", { class: "dim" }, "None.")])),
    );
  }

  node(n) {
    const meter = element("i");
    meter.style.width = `${Math.min(100, (100 * n.pods) / Math.max(1, n.capacity))}%`;
    return element("a", { class: "card", href: "#nodes", onclick: () => this.app.open("nodes", n) },
      element("div", { class: `state ${n.level}` }, n.name), element("small", {}, [n.platform, n.runtime].filter(Boolean).join(", ")),
      element("div", {}, `${n.pods} of ${n.capacity} pods`), element("div", { class: "meter" }, meter));
  }
}

/** eventLine renders one event for people. */
export function eventLine(e) {
  return element("div", { class: "event" }, element("span", { class: e.level }, `${e.reason} `), element("small", {}, `${e.about}, ${age(e.at)} ago${e.count > 1 ? `, ${e.count} times` : ""}`), element("div", {}, e.message));
}

/** makeViews returns the views by name, in the order of the keys 1 to 6. */
export function makeViews(app) {
  const views = { overview: new Overview(app) };
  for (const name of ["workloads", "pods", "services", "nodes", "events"]) views[name] = new TableView(tables[name], app);
  return views;
}
