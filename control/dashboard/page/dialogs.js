// Questions and short messages.

import { token } from "./api.js";
import { element } from "./table.js";

const dialog = () => document.getElementById("dialog");

/** notice shows a message for some seconds. */
export function notice(text, bad = false) {
  const note = element("div", { class: `notice${bad ? " bad" : ""}` }, text);
  document.getElementById("notices").append(note);
  setTimeout(() => note.remove(), bad ? 9000 : 4000);
}

/** ask asks a question and returns null, or what was typed ("" where nothing was to be). */
export function ask(question, { label, value = "", type = "text", action = "OK", danger = false } = {}) {
  const d = dialog();
  const input = label ? element("input", { type, value, min: type === "number" ? 0 : undefined, autofocus: true, "aria-label": label }) : null;
  const submit = element("button", { class: danger ? "danger" : "", value: "yes", autofocus: !input }, action);
  d.replaceChildren(element("form", { method: "dialog" }, element("h2", {}, question), input ? element("label", { class: "dim" }, label, input) : null,
    element("div", { class: "actions" }, element("button", { value: "", formnovalidate: true }, "Cancel"), submit)));
  // Enter takes the first button of a form; it shall be the action.
  input?.addEventListener("keydown", (e) => {
    if (e.key === "Enter") {
      e.preventDefault();
      d.close("yes");
    }
  });
  d.returnValue = "";
  d.showModal();
  return new Promise((resolve) => d.addEventListener("close", () => resolve(d.returnValue === "yes" ? (input ? input.value : "") : null), { once: true }));
}

/** showKeys tells what the keys do. */
export function showKeys(keys) {
  const d = dialog();
  d.replaceChildren(element("form", { method: "dialog" }, element("h2", {}, "Keys"),
    element("div", { class: "keys" }, ...keys.flatMap(([key, what]) => [element("span", {}, element("kbd", {}, key)), element("span", {}, what)])),
    element("div", { class: "actions" }, element("button", { autofocus: true }, "Close"))));
  d.showModal();
}

/** login asks for a token when the API server does not know the viewer. */
export async function login() {
  const answer = await ask("Who are you?", { label: "Bearer token (kubectl create token ...); or open the page with \"wherry dashboard\"", type: "password", action: "Log in" });
  if (!answer) return;
  token.set(answer.trim());
  location.reload();
}
