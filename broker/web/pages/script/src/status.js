// The status page: the state of the key, who used it, and the customer's own decisions.

import { Problem } from "./api.js";
import { download, stated } from "./certificate.js";
import { askOnce, callout, el, facts, fingerprint, show, steps, when } from "./dom.js";
import { chart } from "./usage.js";
import { knows, pieces, say } from "./words.js";

const KINDS = {
  verifying: "wait",
  held: "wait",
  active: "good",
  paused: "wait",
  failing: "bad",
  refused: "bad",
  revoked: "over",
  dead: "over",
  revived: "bad",
  destroyed: "over",
};
const WAITING = new Set(["verifying", "held"]);
const USED = new Set(["active", "paused", "failing", "revoked", "dead", "revived"]);
// Upstream still takes these, or takes them again: the customer is to revoke them.
const TO_REVOKE = new Set(["revoked", "revived"]);

// `keep` is what the page says about the code or link that opened it; `next` opens the form for the next key.
export function status(opened, holder, { keep, next }) {
  const { key, provider, vendor, organization } = opened;
  const state = key.state in KINDS ? key.state : "verifying";
  const names = { vendor: vendor.name, provider: provider.title };
  const revoke = [el("h2", {}, say("status.how_to_revoke", names)), steps(provider.revoke)];
  show(
    say(`status.${state}_title`, names),
    callout(KINDS[state], el("p", {}, stated(key, names) ?? say(`status.${state}`, names))),
    exposure(key, names),
    proof(key, holder, names),
    keep,
    renewal(opened),
    TO_REVOKE.has(state) && revoke,
    timeline(key, names),
    decisions(opened, holder, { keep, next }),
    USED.has(key.state) && chart(holder, names),
    older(opened.older, holder, names),
    el("h2", {}, say("status.about")),
    facts([
      [say("key.organization"), organization.name],
      [say("key.held_by"), vendor.name],
      [say("key.service"), provider.title],
      [say("key.last4"), el("code", {}, key.last4)],
      [say("key.fingerprint"), fingerprint(key.fingerprint, say("key.fingerprint_text"))],
      [say("key.last_checked"), key.checked_at && when(key.checked_at)],
      [say("key.due"), key.due_at && when(key.due_at)],
      [say("form.questions"), opened.contact],
    ]),
    !TO_REVOKE.has(state) && state !== "dead" && revoke,
  );
}

// That others may have the key: the customer's own admin has to know it, and the vendor may not have told them yet.
function exposure(key, names) {
  if (!key.exposed_at) return null;
  const said = pieces("status.exposed", { ...names, reported: when(key.exposed_at) });
  return callout(TO_REVOKE.has(key.state) ? "bad" : "over", el("p", {}, said));
}

function proof(key, holder, names) {
  const button = download(key, holder);
  return button && [el("p", {}, say("certificate.text", names)), el("p", { className: "actions wrap noprint" }, button)];
}

// How it stands with the next key, and whether the present one goes on until then.
function renewal({ wanted, waits, serves, key, in_force }) {
  if (!in_force) return key.state === "dead" && el("p", {}, say("status.all_done"));
  if (!wanted && !waits) return null;
  const goesOn = serves && !key.paused_at;
  if (WAITING.has(key.state)) return goesOn && el("p", {}, say("status.before_works"));
  const until = goesOn ? "_goes_on" : serves ? "" : "_none";
  return callout("wait", el("p", {}, say(`status.${wanted ? "wanted" : "waits"}${until}`)));
}

// What the customer may do now: each button says what it does, and waits with its progress beside it.
function decisions({ key, can, vendor, provider }, holder, around) {
  if (!can.submit && !can.pause && !can.withdraw) return null;
  const said = el("p", { className: "progress", role: "status" });
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
  const next = can.submit && button(say("decide.next"), doing(say("decide.opening"), () => around.next(holder)), !urgent);
  const pause =
    can.pause &&
    (key.paused_at
      ? button(say("decide.resume"), act("resume", say("decide.resuming")), false)
      : button(say("decide.pause"), act("pause", say("decide.pausing"))));
  const asked = {
    title: say("decide.sure_title"),
    text: can.pause ? say("decide.sure", { vendor: vendor.name, provider: provider.title }) : say("decide.sure_unused", { provider: provider.title }),
    safe: say("decide.keep"),
    sure: say("decide.withdraw_for_good"),
    act: act("withdraw", say("decide.withdrawing")),
  };
  const withdraw = can.withdraw && button(say("decide.withdraw"), () => askOnce(asked));
  return [el("h2", {}, say("decide.title")), el("div", { className: "actions wrap" }, next, pause, withdraw), said];
}

function wrong(problem) {
  if (problem.code === "recipient_changed") return say("decide.recipient_changed");
  if (!(problem instanceof Problem)) throw problem;
  if (problem.code === "network") return say("decide.no_connection");
  if (knows(`undone.${problem.code}`)) return say(`undone.${problem.code}`);
  return problem.message || say("decide.failed");
}

function older(keys, holder, names) {
  if (!keys.length) return null;
  const line = (key) => {
    const ending = el("code", {}, key.last4);
    if (key.certificate) {
      const said = [...pieces("older.ending", { last4: ending }), " ", ...stated(key, names)];
      return el("li", {}, el("p", {}, said), el("p", { className: "actions wrap noprint" }, download(key, holder)));
    }
    const since = key.since && when(key.confirmed_at ?? key.since);
    return el("li", {}, pieces(`older.${key.state}`, { ...names, last4: ending }), since && [" (", since, ")"]);
  };
  return [el("h2", {}, say("older.title")), el("ul", { className: "older" }, keys.map(line))];
}

function timeline(key, names) {
  const revoked = say("timeline.revoked", names);
  const moments = [
    [say("timeline.received"), key.received_at],
    [say("timeline.in_use"), key.active_since],
    key.paused_at && !key.revoked_at && [say("timeline.paused"), key.paused_at],
    [say(key.state === "refused" ? "timeline.refused" : "timeline.ended"), key.revoked_at],
    [revoked, key.confirmed_at],
  ].filter(Boolean);
  const reached = moments.filter(([, at]) => at);
  const ahead = key.revoked_at ? (TO_REVOKE.has(key.state) ? [[revoked, null]] : []) : moments.slice(0, 2).filter(([, at]) => !at);
  return el(
    "ol",
    { className: "timeline", "aria-label": say("timeline.title") },
    reached.map(([name, at]) => el("li", { className: "reached" }, el("strong", {}, name), el("br"), when(at))),
    ahead.map(([name]) => el("li", {}, el("strong", {}, name), el("br"), say("timeline.not_yet"))),
  );
}
