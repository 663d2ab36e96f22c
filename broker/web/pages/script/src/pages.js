// The states in which there is nothing to fill in.

import { callout, el, show } from "./dom.js";

const OVER = {
  link_forgotten: [
    "Open your link again",
    "A page that is reloaded no longer has the secret part of its link. Go back to the message you received and open the link from there once more.",
  ],
  link_without_secret: [
    "The link ends too early",
    "The part after “#” is missing: something on the way dropped it. Copy the whole link from the message you received, with what follows the “#”, and paste it into the address bar.",
  ],
  link_cut_off: [
    "The link is not complete",
    "A part at its end is missing, as happens when a long link is broken over two lines. Copy the whole link from the message you received and paste it into the address bar.",
  ],
  link_altered: [
    "The link was changed on its way",
    "It is long enough, but a character in it is wrong or missing. Copy the link from the message you received once more, without typing any of it. If that does not help, ask whoever sent it for a new one.",
  ],
  link_invalid: [
    "This link does not work",
    "Check that you opened the whole link as it was sent to you. If it still does not work, ask whoever sent it for a new one.",
  ],
  intake_expired: [
    "This link has expired",
    "Links work for a limited time. Ask the vendor that sent it for a new one; nothing else needs to be done.",
  ],
  intake_cancelled: [
    "This request was cancelled",
    "The vendor no longer asks for this key. You do not need to do anything. If you have already created a key for it, revoke that key.",
  ],
  key_given: [
    "A key was already given",
    "There is nothing to do: the vendor has the key that this link asks for. If you have just created another one, revoke that one alone and leave the key that was given before as it is.",
  ],
  intake_spent: [
    "This link was used already",
    "A key was submitted over it before, and not from this page. If that was not you or a colleague, tell the vendor.",
  ],
  recipient_changed: [
    "Do not paste a key here",
    "Somebody else than your link names would read it: what the service answered was changed on its way. Close this page and tell the vendor, by another way than this link. Nothing was sent.",
  ],
};

export function loading() {
  const message = el("p", { role: "status" }, "Opening your link…");
  document.getElementById("main").replaceChildren(message);
}

// Above what the link led to: it works, but others may have seen it.
export function wasSent(vendor) {
  const said = `Your mail program changed the link, so that servers on the way could read it. You can go on. ${vendor.name} was told and may send you a new link, which then replaces this one.`;
  document.querySelector("h1").after(callout("wait", el("p", { id: "was-sent" }, said)));
}

export function over(code, detail, retry) {
  if (OVER[code]) {
    const [title, text] = OVER[code];
    show(title, el("p", {}, text));
    return;
  }
  const again = el("button", { type: "button", onclick: retry }, "Try again");
  if (code === "too_many_requests") {
    show("Too many attempts", el("p", {}, "Wrong links were tried too often from here. Wait ten minutes, then try again."), again);
  } else if (code === "network") {
    show("No connection", el("p", {}, "This page could not reach the service. Check your internet connection, then try again."), again);
  } else {
    show("Not available just now", el("p", {}, detail || "The service can’t answer just now. Nothing is lost; try again in a minute."), again);
  }
}
