// The form: who asks, where to find the key, paste, check, seal, submit.

import { post } from "./api.js";
import { toBase64Url } from "./bytes.js";
import { judge } from "./check.js";
import { callout, el, facts, show, steps, when } from "./dom.js";
import { over, receipt } from "./pages.js";
import { sealKey, WrongContext } from "./seal.js";
import { unwrapped } from "./unwrap.js";

const FINAL = new Set(["link_invalid", "intake_expired", "intake_cancelled", "intake_spent", "key_given"]);
const TEXTS = {
  network: "The key could not be sent: there is no connection. It is still in the field; try again.",
  seal_invalid: "The key could not be read after sending. Open the link again from your message and submit once more.",
  too_many_requests: "Too many attempts from here. Wait ten minutes, then try again.",
};

// Failures that say nothing about the key.
const NOT_THE_KEY = new Set(["network", "unavailable", "too_many_requests"]);

const REPLACES = "This key replaces the one you gave before, which keeps working until the new one is in use. You will be told when to revoke the old one.";
const ALSO_ASKED = "More than one link was sent for this key. Use any one of them; nothing needs to be done about the others.";
const FOLLOWS = "The key you gave before is out of use; this one takes its place. If you have not revoked the old one yet, please do.";

export function form(opened, intake, proof) {
  const { provider, vendor, organization } = opened;
  const field = keyField(provider);
  const variables = opened.variables.map(variableField);
  const trouble = el("div", { id: "trouble" });
  const progress = el("p", { role: "status", className: "progress", id: "progress" });
  const button = el("button", { type: "submit" }, "Seal and submit");
  const submit = async (event) => {
    event.preventDefault();
    trouble.replaceChildren();
    const wrong = [field, ...variables].find((input) => !input.ready());
    if (wrong) return wrong.complain();
    busy(true);
    try {
      progress.textContent = "Sealing the key in this browser…";
      const sealed = toBase64Url(await sealKey(field.value(), opened, intake));
      progress.textContent = `Sent. Checking with ${provider.title}…`;
      const values = Object.fromEntries(variables.map((input) => [input.name, input.value()]));
      const done = await post(`/intake/${intake}/submit`, { proof, sealed, variables: values });
      field.wipe();
      receipt(opened, done.receipt, done.state, false);
    } catch (problem) {
      busy(false);
      failed(problem);
    }
  };
  const busy = (on) => {
    button.disabled = on;
    element.setAttribute("aria-busy", String(on));
    progress.textContent = on ? progress.textContent : "";
  };
  const failed = (problem) => {
    if (problem instanceof WrongContext) return over("link_invalid");
    if (FINAL.has(problem.code)) return over(problem.code, problem.message);
    if (!NOT_THE_KEY.has(problem.code)) field.refused();
    const text = TEXTS[problem.code] || problem.message || "Something went wrong. Nothing was kept; try again.";
    const box = callout("bad", el("h2", { tabindex: "-1" }, "The key was not accepted"), el("p", {}, text));
    trouble.replaceChildren(box);
    box.firstChild.focus();
  };
  const element = el(
    "form",
    { novalidate: true, onsubmit: submit },
    ...variables.map((input) => input.element),
    field.element,
    trouble,
    el("p", { className: "promise" }, `The key is sealed in this browser for ${vendor.name}’s key broker. Nothing readable is sent or stored on the way, and no person at ${vendor.name} needs to see it.`),
    el("p", { className: "actions" }, button),
    progress,
  );
  show(
    `${vendor.name} asks for a ${provider.title} ${provider.key_label}`,
    opened.rotation && callout("wait", el("p", {}, opened.present_serves ? REPLACES : FOLLOWS)),
    opened.also_asked && callout("wait", el("p", {}, ALSO_ASKED)),
    opened.last_refusal && callout("bad", el("p", {}, opened.last_refusal.message)),
    facts([
      ["For organization", el("strong", {}, organization.name)],
      ["Asked by", opened.requested_by + (vendor.contact ? `, ${vendor.contact}` : "")],
      ["Used for", opened.purpose],
      ["Link works until", when(opened.expires_at)],
    ]),
    el("h2", {}, "1. Create the key"),
    el("p", {}, `You need to be ${provider.role} of ${organization.name} in ${provider.title}. Create a new key for this vendor alone, so that you can take it back without disturbing anything else.`),
    steps(provider.where),
    el("p", { className: "more" }, provider.link && el("a", { href: provider.link, rel: "noreferrer", target: "_blank" }, `Open ${provider.title}`)),
    el("h2", {}, "2. Paste it here"),
    element,
  );
}

