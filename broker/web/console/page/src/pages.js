// The states in which there is nothing to fill in.

import { callout, el, facts, show, steps, when } from "./dom.js";

const OVER = {
  link_forgotten: [
    "Open your link again",
    "For your safety this page forgets the link when it is reloaded. Go back to the message you received and open the link from there once more.",
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
    "A key was submitted over it before. Open the link once more to see the receipt, or ask the vendor for a new link.",
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

// A text and a button that copies it.  Browsers inside of mail and chat programs often refuse: then it is selected.
function copied(label, shown, value) {
  const said = el("span", { role: "status", className: "said" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(value);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(shown);
      said.textContent = "This browser does not let the page copy. The link is selected: press Ctrl+C (⌘C on a Mac), or hold it and choose Copy.";
    }
  };
  const button = el("button", { type: "button", className: "quiet", onclick: copy }, label);
  return [el("p", { className: "link" }, shown), el("p", { className: "actions wrap noprint" }, button, said)];
}

const RECEIPT = {
  accepted: ["Thank you. The key was received and works", "good", "You can close this page. Keep this receipt, or the status link below."],
  verifying: [
    "Thank you. The key was received",
    "wait",
    "It is sealed and safe. The check with the service it belongs to could not be done just now and will be made by itself later. You do not need to paste it again.",
  ],
  held: [
    "Thank you. The key was received",
    "wait",
    "The key works. The vendor will look at it before it is used, because it could not be matched with your organization automatically. You do not need to do anything.",
  ],
};

export function receipt(opened, given, state, before) {
  const [title, kind, text] = RECEIPT[state] ?? RECEIPT.verifying;
  show(
    before ? "A key was submitted over this link" : title,
    callout(kind, el("p", {}, text)),
    facts([
      ["Organization", given.organization],
      ["Received by", given.vendor],
      ["For", given.provider],
      ["Key ending in", el("code", {}, given.last4)],
      ["Fingerprint", el("code", {}, given.fingerprint.match(/.{1,4}/g).join(" "))],
      ["Received", when(given.received_at)],
    ]),
    el("h2", {}, "Your private status link"),
    ...(given.status_url
      ? [
          el("p", {}, "It shows what becomes of the key and who uses it. Whoever has it can also pause the key, withdraw it for good or submit the next one, so treat it as confidential."),
          ...copied("Copy status link", el("a", { href: given.status_url, rel: "noreferrer" }, given.status_url), given.status_url),
        ]
      : [el("p", {}, "It was shown when the key was submitted. If you don't have it, ask the vendor for a new one.")]),
    el("h2", {}, "If you ever want to withdraw the key"),
    steps(opened.provider.revoke),
  );
}
