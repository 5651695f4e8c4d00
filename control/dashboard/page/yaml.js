// Objects as YAML, for reading.

const plain = /^[A-Za-z_./]([A-Za-z0-9_./@:-]*[A-Za-z0-9_./@-])?( [A-Za-z0-9_./@()-]+)*$/;
const special = /^(true|false|null|yes|no|on|off|y|n|~)$/i;

function scalar(value) {
  if (typeof value !== "string") return String(value);
  return plain.test(value) && !special.test(value) ? value : JSON.stringify(value);
}

function block(text, indent) {
  const pad = " ".repeat(indent);
  return `|${text.endsWith("\n") ? "" : "-"}\n${text.replace(/\n$/, "").split("\n").map((l) => (l ? pad + l : "")).join("\n")}`;
}

function render(value, indent, out) {
  const pad = " ".repeat(indent);
  const entry = (prefix, item, depth) => {
    if (item !== null && typeof item === "object") {
      const size = Array.isArray(item) ? item.length : Object.keys(item).length;
      if (size === 0) out.push(`${prefix} ${Array.isArray(item) ? "[]" : "{}"}`);
      else {
        out.push(prefix);
        render(item, depth, out);
      }
    } else if (typeof item === "string" && item.includes("\n")) out.push(`${prefix} ${block(item, indent + 2)}`);
    else out.push(`${prefix} ${scalar(item)}`);
  };
  if (!Array.isArray(value)) {
    for (const [key, item] of Object.entries(value)) entry(`${pad}${scalar(key)}:`, item, indent + (Array.isArray(item) ? 0 : 2));
    return;
  }
  for (const item of value) {
    const at = out.length;
    if (item !== null && typeof item === "object" && Object.keys(item).length > 0) {
      render(item, indent + 2, out);
      out[at] = `${pad}- ${out[at].slice(indent + 2)}`;
    } else entry(`${pad}-`, item, indent + 2);
  }
}

/** toYAML renders an object; managed fields are for machines and left out. */
export function toYAML(object) {
  const shown = structuredClone(object);
  delete shown.metadata?.managedFields;
  const out = [];
  render(shown, 0, out);
  return out.join("\n");
}
