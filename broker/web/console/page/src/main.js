// Both pages begin here: take the secret, prove it, show what came back.

import { post } from "./api.js";
import { form } from "./form.js";
import { isWhole, proofOf, takeSecret } from "./link.js";
import { loading, over, receipt } from "./pages.js";
import { status } from "./status.js";

async function begin(secret) {
  const [, page, id] = location.pathname.split("/");
  if (!secret) return over("no_secret");
  if (!globalThis.crypto?.subtle) return over("unavailable", "This page needs a secure connection (https) and a current browser.");
  if (!(await isWhole(secret))) return over("link_cut_off");
  loading();
  const proof = await proofOf(secret);
  try {
    const opened = await post(`${location.pathname}/open`, { proof });
    if (page === "status") status(opened, id, proof);
    else if (opened.state === "open") form(opened, id, proof);
    else receipt(opened, opened.receipt, opened.state, true);
  } catch (problem) {
    over(problem.code ?? "unavailable", problem.message, () => begin(secret));
  }
}

// A link that is pasted over an open page changes the fragment only.
addEventListener("hashchange", () => begin(takeSecret()));
begin(takeSecret());
