// Build the page from elements and text only: nothing is ever parsed as HTML.

import { moment } from "./words.js";

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

// Have the browser keep a text as a file.
export function keepFile(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}

export function steps(lines) {
  return el("ol", { className: "steps" }, lines.map((line) => el("li", {}, line)));
}

export function facts(pairs) {
  const rows = pairs.filter(([, value]) => value);
  return el("dl", { className: "facts" }, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function when(iso) {
  return el("time", { datetime: iso }, moment(iso));
}

// A key's fingerprint, and what that is.
export function fingerprint(value, explained) {
  return [el("code", {}, value.match(/.{1,4}/g).join(" ")), el("span", { className: "explained" }, explained)];
}

// Show a new state and bring keyboard and screen reader to it.
export function show(title, ...children) {
  const heading = el("h1", { tabindex: "-1" }, title);
  document.getElementById("main").replaceChildren(heading, ...children.flat().filter(Boolean));
  document.title = title;
  heading.focus();
}

// Once the page holds what no address does, another language would lose it.
export function keepLanguage() {
  document.getElementById("languages")?.remove();
}

export function callout(kind, ...children) {
  return el("div", { className: `callout ${kind}`, role: kind === "bad" ? "alert" : "note" }, ...children);
}

// Asks once more before what can't be undone (WAI-ARIA APG, alert dialog): the safe answer has the focus and the colour.
// A key that is held down, or the second half of a double click, is no answer.
export function askOnce({ title, text, safe, sure, act }) {
  const keep = el("button", { type: "button", autofocus: true, onclick: () => end() }, safe);
  const go = el("button", { type: "button", className: "danger" }, sure);
  const dialog = el(
    "dialog",
    { role: "alertdialog", "aria-labelledby": "asked-title", "aria-describedby": "asked-text" },
    el("h2", { id: "asked-title" }, title),
    el("p", { id: "asked-text" }, text),
    el("p", { className: "actions wrap" }, keep, go),
  );
  const end = () => {
    dialog.close();
    dialog.remove();
  };
  go.addEventListener("click", ({ detail }) => {
    if (detail > 1) return;
    end();
    act();
  });
  dialog.addEventListener("keydown", (event) => event.repeat && event.key !== "Tab" && event.preventDefault());
  dialog.addEventListener("close", end);
  document.getElementById("main").append(dialog);
  dialog.showModal();
}
