// What the page knows: per kind a map of small records, filled by a list and a
// watch. A whole object is fetched only when somebody looks at it, so that ten
// thousand pods fit into a page.

import { follow } from "./api.js";
import { bytes, quantity } from "./time.js";

const age = (meta) => Date.parse(meta.creationTimestamp) || 0;
const base = (o) => ({ uid: o.metadata.uid, name: o.metadata.name, namespace: o.metadata.namespace || "", created: age(o.metadata) });

/** podState is what kubectl prints in the column STATUS, and how bad that is. */
export function podState(pod) {
  const statuses = pod.status?.containerStatuses || [];
  let text = pod.status?.reason || pod.status?.phase || "Unknown";
  for (const s of [...(pod.status?.initContainerStatuses || []), ...statuses]) {
    const reason = s.state?.waiting?.reason || (s.state?.terminated && s.state.terminated.reason);
    if (reason && reason !== "Completed") text = reason;
  }
  if (pod.metadata.deletionTimestamp) text = "Terminating";
  if (/^(Running|Succeeded|Completed)$/.test(text)) {
    const ready = (pod.status?.conditions || []).some((c) => c.type === "Ready" && c.status === "True");
    return [text, ready || text !== "Running" ? "good" : "warn"];
  }
  return [text, /Err|Error|BackOff|Failed|Killed|Invalid|Evicted|Unknown/.test(text) ? "bad" : "warn"];
}

function pod(o) {
  const statuses = o.status?.containerStatuses || [];
  const [state, level] = podState(o);
  const owner = o.metadata.ownerReferences?.[0];
  return {
    ...base(o), state, level, ready: statuses.filter((s) => s.ready).length, containers: o.spec.containers.length,
    restarts: statuses.reduce((n, s) => n + s.restartCount, 0), node: o.spec.nodeName || "", ip: o.status?.podIP || "",
    owner: owner ? `${owner.kind}/${owner.name}` : "",
  };
}

function node(o) {
  const ready = (o.status?.conditions || []).find((c) => c.type === "Ready");
  const info = o.status?.nodeInfo || {};
  let state = ready?.status === "True" ? "Ready" : "NotReady";
  if (o.spec?.unschedulable) state += ", cordoned";
  return {
    ...base(o), state, level: ready?.status === "True" ? (o.spec?.unschedulable ? "warn" : "good") : "bad",
    platform: [info.operatingSystem, info.architecture].filter(Boolean).join("/"), runtime: info.containerRuntimeVersion || "", version: info.kubeletVersion || "",
    capacity: quantity(o.status?.allocatable?.pods), cpu: o.status?.allocatable?.cpu || "", memory: bytes(quantity(o.status?.allocatable?.memory)),
  };
}

const workload = (kind, counts) => (o) => {
  const [ready, wanted] = counts(o);
  const images = (o.spec.template || o.spec.jobTemplate?.spec.template)?.spec.containers.map((c) => c.image).join(", ") || "";
  return { ...base(o), kind, ready, wanted, images, level: ready >= wanted ? "good" : "warn", state: ready >= wanted ? "Ready" : "Progressing" };
};

function job(o) {
  const done = (o.status?.conditions || []).find((c) => c.status === "True" && /^(Complete|Failed)$/.test(c.type));
  const record = workload("Job", () => [o.status?.succeeded || 0, o.spec.completions ?? 1])(o);
  return { ...record, state: done?.type || "Running", level: done?.type === "Failed" ? "bad" : done ? "good" : "warn" };
}

function service(o) {
  return {
    ...base(o), type: o.spec.type, ip: o.spec.clusterIP || o.spec.externalName || "",
    ports: (o.spec.ports || []).map((p) => `${p.port}${p.nodePort ? `:${p.nodePort}` : ""}/${p.protocol}`).join(", "),
  };
}

function slice(o) {
  const endpoints = o.endpoints || [];
  return {
    ...base(o), service: o.metadata.labels?.["kubernetes.io/service-name"] || "",
    ready: endpoints.filter((e) => e.conditions?.ready !== false).length, all: endpoints.length,
  };
}

