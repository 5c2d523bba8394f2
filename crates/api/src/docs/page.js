// Renders the OpenAPI document. Text is only ever set as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

/** Makes an element with a class and children, which are elements or text. */
const make = (tag, className, ...children) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
};

/** Text in which `ticks` become code. */
const words = (text = "") =>
  text.split("`").map((part, index) => (index % 2 ? make("code", "", part) : part));

const link = (href, ...children) => {
  const element = make("a", "", ...children);
  element.href = href;
  return element;
};

const nameOf = (schema) => schema?.$ref?.split("/").pop();
const typesOf = (schema) => [schema?.type ?? []].flat();

class Api {
  constructor(document) {
    this.document = document;
  }

  /** What a reference leads to. */
  resolve(value) {
    if (!value?.$ref) return value;
    return value.$ref.slice(2).split("/").reduce((place, part) => place?.[part], this.document);
  }

  /** The schemas that a schema is made of: itself, the parts of an `allOf`, or what may be left out altogether. */
  parts(schema) {
    const found = this.resolve(schema) ?? {};
    const real = (found.oneOf ?? found.anyOf ?? []).filter((choice) => !typesOf(choice).includes("null"));
    if (real.length === 1) return this.parts(real[0]);
    return found.allOf ? found.allOf.flatMap((part) => this.parts(part)) : [found];
  }

  /** An example value. */
  example(schema, depth = 0) {
    const found = this.resolve(schema) ?? {};
    if (found.example !== undefined) return found.example;
    if (found.examples?.length) return found.examples[0];
    if (depth > 6) return null;
    if (found.enum) return found.enum[0];
    const choices = found.oneOf ?? found.anyOf;
    if (choices) return this.example(choices.find((choice) => !typesOf(choice).includes("null")), depth + 1);
    if (found.allOf) return Object.assign({}, ...found.allOf.map((part) => this.example(part, depth + 1)));
    const type = typesOf(found).find((name) => name !== "null");
    if (type === "array") return [this.example(found.items, depth + 1)];
    if (type === "object" || found.properties) {
      const fields = Object.entries(found.properties ?? {});
      return Object.fromEntries(fields.map(([name, field]) => [name, this.example(field, depth + 1)]));
    }
    if (type === "integer" || type === "number") return found.minimum ?? 0;
    if (type === "boolean") return false;
    if (type !== "string") return {};
    if (found.format === "uuid") return "01990000-0000-7000-8000-000000000000";
    return found.format === "date-time" ? "2026-01-01T00:00:00Z" : "…";
  }

  /** An example of an answer; only lists have a `meta`. */
  reply(schema) {
    const whole = this.example(schema);
    if (whole && !Array.isArray(whole.data)) delete whole.meta;
    return whole;
  }

  /** An example of a body to send: of what may be left out only what is telling. */
  sample(schema) {
    const given = this.resolve(schema)?.example;
    if (given) return given;
    const required = new Set(this.parts(schema).flatMap((part) => part.required ?? []));
    const whole = this.example(schema) ?? {};
    const fields = Object.entries(whole).filter(([name]) => required.size === 0 || required.has(name));
    return Object.fromEntries(required.size === 0 ? fields.slice(0, 2) : fields);
  }

  /** A type in words, with links to named schemas. */
  type(schema) {
    const name = nameOf(schema);
    if (name) return make("span", "", link(`#schema-${name}`, name));
    const choices = schema?.oneOf ?? schema?.anyOf;
    if (choices) {
      const real = choices.filter((choice) => !typesOf(choice).includes("null"));
      const spans = real.flatMap((choice, index) => (index ? [" or ", this.type(choice)] : [this.type(choice)]));
      return make("span", "", ...spans, real.length < choices.length ? " or null" : "");
    }
    if (schema?.enum) return make("span", "", schema.enum.map((value) => JSON.stringify(value)).join(" | "));
    const types = typesOf(schema);
    const words = types.filter((type) => type !== "array" && type !== "null").join(" or ");
    const format = schema?.format && types.includes("string") ? ` (${schema.format})` : "";
    const list = types.includes("array") ? ["list of ", this.type(schema.items)] : [];
    return make("span", "", ...list, words + format || (list.length ? "" : "any"), types.includes("null") ? " or null" : "");
  }

  /** A schema as a table of its fields. */
  fields(schema) {
    const parts = this.parts(schema);
    const required = new Set(parts.flatMap((part) => part.required ?? []));
    const fields = parts.flatMap((part) => Object.entries(part.properties ?? {}));
    if (fields.length === 0) return make("p", "type", this.type({ ...this.resolve(schema), $ref: undefined }));
    const rows = fields.map(([name, field]) =>
      make(
        "tr",
        "",
        make("td", "", make("code", "", name), required.has(name) ? make("span", "must", "required") : null),
        make("td", "type", this.type(field)),
        make("td", "", ...words(field.description ?? this.resolve(field)?.description)),
      ),
    );
    return table(["Field", "Type", "Meaning"], rows);
  }

  /** The schema of a body or answer, and its media type. */
  content(holder) {
    const [media, { schema } = {}] = Object.entries(this.resolve(holder)?.content ?? {})[0] ?? [];
    return { media, schema };
  }
}

