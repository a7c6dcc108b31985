import { byId, element, tell } from "/static/common.js";

function fieldRows(fields) {
  return fields.map(([name, words]) => element("tr", {}, element("th", { scope: "row" }, element("code", { text: name })), element("td", { text: words })));
}

function fieldsOf(operation) {
  const query = operation.parameters.filter((each) => each.in === "query").map((each) => [each.name, each.description]);
  const bodies = Object.values(operation.requestBody?.content ?? {});
  return [...query, ...bodies.flatMap((body) => Object.entries(body.schema.properties).map(([name, field]) => [name, field.description]))];
}

function route(path, method, operation) {
  const fields = fieldsOf(operation);
  const verb = element("span", { text: method.toUpperCase(), className: `verb ${method}` });
  const isPlain = method === "get" && !path.includes("{") && !path.startsWith("/live/");
  const address = isPlain ? element("a", { text: path, href: path }) : element("code", { text: path });
  return element("section", { className: "route" }, element("h3", {}, verb, " ", address), element("p", { text: operation.summary }),
    ...(fields.length ? [element("div", { className: "scroll" }, element("table", {}, element("tbody", {}, ...fieldRows(fields))))] : []));
}

const GROUPS = { v1: "The engine's routes", live: "Events as they come", pages: "What pages ask for" };

function draw(description) {
  const found = Object.entries(description.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => [path, method, operation]));
  byId("routes").replaceChildren(...Object.entries(GROUPS).flatMap(([tag, title]) => [
    element("h2", { text: title }),
    ...found.filter(([, , operation]) => operation.tags[0] === tag).map((each) => route(...each)),
  ]));
}

const response = await fetch("/openapi.json").catch(() => null);
if (response?.ok) draw(await response.json());
else tell("docs", "The web service does not answer; load this page again.");
byId("find").addEventListener("input", () => {
  const text = byId("find").value.toLowerCase();
  for (const each of document.querySelectorAll(".route")) each.hidden = !each.textContent.toLowerCase().includes(text);
});