function keyField(provider) {
  const hint = el("p", { id: "key-hint", className: "hint" }, "It looks like ", el("code", {}, shortened(provider.example)), `.`);
  const verdict = el("p", { id: "key-verdict", className: "verdict", role: "status" });
  const taken = el("p", { id: "key-taken", className: "hint", role: "status" });
  const input = el("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    autocapitalize: "off",
    autocorrect: "off",
    spellcheck: "false",
    "data-1p-ignore": "",
    "data-lpignore": "true",
    "data-bwignore": "",
    "aria-describedby": "key-hint key-verdict",
    "aria-required": "true",
  });
  const check = () => {
    const found = judge(input.value, provider);
    judged(found.message, found.state);
    return found.state;
  };
  const judged = (message, state) => {
    verdict.textContent = message;
    verdict.dataset.state = state;
    input.setAttribute("aria-invalid", String(state === "bad"));
  };
  const take = (pasted) => {
    const found = unwrapped(pasted, provider.pattern);
    if (found.key !== input.value) input.value = found.key;
    taken.textContent = said(found);
    check();
  };
  input.addEventListener("input", () => take(input.value));
  // The field itself would join the lines of what is pasted.
  input.addEventListener("paste", (event) => {
    const pasted = event.clipboardData?.getData("text") ?? "";
    if (!unwrapped(pasted, provider.pattern).from) return;
    event.preventDefault();
    take(pasted);
  });
  const reveal = el("button", { type: "button", className: "quiet", "aria-pressed": "false", "aria-controls": "key" }, "Show");
  reveal.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    reveal.setAttribute("aria-pressed", String(shown));
    reveal.textContent = shown ? "Hide" : "Show";
  });
  const paste = async () => {
    try {
      take(await navigator.clipboard.readText());
    } catch {
      verdict.textContent = "The browser did not allow pasting by button; use the keyboard or the menu.";
    }
    input.focus();
  };
  const canPaste = navigator.clipboard && "readText" in navigator.clipboard;
  return {
    element: el(
      "div",
      { className: "field" },
      el("label", { for: "key" }, `${provider.title} ${provider.key_label}`),
      hint,
      el("div", { className: "row" }, input, canPaste && el("button", { type: "button", className: "quiet", onclick: paste }, "Paste"), reveal),
      verdict,
      taken,
    ),
    value: () => input.value,
    ready: () => check() === "good",
    complain: () => {
      judged(input.value === "" ? "Paste the key first." : verdict.textContent, "bad");
      input.focus();
    },
    refused: () => judged("", "bad"),
    wipe: () => {
      input.value = "";
    },
  };
}

// What was done to what was pasted, for people to check.  Nothing of an object or of other lines: they may hold secrets.
function said({ key, from, left }) {
  const kept = `Only the key was kept, which ends in “${key.slice(-4)}”`;
  return {
    "": "",
    spaces: "Spaces and invisible characters were removed.",
    text: `${kept}; ${left?.length ? `“${left.join("”, “")}” was` : "the signs around it were"} left out.`,
    object: `${kept}; the rest of the JSON object was left out.`,
    lines: `${kept}; the other lines were left out.`,
  }[from];
}

// A long example would fill three lines of a phone and tell nothing more.
function shortened(example) {
  return example.length > 40 ? `${example.slice(0, 24)}…` : example;
}

function variableField({ name, title, pattern, choices }) {
  const id = `variable-${name}`;
  const verdict = el("p", { id: `${id}-verdict`, className: "verdict", role: "status" });
  const described = { id, "aria-describedby": `${id}-verdict`, "aria-required": "true" };
  const input = choices
    ? el("select", described, choices.map((choice) => el("option", {}, choice)))
    : el("input", { ...described, type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  return {
    name,
    element: el("div", { className: "field" }, el("label", { for: id }, title), input, verdict),
    value: () => input.value.trim(),
    ready: () => Boolean(choices) || new RegExp(pattern, "u").test(input.value.trim()),
    complain: () => {
      verdict.textContent = `Enter only the ${title}, in small letters, without dots or slashes.`;
      verdict.dataset.state = "bad";
      input.setAttribute("aria-invalid", "true");
      input.focus();
    },
  };
}
