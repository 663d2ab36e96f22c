// What a customer keeps of their key's uses: a file that has all, and a receipt of each of the latest.

import { el, keepFile, when } from "./dom.js";
import { say } from "./words.js";

// `days` gives the period that the page shows.
export function evidence(holder, names, days) {
  const list = el("div", { "aria-live": "polite" });
  const load = async () => {
    try {
      list.replaceChildren(...drawn(await holder.call("uses", {}), holder));
    } catch {
      list.replaceChildren();
    }
  };
  load();
  const all = fetching(say("evidence.all"), say("evidence.file_name"), "application/x-ndjson", () => holder.call("export", { days: days() }));
  return [el("h3", {}, say("evidence.title")), el("p", {}, say("evidence.text", names)), el("p", { className: "actions wrap noprint" }, all), list];
}

function drawn({ uses }, holder) {
  if (!uses.length) return [];
  const rows = uses.map(({ event, time, job, method }) => {
    const button = fetching(say("evidence.receipt"), `${event}.tlog-proof`, "text/plain", () => holder.call("receipt", { event }));
    return el("tr", {}, el("th", { scope: "row" }, when(time)), el("td", {}, job), el("td", {}, method), el("td", { className: "noprint" }, button));
  });
  const head = ["time", "job", "method", "proof"].map((name) => el("th", { scope: "col" }, say(`evidence.${name}`)));
  return [el("p", { className: "hint" }, say("evidence.latest")), el("div", { className: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)))];
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
