// What was received: shown to who submitted it, with the code that they keep.

import { keep } from "./code.js";
import { callout, el, facts, show, steps, when } from "./dom.js";

const TEXTS = {
  accepted: ["Thank you. The key was received and works", "good", "You can close this page once you have kept the code below."],
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

export function wasReceived({ state }) {
  return state in TEXTS;
}

// `holder` has the code; `shows` opens the status page in place.
export function receipt(opened, given, holder, shows) {
  const [title, kind, text] = TEXTS[given.state];
  const kept = keep(holder, `the ${given.provider} key ending in ${given.last4}, given to ${given.vendor}`);
  const said = el("span", { role: "status", className: "said" });
  const see = async () => {
    said.textContent = "Opening…";
    try {
      shows(await holder.call("open"), holder, kept);
    } catch {
      said.textContent = "The status could not be loaded just now. Keep the code, and try again in a minute.";
    }
  };
  show(
    title,
    callout(kind, el("p", {}, text)),
    facts([
      ["Organization", given.organization],
      ["Received by", given.vendor],
      ["For", given.provider],
      ["Key ending in", el("code", {}, given.last4)],
      ["Fingerprint", el("code", {}, given.fingerprint.match(/.{1,4}/g).join(" "))],
      ["Received", when(given.received_at)],
    ]),
    kept,
    el("p", { className: "actions wrap noprint" }, el("button", { type: "button", onclick: see }, "See the status of the key"), said),
    el("h2", {}, "If you ever want to withdraw the key"),
    steps(opened.provider.revoke),
  );
}
