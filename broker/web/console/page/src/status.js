// The status link's page: what became of the key, drawn over time.

import { callout, el, facts, show, steps, when } from "./dom.js";

const STATES = {
  verifying: ["wait", "The key is sealed and waits to be checked", "The service it belongs to could not be reached yet. The check is repeated by itself."],
  held: ["wait", "The key works and waits for the vendor", "It could not be matched with your organization automatically, so a person at the vendor decides."],
  active: ["good", "The key is in use", "Jobs of the vendor use it for minutes at a time, and every use is recorded."],
  refused: ["bad", "The key was not accepted", "It was refused as not valid, or belongs to another organization. Open the link you were sent to submit another one."],
  revoked: ["over", "The key is no longer used", "The vendor has cut it off. Revoke it at its source too, if that was not done yet."],
  destroyed: ["over", "The key was destroyed", "The vendor no longer holds it."],
};

export function status(opened) {
  const { key, provider, vendor, organization } = opened;
  const [kind, title, text] = STATES[key.state] ?? STATES.verifying;
  show(
    title,
    callout(kind, el("p", {}, text)),
    timeline(key),
    facts([
      ["Organization", organization.name],
      ["Held by", vendor.name],
      ["For", provider.title],
      ["Key ending in", el("code", {}, key.last4)],
      ["Fingerprint", el("code", {}, key.fingerprint.match(/.{1,4}/g).join(" "))],
      ["Questions", opened.contact],
    ]),
    el("h2", {}, `To revoke the key in ${provider.title}`),
    steps(provider.revoke),
  );
}

function timeline(key) {
  const moments = [
    ["Received", key.received_at],
    ["In use", key.active_since],
    [key.state === "refused" ? "Refused" : "Cut off", key.revoked_at],
  ];
  const reached = moments.filter(([, moment]) => moment);
  const ahead = key.revoked_at ? [] : moments.slice(0, 2).filter(([, moment]) => !moment);
  return el(
    "ol",
    { className: "timeline", "aria-label": "What happened to the key" },
    reached.map(([name, moment]) => el("li", { className: "reached" }, el("strong", {}, name), el("br"), when(moment))),
    ahead.map(([name]) => el("li", {}, el("strong", {}, name), el("br"), "not yet")),
  );
}
