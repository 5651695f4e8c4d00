// The page: views, search, keys, and the world that they look at.

import { getJSON } from "./api.js";
import { World } from "./collections.js";
import { login, showKeys } from "./dialogs.js";
import { Drawer } from "./drawer.js";
import { followRates } from "./rates.js";
import { element } from "./table.js";
import { makeViews } from "./views.js";

const by = (id) => document.getElementById(id);

class App {
  constructor() {
    this.world = new World((changed) => this.update(changed));
    this.views = makeViews(this);
    this.drawer = new Drawer(by("drawer"), this);
    this.view = null;
    this.asked = false;
    by("search").addEventListener("input", () => this.view.update());
    by("namespace").addEventListener("change", () => this.update(new Set(Object.keys(this.world))));
    by("help").addEventListener("click", () => showKeys(keys));
    addEventListener("hashchange", () => this.show());
    addEventListener("keydown", (e) => this.key(e));
    setInterval(() => document.hidden || this.view.update(), 10000); // ages
    this.show();
    this.world.start();
    followRates(() => this.view === this.views.services && this.view.update());
    getJSON("/version").then((v) => (by("link").title = `Connection to the API server, ${v.gitVersion}`), () => {});
  }

  show() {
    const name = location.hash.slice(1) in this.views ? location.hash.slice(1) : "overview";
    this.view?.unmount();
    this.view = this.views[name];
    document.title = `${this.view.title} - Wherry`;
    this.view.mount(by("view"));
    this.drawNav();
  }

  drawNav() {
    by("views").replaceChildren(...Object.entries(this.views).map(([name, v]) => {
      const count = v.spec ? this.world.list(v.spec.kinds, (r) => this.inNamespace(r)).length : null;
      return element("a", { href: `#${name}`, "aria-current": v === this.view ? "page" : undefined }, v.title, count === null ? null : element("span", { class: "count" }, String(count)));
    }));
  }

  update(changed) {
    if (this.view.wants(changed)) this.view.update();
    this.drawer.update(changed);
    this.drawNav();
    this.drawLink();
    if (changed.has("namespaces")) this.drawNamespaces();
  }

  drawNamespaces() {
    const select = by("namespace"), now = select.value;
    const names = this.world.list("namespaces").map((n) => n.name).sort();
    select.replaceChildren(element("option", { value: "" }, "all"), ...names.map((n) => element("option", {}, n)));
    select.value = names.includes(now) ? now : "";
  }

  drawLink() {
    const { error, loaded } = this.world.pods;
    if (error?.code === 401 && !this.asked) {
      this.asked = true;
      login();
    }
    by("link").className = error ? "lost" : loaded ? "live" : "";
    by("link").textContent = error ? (error.code ? error.message : "● no connection") : loaded ? "● live" : "connecting";
  }

  inNamespace = (r) => !by("namespace").value || !r.namespace || r.namespace === by("namespace").value;
  filtered = () => Boolean(by("search").value || by("namespace").value);
  matches = (r, text) => this.inNamespace(r) && by("search").value.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));

  open(kind, record, tab) {
    this.drawer.show(kind, record, tab);
  }

  focus() {
    (this.view.table?.body || by("view")).focus({ preventScroll: true });
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || by("dialog").open) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) {
      if (e.key === "Escape" || (e.key === "Enter" && e.target.id === "search")) this.focus();
      return;
    }
    const act = this.action(e.key);
    if (!act) return;
    e.preventDefault();
    act();
  }

  /** action is what a key does now, if anything. */
  action(key) {
    const { table } = this.view;
    const move = (n) => table && (() => {
      const record = table.move(n);
      if (record && this.drawer.open) this.open(this.view.spec.kind(record), record, this.drawer.tab);
    });
    const tab = (name) => {
      const record = this.drawer.record || table?.current();
      return record && (() => this.open(this.drawer.record ? this.drawer.kind : this.view.spec.kind(record), record, name));
    };
    const act = (name) => {
      const open = tab("Summary");
      return open && (() => {
        if (!this.drawer.open) open();
        this.drawer.act(name);
      });
    };
    if (/^[1-6]$/.test(key)) return () => (location.hash = Object.keys(this.views)[key - 1]);
    return {
      "/": () => by("search").focus(), "?": () => showKeys(keys), Escape: this.drawer.open && (() => this.drawer.close()),
      j: move(1), ArrowDown: move(1), k: move(-1), ArrowUp: move(-1), PageDown: move(20), PageUp: move(-20), Home: move(-1e9), End: move(1e9),
      Enter: tab("Summary"), l: tab("Logs"), y: tab("YAML"), e: tab("Events"), t: tab("Start"), s: act("scale"), r: act("restart"), d: act("delete"),
    }[key];
  }
}

const keys = [
  ["1 - 6", "views"], ["/", "search"], ["j  k", "next, previous"], ["Enter", "details"], ["l", "logs"], ["t", "start timings"], ["y", "YAML"], ["e", "events"],
  ["s", "scale"], ["r", "restart"], ["d", "delete"], ["Esc", "close"], ["?", "this list"],
];

globalThis.wherry = new App();