function event(o) {
  const about = o.involvedObject || {};
  return {
    ...base(o), type: o.type, reason: o.reason, message: o.message, count: o.count || o.series?.count || 1,
    about: `${about.kind}/${about.name}`, aboutUID: about.uid, source: o.source?.component || o.reportingComponent || "",
    at: Date.parse(o.lastTimestamp || o.eventTime || o.firstTimestamp || o.metadata.creationTimestamp) || 0,
    level: o.type === "Warning" ? "warn" : "",
  };
}

const apps = "/apis/apps/v1/", batch = "/apis/batch/v1/";

/** kinds: where a kind is found, and what of an object is kept. */
export const kinds = {
  pods: { path: "/api/v1/pods", record: pod },
  nodes: { path: "/api/v1/nodes", record: node },
  services: { path: "/api/v1/services", record: service },
  slices: { path: "/apis/discovery.k8s.io/v1/endpointslices", record: slice },
  events: { path: "/api/v1/events", record: event },
  namespaces: { path: "/api/v1/namespaces", record: base },
  deployments: { path: `${apps}deployments`, record: workload("Deployment", (o) => [o.status?.readyReplicas || 0, o.spec.replicas]) },
  statefulsets: { path: `${apps}statefulsets`, record: workload("StatefulSet", (o) => [o.status?.readyReplicas || 0, o.spec.replicas]) },
  daemonsets: { path: `${apps}daemonsets`, record: workload("DaemonSet", (o) => [o.status?.numberReady || 0, o.status?.desiredNumberScheduled || 0]) },
  jobs: { path: `${batch}jobs`, record: job },
  cronjobs: { path: `${batch}cronjobs`, record: workload("CronJob", (o) => [o.status?.active?.length || 0, 0]) },
};

/** pathOf is the API path of one object. */
export function pathOf(kind, record, sub = "") {
  const at = kinds[kind].path;
  const name = `${encodeURIComponent(record.name)}${sub && `/${sub}`}`;
  if (!record.namespace) return `${at}/${name}`;
  const cut = at.lastIndexOf("/");
  return `${at.slice(0, cut)}/namespaces/${record.namespace}${at.slice(cut)}/${name}`;
}

/** Collection is one kind's records, by uid. */
class Collection {
  constructor(changed) {
    this.records = new Map();
    this.changed = changed;
    this.error = null;
    this.loaded = false;
  }
}

/**
 * World is all collections. onChange is called with the kinds that changed, at most once per frame, and
 * so seldom that it takes a fifth of the time at most: with ten thousand pods it has much to do.
 */
export class World {
  constructor(onChange) {
    this.dirty = new Set();
    this.onChange = onChange;
    this.rest = 0; // until when, after a long update
    for (const kind of Object.keys(kinds)) this[kind] = new Collection();
  }

  start() {
    for (const [kind, { path, record }] of Object.entries(kinds)) {
      const c = this[kind];
      let fresh = null; // while a list is read
      follow(path, {
        begin: () => (fresh = new Map()),
        put: (object) => {
          (fresh || c.records).set(object.metadata.uid, record(object));
          if (!fresh || !c.loaded) this.note(kind);
        },
        remove: (object) => {
          c.records.delete(object.metadata.uid);
          this.note(kind);
        },
        done: () => {
          c.records = fresh;
          [fresh, c.error, c.loaded] = [null, null, true];
          this.note(kind);
        },
        failed: (error) => {
          [fresh, c.error] = [null, error];
          this.note(kind);
        },
      });
    }
  }

  note(kind) {
    if (this.dirty.size === 0) setTimeout(() => requestAnimationFrame(() => this.flush()), Math.max(0, this.rest - performance.now()));
    this.dirty.add(kind);
  }

  flush() {
    const changed = this.dirty;
    this.dirty = new Set();
    const began = performance.now();
    this.onChange(changed);
    const now = performance.now();
    this.rest = now + 4 * (now - began);
  }

  /** list returns the records of kinds that pass a filter. */
  list(names, filter = () => true) {
    const out = [];
    for (const name of [].concat(names)) for (const r of this[name].records.values()) if (filter(r)) out.push(r);
    return out;
  }
}
