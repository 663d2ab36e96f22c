// The status code: shown once to who submitted a key, kept by them, and pasted where it opens the status page.

import { callout, el, show, UNKEPT } from "./dom.js";
import { takeCode } from "./link.js";

const WRONG = {
  empty: "Paste the code first.",
  code_cut_off: "The code is not complete: it has 32 characters. Copy the whole of it.",
  code_altered: "A character in the code is wrong or missing. Copy it once more from where you keep it.",
};
const CAME = {
  link_cut_off: "The link that you opened is not complete.",
  link_altered: "The link that you opened was changed on its way.",
};
const WORTH = "It shows what becomes of the key and who uses it. Whoever has it can also pause the key, withdraw it for good or submit the next one, so treat it as confidential.";
const SELECTED = "This browser does not let the page copy. The code is selected: press Ctrl+C (⌘C on a Mac), or hold it and choose Copy.";
const REMEMBERED = "You opened this page by a link that holds its secret, and your browser’s history keeps such links. On a computer that others use, delete it there. The vendor can give you a code in the link’s place.";

// The part of a page that hands the code over.
export function keep(holder, what) {
  const address = `${location.origin}${holder.path}`;
  const groups = holder.secret.match(/.{4}/g).join(" ");
  const shown = el("code", { id: "code" }, groups);
  const said = el("span", { role: "status", className: "said" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(holder.secret);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(shown);
      said.textContent = SELECTED;
    }
  };
  const save = () => {
    const lines = [`Status code for ${what}`, "", groups, "", `Paste it at ${address}`, "", WORTH, ""];
    const url = URL.createObjectURL(new Blob([lines.join("\n")], { type: "text/plain" }));
    el("a", { href: url, download: "key-status-code.txt" }).click();
    URL.revokeObjectURL(url);
  };
  const button = (label, onclick) => el("button", { type: "button", className: "quiet", onclick }, label);
  return el(
    "section",
    {},
    el("h2", {}, "Your private status code"),
    el("p", {}, `${WORTH} Keep it now: it is shown this once, and this browser does not keep it.`),
    el("p", { className: "link" }, shown),
    el("p", {}, "To be pasted at ", el("code", {}, address)),
    el("p", { className: "actions wrap noprint" }, button("Copy code", copy), button("Save as a file", save), button("Print", () => print()), said),
  );
}

// What a page says that was opened by a link with its secret in it.
export function byLink() {
  return callout("wait", el("p", { id: "by-link" }, REMEMBERED));
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
    verdict.textContent = wrong ? WRONG[wrong] : "";
    if (wrong) return input.focus();
    input.value = "";
    open(code);
  };
  show(
    "Paste your status code",
    CAME[cause] && callout("bad", el("p", {}, `${CAME[cause]} If you have a code, paste it here.`)),
    el("p", {}, "You got it when you submitted the key, or from the vendor."),
    el(
      "form",
      { novalidate: true, onsubmit: submit },
      el(
        "div",
        { className: "field" },
        el("label", { for: "status-code" }, "Status code"),
        el("p", { id: "code-hint", className: "hint" }, "32 characters; spaces and line breaks in it do not matter."),
        input,
        verdict,
      ),
      el("p", { className: "actions" }, el("button", { type: "submit" }, "Show the status")),
    ),
    el("p", { className: "more" }, "If you no longer have it, ask the vendor for a new one; the old one then stops working."),
  );
}

// A one-time link over which a key was submitted.
export function spent({ vendor }, id) {
  show(
    "A key was submitted over this link",
    callout("over", el("p", {}, "The link works once, and shows nothing any more.")),
    el("p", {}, "Whoever submitted the key got a status code. Paste it at ", el("a", { href: `/status/${id}` }, "the status page"), " to see what became of the key."),
    el("p", {}, `If you have no code, ask ${vendor.name} for a new one${vendor.contact ? ` (${vendor.contact})` : ""}.`),
  );
}
