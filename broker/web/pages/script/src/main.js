// Both pages begin here: take the secret, prove it, show what came back.

import { byLink, codeForm, spent } from "./code.js";
import { form } from "./form.js";
import { takeLink } from "./link.js";
import { loading, over, wasSent } from "./pages.js";
import { following, Holder } from "./proof.js";
import { checkRecipient } from "./seal.js";
import { status } from "./status.js";

async function begin() {
  if (!globalThis.crypto?.subtle) return over("unavailable", "This page needs a secure connection (https) and a current browser.");
  const { page, id, secret, inAddress, cause } = await takeLink();
  if (secret) return open(new Holder(page, id, secret), { inAddress, inUrl: true });
  if (page === "status") return codeForm(cause, (code) => open(new Holder("status", id, code), {}));
  return over(cause);
}

// `inUrl`: the address held the secret, and the browser's history keeps it.
async function open(holder, { inAddress = false, inUrl = false }) {
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
  history.replaceState(null, "", holder.path);
  status(opened, holder, { keep, next });
}

async function next(holder) {
  const link = await following(holder);
  await asked(await link.call("open"), link, false);
}

// A link that is pasted over an open page changes the fragment only.
addEventListener("hashchange", begin);
begin();
