// The form: who asks, where to find the key, paste, check, seal, submit.

import { Problem } from "./api.js";
import { toBase64Url } from "./bytes.js";
import { judge } from "./check.js";
import { keep } from "./code.js";
import { callout, el, facts, keepLanguage, show, steps, UNKEPT, when } from "./dom.js";
import { forgetLink, namesRecipient, newCode } from "./link.js";
import { over } from "./pages.js";
import { Holder, keyOf } from "./proof.js";
import { receipt, wasReceived } from "./receipt.js";
import { sealKey } from "./seal.js";
import { unwrapped } from "./unwrap.js";
import { knows, pieces, say } from "./words.js";

const FINAL = new Set(["link_invalid", "intake_expired", "intake_cancelled", "intake_spent", "key_given"]);

// Failures that say nothing about the key.
const NOT_THE_KEY = new Set([
  "network", "unavailable", "database_unavailable", "keystore_unavailable", "audit_unavailable", "internal",
  "too_many_requests", "challenge_over", "seal_invalid",
]);
const TWICE = new Set(["intake_spent", "challenge_over"]);

// `link` opens the request; `shows` opens the status page in place, and `byLink` says that the address held the secret.
export function form(opened, link, { byLink, shows }) {
  const { provider, vendor, organization } = opened;
  const names = { vendor: vendor.name, provider: provider.title, key: provider.key_label };
  const field = keyField(provider);
  const variables = opened.variables.map(variableField);
  const trouble = el("div", { id: "trouble" });
  const progress = el("p", { role: "status", className: "progress", id: "progress" });
  const button = el("button", { type: "submit" }, say("form.submit"));
  // Made here, before anything is sent: whatever becomes of the answer, this page can ask what became of the key.
  const coded = newCode().then((code) => new Holder("status", link.id, code));
  const submit = async (event) => {
    event.preventDefault();
    trouble.replaceChildren();
    const wrong = [field, ...variables].find((input) => !input.ready());
    if (wrong) return wrong.complain();
    busy(true);
    keepLanguage();
    try {
      progress.textContent = say("form.sealing");
      const status = await coded;
      const sealed = toBase64Url(await sealKey(field.value(), await keyOf(status.secret), opened));
      progress.textContent = say("form.checking", names);
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
    forgetLink();
    receipt(opened, given, await coded, shows);
  };
  // The answer to a submission was lost, or it came twice: whoever has the code can ask.
  const ask = async (problem) => {
    progress.textContent = say("form.asking");
    try {
      const { receipt: given } = await (await coded).call("open");
      if (wasReceived(given)) return await received(given);
      failed(new Problem("either", "", 0));
    } catch (asked) {
      if (asked.code === "link_invalid") failed(problem);
      else unknown(await coded);
    }
    busy(false);
  };
  const unknown = (status) => {
    const heading = el("h2", { tabindex: "-1" }, say("form.not_known"));
    const box = callout("bad", heading, el("p", {}, say("form.not_known_text")), keep(status, say("form.code_for", names)));
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
    const known = `refusal.${problem.code}`;
    const text = knows(known) ? say(known, names) : problem.message || say("form.failed");
    const box = callout("bad", el("h2", { tabindex: "-1" }, say("form.not_accepted")), el("p", {}, text));
    trouble.replaceChildren(box);
    box.firstChild.focus();
  };
  const element = el(
    "form",
    { novalidate: true, onsubmit: submit },
    ...variables.map((input) => input.element),
    field.element,
    trouble,
    el("p", { className: "promise" }, say("form.promise", names)),
    el("p", { className: "actions" }, button),
    progress,
  );
  show(
    say(opened.own_wish ? "form.title_own" : "form.title", names),
    opened.rotation && callout("wait", el("p", {}, say(opened.present_serves ? "form.replaces" : "form.follows", names))),
    opened.also_asked && callout("wait", el("p", {}, say("form.also_asked"))),
    opened.last_refusal && callout("bad", el("p", {}, refusedBefore(opened.last_refusal))),
    !namesRecipient(link.secret) && callout("wait", el("p", { id: "old-link" }, say("form.old_link"))),
    facts([
      [say("form.organization"), el("strong", {}, organization.name)],
      ...whoAsks(opened),
      [say("form.used_for"), opened.purpose],
      [say("form.until"), when(opened.expires_at)],
    ]),
    el("h2", {}, say("form.create")),
    el("p", {}, say("form.create_text", { ...names, role: provider.role, organization: organization.name })),
    callout("wait", el("p", { id: "keep-open" }, byLink ? say("form.keep_open") : say("form.keep_open_own", { next: say("decide.next") }))),
    steps(provider.where),
    el("p", { className: "more" }, provider.link && el("a", { href: provider.link, rel: "noreferrer", target: "_blank" }, say("form.open_provider", names))),
    el("h2", {}, say("form.paste")),
    element,
    byLink && el("p", { className: "hint", id: "by-link" }, say("form.by_link")),
  );
}

// The vendor's address stands behind who asked for them; a customer who began it themselves sees where the key goes.
function whoAsks({ own_wish: own, requested_by: name, vendor }) {
  if (!own) return [[say("form.asked_by"), vendor.contact ? `${name}, ${vendor.contact}` : name]];
  return [
    [say("form.asked_by"), say("form.asked_by_you", { contact: name })],
    [say("form.received_by"), vendor.name],
    [say("form.questions"), vendor.contact],
  ];
}

function refusedBefore({ code, message }) {
  return knows(`refused_before.${code}`) ? say(`refused_before.${code}`) : message;
}

// Whether nobody knows what became of a submission, or something on the way sent it twice.
function isLost({ code, sent, status }) {
  return TWICE.has(code) || (sent && (code === "network" || status >= 500));
}

function keyField(provider) {
  const hint = el("p", { id: "key-hint", className: "hint" }, pieces("form.looks_like", { example: el("code", {}, shortened(provider.example)) }));
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
  const reveal = el("button", { type: "button", className: "quiet", "aria-pressed": "false", "aria-controls": "key" }, say("form.show"));
  reveal.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    reveal.setAttribute("aria-pressed", String(shown));
    reveal.textContent = say(shown ? "form.hide" : "form.show");
  });
  const paste = async () => {
    try {
      take(await navigator.clipboard.readText());
    } catch {
      verdict.textContent = say("form.paste_refused");
    }
    input.focus();
  };
  const canPaste = navigator.clipboard && "readText" in navigator.clipboard;
  return {
    element: el(
      "div",
      { className: "field" },
      el("label", { for: "key" }, say("form.field", { provider: provider.title, key: provider.key_label })),
      hint,
      el("div", { className: "row" }, input, canPaste && el("button", { type: "button", className: "quiet", onclick: paste }, say("form.paste_button")), reveal),
      verdict,
      taken,
    ),
    value: () => input.value,
    ready: () => check() === "good",
    complain: () => {
      judged(input.value === "" ? say("form.paste_first") : verdict.textContent, "bad");
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
  if (from === "") return "";
  const last4 = key.slice(-4);
  if (from === "text" && left.length) return say("taken.words", { last4, words: left.join(say("taken.words_between")) });
  return say(`taken.${from === "text" ? "signs" : from}`, { last4 });
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
      verdict.textContent = say("form.variable_wrong", { title });
      verdict.dataset.state = "bad";
      input.setAttribute("aria-invalid", "true");
      input.focus();
    },
  };
}
