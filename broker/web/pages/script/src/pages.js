// The states in which there is nothing to fill in.

import { callout, el, show } from "./dom.js";
import { inLanguage, knows, pieces, say } from "./words.js";

export function loading() {
  const message = el("p", { role: "status" }, say("opening.waiting"));
  document.getElementById("main").replaceChildren(message);
}

// Above what the link led to: it works, but others may have seen it.
export function wasSent(vendor) {
  const said = say("opening.was_sent", { vendor: vendor.name });
  document.querySelector("h1").after(callout("wait", el("p", { id: "was-sent" }, said)));
}

// The secret part of a link is not there: forgotten, or never come.
export function forgotten(id) {
  const paste = el("a", { href: inLanguage(`/status/${id}`) }, say("over.link_forgotten.paste_code"));
  show(say("over.link_forgotten.title"), el("p", {}, pieces("over.link_forgotten.text", { paste_code: paste })));
}

export function insecure() {
  show(say("shell.unavailable.title"), el("p", {}, say("shell.unavailable.insecure")));
}

// `detail` is the service's own text: for codes that this page doesn't know.
export function over(code, detail, retry) {
  if (knows(`over.${code}.title`)) return show(say(`over.${code}.title`), el("p", {}, say(`over.${code}.text`)));
  const again = retry && el("button", { type: "button", onclick: retry }, say("shell.try_again"));
  if (code === "too_many_requests") {
    show(say("shell.too_many.title"), el("p", {}, say("shell.too_many.text")), again);
  } else if (code === "network") {
    show(say("shell.no_connection.title"), el("p", {}, say("shell.no_connection.text")), again);
  } else {
    const known = knows(`undone.${code}`) ? say("shell.unavailable.text") : detail;
    show(say("shell.unavailable.title"), el("p", {}, known || say("shell.unavailable.text")), again);
  }
}
