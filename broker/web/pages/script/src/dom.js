// Build the page from elements and text only: nothing is ever parsed as HTML.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Of a field whose text neither the browser nor a password manager is to keep, correct or offer again.
export const UNKEPT = {
  autocomplete: "off",
  autocapitalize: "off",
  autocorrect: "off",
  spellcheck: "false",
  "data-1p-ignore": "",
  "data-lpignore": "true",
  "data-bwignore": "",
};

export function steps(lines) {
  return el("ol", { className: "steps" }, lines.map((line) => el("li", {}, line)));
}

export function facts(pairs) {
  const rows = pairs.filter(([, value]) => value);
  return el("dl", { className: "facts" }, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function when(moment) {
  const options = { dateStyle: "long", timeStyle: "short" };
  return el("time", { datetime: moment }, new Intl.DateTimeFormat(undefined, options).format(new Date(moment)));
}

// Show a new state and bring keyboard and screen reader to it.
export function show(title, ...children) {
  const heading = el("h1", { tabindex: "-1" }, title);
  document.getElementById("main").replaceChildren(heading, ...children.flat().filter(Boolean));
  document.title = title;
  heading.focus();
}

export function callout(kind, ...children) {
  return el("div", { className: `callout ${kind}`, role: kind === "bad" ? "alert" : "note" }, ...children);
}
