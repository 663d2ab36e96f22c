// The link's secret (broker/formats/linksecret.py): read once from the address bar, then only its proof is used.

import { canonical, concat, fromBase64Url, sha256, text, toBase64Url } from "./bytes.js";

export function takeSecret() {
  const secret = location.hash.slice(1);
  // Out of the address bar and the history, so that it is not shown, shared or synchronised by accident.
  history.replaceState(null, "", location.pathname);
  return secret;
}

export async function isWhole(secret) {
  if (!/^[A-Za-z0-9_-]{32}$/.test(secret)) return false;
  const bytes = fromBase64Url(secret);
  const sum = await sha256(concat(text("keybroker/link/v1"), bytes.slice(0, 20)));
  return bytes.slice(20).every((byte, index) => byte === sum[index]);
}

export async function proofOf(secret) {
  return toBase64Url(await sha256(canonical("keybroker/link-proof/v1", secret)));
}
