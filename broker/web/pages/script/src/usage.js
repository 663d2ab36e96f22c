// Who used the key and how often: a table by job, and a bar for each day.

import { el, when } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const PERIODS = [
  [1, "24 hours"],
  [7, "7 days"],
  [30, "30 days"],
  [90, "90 days"],
];

export function chart(holder) {
  const shown = el("div", { "aria-live": "polite" });
  const choose = el(
    "select",
    { id: "period", onchange: () => load() },
    PERIODS.map(([days, label]) => el("option", { value: String(days), selected: days === 30 }, label)),
  );
  const load = async () => {
    shown.replaceChildren(el("p", { className: "hint" }, "Counting…"));
    try {
      shown.replaceChildren(...drawn(await holder.call("usage", { days: Number(choose.value) })));
    } catch {
      const again = el("button", { type: "button", className: "quiet", onclick: load }, "Try again");
      shown.replaceChildren(el("p", {}, "The numbers could not be loaded just now."), again);
    }
  };
  load();
  const label = el("label", { for: "period" }, "Period");
  return [el("h2", {}, "Who used the key"), el("div", { className: "field period" }, label, choose), shown];
}

function drawn({ jobs, per_day, days }) {
  if (!jobs.length) return [el("p", {}, "Nobody used it in this period.")];
  const rows = jobs.map(({ name, calls, shown, last }) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(calls)), el("td", {}, String(shown)), el("td", {}, when(last))),
  );
  const head = ["Job", "Calls", "Times it saw the key", "Last"].map((name) => el("th", { scope: "col" }, name));
  const table = el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  return days > 1 ? [bars(per_day), el("div", { className: "wide" }, table)] : [el("div", { className: "wide" }, table)];
}

function bars(days) {
  const most = Math.max(...days.map(({ calls }) => calls), 1);
  const total = days.reduce((sum, { calls }) => sum + calls, 0);
  const svg = svgElement("svg", { viewBox: `0 0 ${days.length * 10} 60`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", `${total} calls in ${days.length} days, at most ${most} on one day`);
  svg.append(
    ...days.map(({ day, calls }, index) => {
      const height = calls ? Math.max(2, (calls / most) * 58) : 1;
      const bar = svgElement("rect", { x: index * 10 + 1, y: 60 - height, width: 8, height, class: calls ? "bar" : "none" });
      const title = svgElement("title", {});
      title.textContent = `${day}: ${calls}`;
      bar.append(title);
      return bar;
    }),
  );
  const ends = [days[0].day, `most on one day: ${most}`, days[days.length - 1].day].map((text) => el("span", {}, text));
  return el("div", { className: "bars" }, svg, el("p", { className: "hint ends", "aria-hidden": "true" }, ends));
}

function svgElement(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, String(value));
  return element;
}