const table = (titles, rows) =>
  make(
    "div",
    "table",
    make(
      "table",
      "",
      make("thead", "", make("tr", "", ...titles.map((title) => make("th", "", title)))),
      make("tbody", "", ...rows),
    ),
  );

/** A block of code with a button that copies it. */
const code = (text) => {
  const button = make("button", "copy", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return make("div", "code", make("pre", "", make("code", "", text)), button);
};

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const curl = (api, path, method, operation) => {
  const url = location.origin + path.replaceAll(/\{(\w+)\}/g, (_, name) => `$${name.toUpperCase()}`);
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}"${url}"`];
  // An empty list of requirements stands for "none".
  if (!operation.security) lines.push(`-H "Authorization: Bearer $TOKEN"`);
  const { schema } = api.content(operation.requestBody);
  if (schema) {
    lines.push(`-H "Content-Type: application/json"`);
    lines.push(`-d ${quoted(JSON.stringify(api.sample(schema)))}`);
  }
  const answers = Object.values(operation.responses).map((answer) => api.content(answer).media);
  if (answers.includes("text/event-stream")) lines.splice(1, 0, `-N -H "Accept: text/event-stream"`);
  return lines.join(" \\\n  ");
};

const answer = (api, status, response) => {
  const found = api.resolve(response);
  const { media, schema } = api.content(response);
  const kind = /^[23]/.test(status) ? "good" : "bad";
  const head = make("summary", "", make("span", `status ${kind}`, status), make("span", "", ...words(found.description)));
  // All errors look alike: once is enough.
  if (!schema || kind === "bad") return make("p", "answer", ...head.childNodes);
  const body = make("details", "answer", head);
  body.open = true;
  if (media !== "application/json") body.append(make("p", "type", media));
  body.append(api.fields(schema));
  if (media === "application/json") body.append(code(JSON.stringify(api.reply(schema), null, 2)));
  return body;
};

const parameters = (api, operation) => {
  const rows = operation.parameters.map((given) => {
    const parameter = api.resolve(given);
    return make(
      "tr",
      "",
      make("td", "", make("code", "", parameter.name), parameter.required ? make("span", "must", "required") : null),
      make("td", "", parameter.in),
      make("td", "type", api.type(parameter.schema)),
      make("td", "", ...words(parameter.description)),
    );
  });
  return table(["Parameter", "In", "Type", "Meaning"], rows);
};

const route = (api, path, method, operation) => {
  const head = make(
    "h3",
    "",
    make("span", `method ${method}`, method.toUpperCase()),
    make("code", "", path),
    operation.security ? make("span", "public", "no token needed") : null,
  );
  const section = make("section", "route", head);
  section.id = operation.operationId;
  for (const text of new Set([operation.summary, operation.description])) {
    if (text) section.append(make("p", "", ...words(text)));
  }
  section.append(code(curl(api, path, method, operation)));
  if (operation.parameters?.length) section.append(make("h4", "", "Parameters"), parameters(api, operation));
  const { schema } = api.content(operation.requestBody);
  if (schema) section.append(make("h4", "", "Body"), api.fields(schema));
  section.append(make("h4", "", "Answers"));
  for (const [status, response] of Object.entries(operation.responses)) section.append(answer(api, status, response));
  return section;
};

const render = (api) => {
  const { info, paths, tags, components } = api.document;
  document.getElementById("version").textContent = info.version;
  const preamble = info.description.split("\n\n").map((text) => make("p", "", ...words(text)));
  document.getElementById("preamble").append(...preamble);
  const entries = [];
  for (const tag of tags) {
    const group = make("section", "tag", make("h2", "", tag.name), make("p", "", ...words(tag.description)));
    const index = make("ul", "");
    for (const [path, item] of Object.entries(paths)) {
      for (const method of METHODS.filter((name) => item[name]?.tags?.includes(tag.name))) {
        const section = route(api, path, method, item[method]);
        const label = make("span", `method ${method}`, method.toUpperCase());
        const entry = make("li", "", link(`#${section.id}`, label, path.replace("/api/v1", "")));
        entries.push({ text: `${method} ${path} ${item[method].summary}`.toLowerCase(), shown: [section, entry] });
        group.append(section);
        index.append(entry);
      }
    }
    document.getElementById("routes").append(group);
    document.getElementById("index").append(make("h2", "", tag.name), index);
  }
  const schemas = document.getElementById("schemas");
  for (const [name, schema] of Object.entries(components.schemas)) {
    const section = make("section", "route", make("h3", "", make("code", "", name)));
    section.id = `schema-${name}`;
    if (schema.description) section.append(make("p", "", ...words(schema.description)));
    section.append(api.fields(schema));
    schemas.append(section);
  }
  schemas.hidden = false;
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/);
    for (const { text, shown } of entries) {
      const hidden = !wanted.every((word) => text.includes(word));
      for (const element of shown) element.hidden = hidden;
    }
  });
  // The place that the address names exists only now.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
};

render(new Api(await (await fetch("/api/openapi.json")).json()));
