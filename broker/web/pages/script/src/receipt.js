// What was received: shown to who submitted it, with the code that they keep.

import { keep } from "./code.js";
import { callout, el, facts, fingerprint, show, steps, when } from "./dom.js";
import { say } from "./words.js";

const KINDS = { accepted: "good", verifying: "wait", held: "wait" };

export function wasReceived({ state }) {
  return state in KINDS;
}

// `holder` has the code; `shows` opens the status page in place.
export function receipt(opened, given, holder, shows) {
  const named = { vendor: given.vendor, provider: given.provider };
  const kept = keep(holder, say("receipt.code_for", { ...named, last4: given.last4 }));
  const said = el("span", { role: "status", className: "said" });
  const see = async () => {
    said.textContent = say("receipt.opening");
    try {
      shows(await holder.call("open"), holder, kept);
    } catch {
      said.textContent = say("receipt.not_opened");
    }
  };
  show(
    say(`receipt.${given.state}_title`),
    callout(KINDS[given.state], el("p", {}, say(`receipt.${given.state}`, named))),
    facts([
      [say("key.organization"), given.organization],
      [say("receipt.received_by"), given.vendor],
      [say("key.service"), given.provider],
      [say("key.last4"), el("code", {}, given.last4)],
      [say("key.fingerprint"), fingerprint(given.fingerprint, say("key.fingerprint_text"))],
      [say("receipt.received"), when(given.received_at)],
    ]),
    kept,
    el("p", { className: "actions wrap noprint" }, el("button", { type: "button", onclick: see }, say("receipt.see")), said),
    el("h2", {}, say("receipt.end")),
    el("p", {}, say("receipt.end_text", named)),
    steps(opened.provider.revoke),
  );
}
