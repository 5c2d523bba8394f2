// Renders the OpenAPI document. Text is only ever set as text.
const make = (tag, text, parent, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  parent?.append(element);
  return element;
};

const resolve = (api, schema) => {
  const name = schema?.$ref?.split("/").pop();
  return name ? api.components.schemas[name] : schema;
};

const example = (api, schema, depth = 0) => {
  const found = resolve(api, schema) ?? {};
  if (depth > 5) return null;
  const one = found.oneOf ?? found.anyOf;
  if (one) return example(api, one.find((option) => option.type !== "null"), depth + 1);
  const type = Array.isArray(found.type) ? found.type.find((name) => name !== "null") : found.type;
  if (type === "array") return [example(api, found.items, depth + 1)];
  if (type === "object" || found.properties) {
    const entries = Object.entries(found.properties ?? {});
    return Object.fromEntries(entries.map(([name, property]) => [name, example(api, property, depth + 1)]));
  }
  if (type === "integer" || type === "number") return 0;
  if (type === "boolean") return false;
  return found.format === "uuid" ? "0199…" : found.format === "date-time" ? "2026-01-01T00:00:00Z" : "…";
};

const show = (api, parent, title, content) => {
  const schema = Object.values(content ?? {})[0]?.schema;
  if (!schema) return;
  make("h4", title, parent);
  make("pre", JSON.stringify(example(api, schema), null, 2), parent);
};

const route = (api, parent, path, method, operation) => {
  const details = make("details", undefined, parent);
  const summary = make("summary", undefined, details);
  make("span", method.toUpperCase(), summary, "method");
  make("code", path, summary);
  make("span", ` ${operation.summary ?? ""}`, summary, "summary");
  if (operation.parameters?.length) {
    make("h4", "Parameters", details);
    const list = make("ul", undefined, details);
    for (const parameter of operation.parameters) {
      make("li", `${parameter.name} (${parameter.in}) ${parameter.description ?? ""}`, list);
    }
  }
  show(api, details, "Body", operation.requestBody?.content);
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    if (response.content) show(api, details, `Answer ${status}`, response.content);
    else make("h4", `Answer ${status}`, details);
  }
};

const api = await (await fetch("/api/openapi.json")).json();
document.getElementById("description").textContent = api.info.description;
const tags = new Map();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    if (!operation.responses) continue;
    const tag = operation.tags?.[0] ?? "other";
    if (!tags.has(tag)) tags.set(tag, []);
    tags.get(tag).push([path, method, operation]);
  }
}
for (const [tag, routes] of tags) {
  make("a", tag, document.getElementById("tags")).href = `#${tag}`;
  const section = make("section", undefined, document.getElementById("routes"));
  make("h2", tag, section).id = tag;
  for (const [path, method, operation] of routes) route(api, section, path, method, operation);
}
