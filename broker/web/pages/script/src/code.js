// The status code: shown once to who submitted a key, kept by them, and pasted where it opens the status page.

import { callout, el, keepFile, show, UNKEPT } from "./dom.js";
import { takeCode } from "./link.js";
import { inLanguage, pieces, say } from "./words.js";

const WRONG = { empty: "code.empty", code_cut_off: "code.cut_off", code_altered: "code.altered" };
const CAME = { link_cut_off: "code.came_cut_off", link_altered: "code.came_altered" };

// The part of a page that hands the code over.
export function keep(holder, what) {
  const address = `${location.origin}${holder.path}`;
  const groups = holder.secret.match(/.{4}/g).join(" ");
  const shown = el("code", { id: "code" }, groups);
  const said = el("span", { role: "status", className: "said" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(holder.secret);
      said.textContent = say("code.copied");
    } catch {
      getSelection().selectAllChildren(shown);
      said.textContent = say("code.selected");
    }
  };
  const save = () => {
    const lines = [say("code.file_title", { what }), "", groups, "", say("code.file_paste_at", { address }), "", say("code.worth"), ""];
    keepFile(say("code.file_name"), lines.join("\n"), "text/plain");
  };
  const button = (label, onclick) => el("button", { type: "button", className: "quiet", onclick }, label);
  return el(
    "section",
    {},
    el("h2", {}, say("code.title")),
    el("p", {}, `${say("code.worth")} ${say("code.keep_now")}`),
    el("p", { className: "link" }, shown),
    el("p", {}, pieces("code.paste_at", { address: el("code", {}, address) })),
    el("p", { className: "actions wrap noprint" }, button(say("code.copy"), copy), button(say("code.save"), save), button(say("code.print"), () => print()), said),
  );
}

// What a page says that was opened by a link with its secret in it.
export function byLink() {
  return callout("wait", el("p", { id: "by-link" }, say("code.by_link")));
}

// Where the code is pasted; `cause` says what was wrong with a link that came instead, and `open` takes the code.
export function codeForm(cause, open) {
  const verdict = el("p", { id: "code-verdict", className: "verdict", role: "status" });
  const input = el("input", {
    id: "status-code",
    type: "text",
    ...UNKEPT,
    "aria-describedby": "code-hint code-verdict",
  });
  const submit = async (event) => {
    event.preventDefault();
    const { code, cause: wrong } = await takeCode(input.value);
    input.setAttribute("aria-invalid", String(Boolean(wrong)));
    verdict.dataset.state = wrong ? "bad" : "good";
    verdict.textContent = wrong ? say(WRONG[wrong]) : "";
    if (wrong) return input.focus();
    input.value = "";
    open(code);
  };
  show(
    say("code.form_title"),
    CAME[cause] && callout("bad", el("p", {}, say(CAME[cause]))),
    el("p", {}, say("code.origin")),
    el(
      "form",
      { novalidate: true, onsubmit: submit },
      el(
        "div",
        { className: "field" },
        el("label", { for: "status-code" }, say("code.label")),
        el("p", { id: "code-hint", className: "hint" }, say("code.hint")),
        input,
        verdict,
      ),
      el("p", { className: "actions" }, el("button", { type: "submit" }, say("code.show"))),
    ),
    el("p", { className: "more" }, say("code.lost")),
  );
}

// A one-time link over which a key was submitted.
export function spent({ vendor }, id) {
  show(
    say("spent.title"),
    callout("over", el("p", {}, say("spent.text"))),
    el("p", {}, pieces("spent.paste", { status_page: el("a", { href: inLanguage(`/status/${id}`) }, say("spent.status_page")) })),
    el("p", {}, say(vendor.contact ? "spent.lost_contact" : "spent.lost", { vendor: vendor.name, contact: vendor.contact })),
  );
}
