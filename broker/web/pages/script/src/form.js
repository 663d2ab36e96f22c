// The form: who asks, where to find the key, paste, check, seal, submit.

import { Problem } from "./api.js";
import { toBase64Url } from "./bytes.js";
import { judge } from "./check.js";
import { keep } from "./code.js";
import { callout, el, facts, show, steps, UNKEPT, when } from "./dom.js";
import { namesRecipient, newCode } from "./link.js";
import { over } from "./pages.js";
import { Holder, keyOf } from "./proof.js";
import { receipt, wasReceived } from "./receipt.js";
import { sealKey } from "./seal.js";
import { unwrapped } from "./unwrap.js";

const FINAL = new Set(["link_invalid", "intake_expired", "intake_cancelled", "intake_spent", "key_given"]);
const TEXTS = {
  network: "The key could not be sent: there is no connection. It is still in the field; try again.",
  seal_invalid: "The key could not be read after sending. Open the link again from your message and submit once more.",
  too_many_requests: "Too many attempts from here. Wait ten minutes, then try again.",
};

// Failures that say nothing about the key.
const NOT_THE_KEY = new Set(["network", "unavailable", "too_many_requests", "challenge_over"]);
const TWICE = new Set(["intake_spent", "challenge_over"]);

const REPLACES = "This key replaces the one you gave before, which keeps working until the new one is in use. You will be told when to revoke the old one.";
const ALSO_ASKED = "More than one link was sent for this key. Use any one of them; nothing needs to be done about the others.";
const FOLLOWS = "The key you gave before is out of use; this one takes its place. If you have not revoked the old one yet, please do.";

const OLD_LINK = "This link is of an old kind: it does not say whom the key is to be sealed to, so whoever stands between you and the service could put themselves in its place and read the key. If that matters to you, ask the vendor for a new link first.";
const REMEMBERED = "Your browser’s history keeps the link that you opened. Once a key was submitted over it, it opens nothing any more.";
const REFUSED = "The key arrived, but was refused: it is not valid, or belongs to another organization. Create a new one and submit it here; this link still works.";

// `link` opens the request; `shows` opens the status page in place, and `byLink` says that the address held the secret.
export function form(opened, link, { byLink, shows }) {
  const { provider, vendor, organization } = opened;
  const field = keyField(provider);
  const variables = opened.variables.map(variableField);
  const trouble = el("div", { id: "trouble" });
  const progress = el("p", { role: "status", className: "progress", id: "progress" });
  const button = el("button", { type: "submit" }, "Seal and submit");
  // Made here, before anything is sent: whatever becomes of the answer, this page can ask what became of the key.
  const coded = newCode().then((code) => new Holder("status", link.id, code));
  const submit = async (event) => {
    event.preventDefault();
    trouble.replaceChildren();
    const wrong = [field, ...variables].find((input) => !input.ready());
    if (wrong) return wrong.complain();
    busy(true);
    try {
      progress.textContent = "Sealing the key in this browser…";
      const status = await coded;
      const sealed = toBase64Url(await sealKey(field.value(), await keyOf(status.secret), opened));
      progress.textContent = `Sent. Checking with ${provider.title}…`;
      const values = Object.fromEntries(variables.map((input) => [input.name, input.value()]));
      await received((await link.call("submit", { sealed, variables: values })).receipt);
    } catch (problem) {
      if (isLost(problem)) return ask(problem);
      busy(false);
      failed(problem);
    }
  };
  const received = async (given) => {
    field.wipe();
    receipt(opened, given, await coded, shows);
  };
  // The answer to a submission was lost, or it came twice: whoever has the code can ask.
  const ask = async (problem) => {
    progress.textContent = "No answer came. Asking whether the key arrived…";
    try {
      const { receipt: given } = await (await coded).call("open");
      if (wasReceived(given)) return await received(given);
      failed(new Problem("key_refused_upstream", REFUSED, 0));
    } catch (asked) {
      if (asked.code === "link_invalid") failed(problem);
      else unknown(await coded);
    }
    busy(false);
  };
  const unknown = (status) => {
    const words = "The connection broke while it was being sent. Keep this code first: if the key arrived, it shows what became of it. Then try again; a second submission does no harm.";
    const box = callout("bad", el("h2", { tabindex: "-1" }, "It is not known whether the key arrived"), el("p", {}, words), keep(status, `a ${provider.title} key, given to ${vendor.name}`));
    trouble.replaceChildren(box);
    box.firstChild.focus();
  };
  const busy = (on) => {
    button.disabled = on;
    element.setAttribute("aria-busy", String(on));
    progress.textContent = on ? progress.textContent : "";
  };
  const failed = (problem) => {
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
    !namesRecipient(link.secret) && callout("wait", el("p", { id: "old-link" }, OLD_LINK)),
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
    byLink && el("p", { className: "hint", id: "by-link" }, REMEMBERED),
  );
}

// Whether nobody knows what became of a submission, or something on the way sent it twice.
function isLost({ code, sent, status }) {
  return TWICE.has(code) || (sent && (code === "network" || status >= 500));
}

function keyField(provider) {
  const hint = el("p", { id: "key-hint", className: "hint" }, "It looks like ", el("code", {}, shortened(provider.example)), `.`);
  const verdict = el("p", { id: "key-verdict", className: "verdict", role: "status" });
  const taken = el("p", { id: "key-taken", className: "hint", role: "status" });
  const input = el("input", {
    id: "key",
    type: "password",
    ...UNKEPT,
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
