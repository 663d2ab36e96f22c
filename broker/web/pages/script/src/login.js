// The pages that people sign in with.  The broker makes each whole; this does what needs a browser: passkeys, the secret
// in a link's fragment, and what a button asks for.

import { ask } from "./asking.js";
import { make, prove } from "./passkey.js";

const main = document.getElementById("main");
const trouble = document.getElementById("trouble");

// Show one of a page's states, and bring keyboard and screen reader to it.
function turnTo(id) {
  for (const part of document.querySelectorAll("[data-state]")) part.hidden = part.id !== id;
  const heading = document.querySelector(`#${id} h1`);
  document.title = `${heading.textContent} – Keybroker`;
  heading.focus();
}

// Do what a button is for.  What goes wrong is said above it, and the button can be pressed again.
async function work(button, act) {
  trouble.hidden = true;
  button.disabled = true;
  try {
    await act();
  } catch (refusal) {
    if (refusal.code === "reauthentication_needed") return location.assign(`/login/again?to=${location.pathname}`);
    // Of a session that has ended. A link that is refused has the same code, and its page says why.
    if (refusal.code === "unauthenticated" && main.dataset.page === "account") return location.assign("/login");
    trouble.textContent = refusal.message;
    trouble.hidden = false;
  } finally {
    button.disabled = false;
  }
}

function press(id, act) {
  const button = document.getElementById(id);
  button?.addEventListener("click", () => work(button, act));
}

async function signIn(route) {
  const answer = await prove(await ask(`${route}/begin`));
  await ask(`${route}/finish`, { answer });
  location.assign(main.dataset.to);
}

async function add(name) {
  const answer = await make(await ask("/login/passkey/add/begin"));
  return ask("/login/passkey/add/finish", { answer, name });
}

// The secret stays in this page's memory, and leaves the address before anybody reads it over a shoulder.
function link() {
  const secret = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  if (!secret) return turnTo("no-link");
  press("use-link", async () => {
    await ask("/login/link", { secret });
    turnTo("first");
  });
}

// Made once: a passkey of one device.  Twice is asked for, so that a lost device locks nobody out.
function making(form, then) {
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.elements.namedItem("name");
    work(form.querySelector("button"), async () => {
      await add(name.value.trim());
      then();
    });
  });
}

// A key that is held down, or the second half of a double click, is no answer.
function asking(button) {
  const dialog = document.getElementById(button.dataset.asks);
  button.addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("keydown", (event) => event.repeat && event.key !== "Tab" && event.preventDefault());
  const [keep, go] = dialog.querySelectorAll("button");
  keep.addEventListener("click", () => dialog.close());
  go.addEventListener("click", ({ detail }) => {
    if (detail > 1) return;
    dialog.close();
    work(button, () => done(button.dataset.does));
  });
}

async function done(path, body) {
  await ask(path, body);
  location.reload();
}

const pages = {
  "sign-in": () => press("passkey", () => signIn("/login/passkey")),
  again: () => press("passkey", () => signIn("/login/again")),
  link() {
    link();
    making(document.getElementById("make-first"), () => turnTo("second"));
    making(document.getElementById("make-second"), () => location.assign(main.dataset.to));
  },
  account() {
    making(document.getElementById("make-another"), () => location.reload());
    for (const button of document.querySelectorAll("[data-asks]")) asking(button);
    for (const form of document.querySelectorAll("form[data-does]")) {
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const name = form.elements.namedItem("name").value.trim();
        work(form.querySelector("button"), () => done(form.dataset.does, { name }));
      });
    }
  },
};
pages[main.dataset.page]?.();
addEventListener("hashchange", () => main.dataset.page === "link" && location.reload());
