// Who used the key and how often: a table by job, and a bar for each day.

import { el, when } from "./dom.js";
import { evidence } from "./evidence.js";
import { day as written, say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const PERIODS = [1, 7, 30, 90];

export function chart(holder, names) {
  const shown = el("div", { "aria-live": "polite" });
  const choose = el(
    "select",
    { id: "period", onchange: () => load() },
    PERIODS.map((days) => {
      const label = days === 1 ? say("usage.hours", { count: 24 }) : say("usage.days", { count: days });
      return el("option", { value: String(days), selected: days === 30 }, label);
    }),
  );
  const load = async () => {
    shown.replaceChildren(el("p", { className: "hint" }, say("usage.counting")));
    try {
      shown.replaceChildren(...drawn(await holder.call("usage", { days: Number(choose.value) })));
    } catch {
      const again = el("button", { type: "button", className: "quiet", onclick: load }, say("shell.try_again"));
      shown.replaceChildren(el("p", {}, say("usage.not_counted")), again);
    }
  };
  load();
  const label = el("label", { for: "period" }, say("usage.period"));
  const proofs = evidence(holder, names, () => Number(choose.value));
  return [el("h2", {}, say("usage.title")), el("p", { className: "hint" }, say("usage.explained", names)), el("div", { className: "field period" }, label, choose), shown, ...proofs];
}

function drawn({ jobs, per_day, days }) {
  if (!jobs.length) return [el("p", {}, say("usage.nobody"))];
  const rows = jobs.map(({ name, calls, shown, last }) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(calls)), el("td", {}, String(shown)), el("td", {}, when(last))),
  );
  const head = [say("usage.job"), say("usage.calls"), say("usage.shown"), say("usage.last")].map((name) => el("th", { scope: "col" }, name));
  const table = el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  return days > 1 ? [bars(per_day), el("div", { className: "wide" }, table)] : [el("div", { className: "wide" }, table)];
}

function bars(days) {
  const most = Math.max(...days.map(({ calls }) => calls), 1);
  const total = days.reduce((sum, { calls }) => sum + calls, 0);
  const svg = svgElement("svg", { viewBox: `0 0 ${days.length * 10} 60`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", say("usage.bars", { calls: total, days: days.length, most }));
  svg.append(
    ...days.map(({ day, calls }, index) => {
      const height = calls ? Math.max(2, (calls / most) * 58) : 1;
      const bar = svgElement("rect", { x: index * 10 + 1, y: 60 - height, width: 8, height, class: calls ? "bar" : "none" });
      const title = svgElement("title", {});
      title.textContent = say("usage.bar", { day: written(day), calls });
      bar.append(title);
      return bar;
    }),
  );
  const ends = [written(days[0].day), written(days[days.length - 1].day)].map((text) => el("span", {}, text));
  return el("div", { className: "bars" }, svg, el("p", { className: "hint ends", "aria-hidden": "true" }, ends), el("p", { className: "hint" }, say("usage.most", { most })));
}

function svgElement(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, String(value));
  return element;
}
