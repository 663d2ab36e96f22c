// Both pages begin here: take the secret, prove it, show what came back.

import { post } from "./api.js";
import { form } from "./form.js";
import { proofOf, takeLink } from "./link.js";
import { loading, over, receipt, wasSent } from "./pages.js";
import { status } from "./status.js";

async function begin() {
  if (!globalThis.crypto?.subtle) return over("unavailable", "This page needs a secure connection (https) and a current browser.");
  const link = await takeLink();
  if (!link.secret) return over(link.cause);
  await open(link, await proofOf(link.secret));
}

async function open(link, proof) {
  const { page, id, inAddress } = link;
  loading();
  try {
    const opened = await post(`/${page}/${id}/open`, { proof, in_address: inAddress });
    if (page === "status") status(opened, id, proof);
    else if (opened.state === "open") form(opened, id, proof);
    else receipt(opened, opened.receipt, opened.state, true);
    if (inAddress) wasSent(opened.vendor);
  } catch (problem) {
    over(problem.code ?? "unavailable", problem.message, () => open(link, proof));
  }
}

// A link that is pasted over an open page changes the fragment only.
addEventListener("hashchange", begin);
begin();
