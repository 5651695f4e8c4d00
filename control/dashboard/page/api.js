// The Kubernetes API at the page's own origin, with the rights of the viewer.

const tokenKey = "wherry-token";

/** token is the bearer token of a direct login; behind "wherry dashboard" the session is a cookie. */
export const token = {
  get: () => sessionStorage.getItem(tokenKey) || "",
  set: (value) => sessionStorage.setItem(tokenKey, value),
};

/** ApiError carries the HTTP status and the server's own words. */
export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** send sends a request and returns the response; anything but a 2xx is an ApiError. */
export async function send(path, { method = "GET", body, type = "application/json", accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (body !== undefined) headers["Content-Type"] = type;
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  if (response.ok) return response;
  const text = await response.text();
  let message = text.trim() || response.statusText;
  try {
    message = JSON.parse(text).message || message;
  } catch {
    // not a Status: the text says it
  }
  throw new ApiError(response.status, message);
}

export const getJSON = async (path, options) => (await send(path, options)).json();

/** lines yields a streamed response line by line. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * follow lists a collection page by page, then watches it, for ever. sink has
 * begin(), put(object), remove(object), done() for a list, and failed(error).
 */
export async function follow(path, sink) {
  for (let wait = 250; ; wait = Math.min(wait * 2, 8000)) {
    try {
      let version = await list(path, sink);
      wait = 250;
      while (version) version = await watch(path, version, sink);
    } catch (error) {
      sink.failed(error);
      if (error instanceof ApiError && [401, 403, 404].includes(error.code)) return;
    }
    await pause(wait);
  }
}

async function list(path, sink) {
  sink.begin();
  for (let next = ""; ; ) {
    const page = await getJSON(`${path}?limit=1000${next && `&continue=${encodeURIComponent(next)}`}`);
    for (const item of page.items) sink.put(item);
    next = page.metadata.continue;
    if (!next) {
      sink.done();
      return page.metadata.resourceVersion;
    }
  }
}

/** watch reads one stream and returns where the next one goes on; "" means that only a new list helps. */
async function watch(path, version, sink) {
  const query = `${path}?watch=1&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion=${version}`;
  for await (const { type, object } of events(query)) {
    if (type === "ERROR") return "";
    version = object.metadata.resourceVersion;
    if (type === "DELETED") sink.remove(object);
    else if (type !== "BOOKMARK") sink.put(object);
  }
  return version;
}

/**
 * events yields the events of a watch. Without TLS a browser speaks HTTP/1.1
 * and opens six connections to a server at the most; WebSockets do not count.
 */
async function* events(query) {
  if (location.protocol === "http:") {
    yield* messages(new WebSocket(`ws://${location.host}${query}`));
    return;
  }
  for await (const line of lines(await send(query))) if (line) yield JSON.parse(line);
}

/** messages yields what a socket receives until it is closed. */
async function* messages(socket) {
  const queue = [];
  let wake = () => {}, ended = false, opened = false;
  socket.onopen = () => (opened = true);
  socket.onmessage = ({ data }) => (queue.push(data), wake());
  socket.onclose = () => ((ended = true), wake());
  for (;;) {
    while (queue.length) yield JSON.parse(queue.shift());
    if (ended && !opened) throw new Error("the watch was refused");
    if (ended) return;
    await new Promise((resolve) => (wake = resolve));
  }
}
