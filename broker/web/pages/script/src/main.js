// Both pages begin here: take the secret, prove it, show what came back.

import { byLink, codeForm, spent } from "./code.js";
import { keepLanguage } from "./dom.js";
import { form } from "./form.js";
import { fragment, takeLink } from "./link.js";
import { forgotten, insecure, loading, over, wasSent } from "./pages.js";
import { following, Holder } from "./proof.js";
import { checkRecipient } from "./seal.js";
import { status } from "./status.js";
import { inLanguage } from "./words.js";

async function begin() {
  if (!globalThis.crypto?.subtle) return insecure();
  const { page, id, secret, inAddress, cause } = await takeLink();
  if (secret) return open(new Holder(page, id, secret), { inAddress, inUrl: true });
  if (page === "status") return codeForm(cause, (code) => open(new Holder("status", id, code), {}));
  return cause === "link_forgotten" ? forgotten(id) : over(cause);
}

// `inUrl`: the address held the secret, and the browser's history keeps it.
async function open(holder, { inAddress = false, inUrl = false }) {
  if (!inUrl || holder.page === "status") keepLanguage();
  loading();
  try {
    const opened = await holder.call("open", { in_address: inAddress });
    if (holder.page === "status") status(opened, holder, { keep: inUrl && byLink(), next });
    else if (opened.state === "open") await asked(opened, holder, inUrl);
    else spent(opened, holder.id);
    if (inAddress) wasSent(opened.vendor);
  } catch (problem) {
    over(problem.code ?? "unavailable", problem.message, () => open(holder, { inAddress, inUrl }));
  }
}

async function asked(opened, holder, inUrl) {
  await checkRecipient(opened, holder);
  // In place: whoever submitted has the code in this page's memory, and no address holds it.
  form(opened, holder, { byLink: inUrl, shows });
}

function shows(opened, holder, keep) {
  history.replaceState(null, "", inLanguage(holder.path));
  status(opened, holder, { keep, next });
}

async function next(holder) {
  const link = await following(holder);
  await asked(await link.call("open"), link, false);
}

// A link that is pasted over an open page changes the fragment only.
addEventListener("hashchange", begin);
for (const language of document.querySelectorAll("#languages a")) {
  language.addEventListener("click", () => {
    language.hash = fragment();
  });
}
begin();
