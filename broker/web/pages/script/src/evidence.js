// What a customer keeps of their key's uses: a file that has all, and a receipt of each of the latest, which is verified
// here as well.

import { decoded, keys, receipt, Refused, Unable } from "../../../../client/verify.js";
import { el, keepFile, when } from "./dom.js";
import { pieces, say } from "./words.js";

// `days` gives the period that the page shows.
export function evidence(holder, names, days) {
  const list = el("div", { "aria-live": "polite" });
  const load = async () => {
    try {
      list.replaceChildren(...drawn(await holder.call("uses", {}), holder, names));
    } catch {
      list.replaceChildren();
    }
  };
  load();
  const all = fetching(say("evidence.all"), say("evidence.file_name"), "application/x-ndjson", () => holder.call("export", { days: days() }));
  return [el("h3", {}, say("evidence.title")), el("p", {}, say("evidence.text", names)), el("p", { className: "actions wrap noprint" }, all), list];
}

function drawn({ uses }, holder, names) {
  if (!uses.length) return [];
  const rows = uses.map(({ event, time, job, method }) => {
    const button = fetching(say("evidence.receipt"), `${event}.tlog-proof`, "text/plain", () => holder.call("receipt", { event }));
    const acts = el("div", { className: "actions wrap" }, button, verifying(event, holder, names));
    return el("tr", {}, el("th", { scope: "row" }, when(time)), el("td", {}, job), el("td", {}, method), el("td", { className: "noprint" }, acts));
  });
  const head = ["time", "job", "method", "proof"].map((name) => el("th", { scope: "col" }, say(`evidence.${name}`)));
  const table = el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  const hint = (name) => el("p", { className: "hint" }, say(name, names));
  return [hint("evidence.latest"), el("div", { className: "wide" }, table), hint("evidence.here")];
}

// A button that verifies the receipt of a use in this browser, and what it says then.
function verifying(event, holder, names) {
  const said = el("span", { role: "status", className: "said" });
  const verify = async () => {
    said.textContent = say("evidence.verifying");
    try {
      said.textContent = say("evidence.verified", await verified(event, holder));
    } catch (problem) {
      said.replaceChildren(...unverified(problem, names));
    }
  };
  return [el("button", { type: "button", className: "quiet", onclick: verify }, say("evidence.verify")), said];
}

async function verified(event, holder) {
  const trusted = keys(decoded(await logKeys()));
  const { core, index, checkpoint } = await receipt((await holder.call("receipt", { event })).file, trusted);
  if (core.id !== event) throw new Refused("the receipt is of another event");
  return { index: String(index), size: String(checkpoint.size) };
}

async function logKeys() {
  const answer = await fetch("/v1/audit/log/key", { cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer" });
  if (!answer.ok) throw new Error("no keys");
  return answer.arrayBuffer();
}

function unverified(problem, names) {
  if (problem instanceof Unable) return [say("evidence.unable")];
  if (!(problem instanceof Refused)) return [say("evidence.failed")];
  return pieces("evidence.not_verified", { ...names, reason: el("span", { lang: "en" }, problem.message) });
}

// A button that fetches a file, and what it says meanwhile.
function fetching(label, name, type, call) {
  const said = el("span", { role: "status", className: "said" });
  const fetched = async () => {
    said.textContent = say("evidence.fetching");
    try {
      keepFile(name, (await call()).file, type);
      said.textContent = "";
    } catch (problem) {
      said.textContent = problem.code === "conflict" ? say("evidence.too_many") : say("evidence.failed");
    }
  };
  return [el("button", { type: "button", className: "quiet", onclick: fetched }, label), said];
}
