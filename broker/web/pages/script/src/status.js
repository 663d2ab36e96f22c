// The status page: the state of the key, who used it, and the customer's own decisions.

import { Problem } from "./api.js";
import { callout, el, facts, show, steps, when } from "./dom.js";
import { chart } from "./usage.js";

const STATES = {
  verifying: ["wait", "The key is sealed and waits to be checked", "The service it belongs to could not be reached yet. The check is repeated by itself."],
  held: ["wait", "The key works and waits for the vendor", "It could not be matched with your organization automatically, so a person at the vendor decides."],
  active: ["good", "The key is in use", "Jobs of the vendor use it for minutes at a time, and every use is recorded."],
  paused: ["wait", "The key is paused", "Nobody can use it until you resume it."],
  failing: ["bad", "The key no longer works", "The service it belongs to refuses it: it was revoked there, or has expired. If that was not on purpose, submit a new key."],
  refused: ["bad", "The key was not accepted", "It was refused as not valid, or belongs to another organization. Please submit another one."],
  revoked: ["over", "The key is no longer used", "Nobody can use it here any more. It still works where you created it: please revoke it there, as described below."],
  dead: ["over", "The key is revoked", "It no longer works anywhere, and it was destroyed here."],
  destroyed: ["over", "The key was destroyed", "The vendor no longer holds it."],
};
const WAITING = new Set(["verifying", "held"]);
const USED = new Set(["active", "paused", "failing", "revoked", "dead"]);

// `keep` is what the page says about the code or link that opened it; `next` opens the form for the next key.
export function status(opened, holder, { keep, next }) {
  const { key, provider, vendor, organization } = opened;
  const [kind, title, text] = STATES[key.state] ?? STATES.verifying;
  const revoke = [el("h2", {}, `To revoke a key in ${provider.title}`), steps(provider.revoke)];
  show(
    title,
    callout(kind, el("p", {}, text)),
    keep,
    renewal(opened),
    key.state === "revoked" && revoke,
    timeline(key),
    decisions(opened, holder, { keep, next }),
    USED.has(key.state) && chart(holder),
    older(opened.older),
    el("h2", {}, "About the key"),
    facts([
      ["Organization", organization.name],
      ["Held by", vendor.name],
      ["For", provider.title],
      ["Key ending in", el("code", {}, key.last4)],
      ["Fingerprint", el("code", {}, key.fingerprint.match(/.{1,4}/g).join(" "))],
      ["Last checked", key.checked_at && when(key.checked_at)],
      ["To be replaced by", key.due_at && when(key.due_at)],
      ["Questions", opened.contact],
    ]),
    key.state !== "revoked" && key.state !== "dead" && revoke,
  );
}

// How it stands with the next key, and whether the present one goes on until then.
function renewal({ wanted, waits, serves, key, in_force }) {
  if (!in_force) return key.state === "dead" && el("p", {}, "Nothing more needs to be done.");
  if (!wanted && !waits) return null;
  const goesOn = serves && !key.paused_at;
  if (WAITING.has(key.state)) return goesOn && el("p", {}, "The key before it keeps working until this one is in use.");
  const said = [wanted ? "The vendor asks for a new key." : "A new key was submitted; it waits to be checked, or for the vendor."];
  if (goesOn) said.push("The present one keeps working until the new one is in use.");
  if (!serves) said.push("Until it is in use, the vendor has no key that works.");
  return callout("wait", el("p", {}, said.join(" ")));
}

// What the customer may do now: each button says what it does, and waits with its progress beside it.
function decisions({ key, can }, holder, around) {
  if (!can.submit && !can.pause && !can.withdraw) return null;
  const said = el("p", { className: "progress", role: "status" });
  const asked = el("div");
  const buttons = [];
  const doing = (waiting, work) => async () => {
    for (const button of buttons) button.disabled = true;
    said.textContent = waiting;
    try {
      await work();
    } catch (problem) {
      said.textContent = wrong(problem);
      for (const button of buttons) button.disabled = false;
    }
  };
  const act = (step, waiting) => doing(waiting, async () => status(await holder.call(step), holder, around));
  const button = (label, onclick, quiet = true) => {
    const made = el("button", { type: "button", className: quiet ? "quiet" : "", onclick }, label);
    buttons.push(made);
    return made;
  };
  const urgent = key.state === "failing" || !can.pause;
  const next = can.submit && button("Submit a new key", doing("Opening the form…", () => around.next(holder)), !urgent);
  const pause =
    can.pause &&
    (key.paused_at
      ? button("Resume the key", act("resume", "Resuming…"), false)
      : button("Pause the key", act("pause", "Pausing. Calls that are under way are ended…")));
  const withdraw = can.withdraw && button("Withdraw the key…", () => {
    const sure = button("Withdraw it for good", act("withdraw", "Withdrawing. Calls that are under way are ended…"), false);
    const keep = button("Keep it", () => asked.replaceChildren());
    asked.replaceChildren(
      callout(
        "bad",
        el("h2", {}, "Withdraw the key for good?"),
        el(
          "p",
          {},
          can.pause ? "Nobody at the vendor can use it any more" : "No other key can take its place here",
          ", and that can’t be undone. Afterwards revoke it where you created it; this page shows how.",
        ),
        el("p", { className: "actions" }, sure, keep),
      ),
    );
    sure.focus();
  });
  return [el("h2", {}, "What you can do"), el("div", { className: "actions wrap" }, next, pause, withdraw), said, asked];
}

function wrong(problem) {
  if (problem.code === "recipient_changed") return "The answer was changed on its way, so no form was opened. Tell the vendor, by another way than this page.";
  if (!(problem instanceof Problem)) throw problem;
  if (problem.code === "network") return "This page could not reach the service. Check your internet connection, then try again.";
  return problem.message || "That could not be done just now. Try again in a minute.";
}

function older(keys) {
  if (!keys.length) return null;
  const lines = keys.map((key) => [
    el("code", {}, key.last4),
    {
      retiring: "still kept for a while, until the new one has proved itself",
      awaiting: "no longer used; please revoke it where you created it",
      revoked: "revoked and destroyed",
    }[key.state],
    when(key.confirmed_at ?? key.since ?? new Date().toISOString()),
  ]);
  return [
    el("h2", {}, "Earlier keys"),
    el(
      "ul",
      { className: "older" },
      lines.map(([last4, text, moment], index) => el("li", {}, "Ending in ", last4, `: ${text}`, keys[index].since && [" (", moment, ")"])),
    ),
  ];
}

function timeline(key) {
  const moments = [
    ["Received", key.received_at],
    ["In use", key.active_since],
    key.paused_at && !key.revoked_at && ["Paused", key.paused_at],
    [key.state === "refused" ? "Refused" : "Cut off", key.revoked_at],
    ["Revoked at its source", key.confirmed_at],
  ].filter(Boolean);
  const reached = moments.filter(([, moment]) => moment);
  const ahead = key.revoked_at ? (key.state === "revoked" ? [["Revoked at its source", null]] : []) : moments.slice(0, 2).filter(([, moment]) => !moment);
  return el(
    "ol",
    { className: "timeline", "aria-label": "What happened to the key" },
    reached.map(([name, moment]) => el("li", { className: "reached" }, el("strong", {}, name), el("br"), when(moment))),
    ahead.map(([name]) => el("li", {}, el("strong", {}, name), el("br"), "not yet")),
  );
}
