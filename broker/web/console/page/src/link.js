// The link's secret (broker/formats/linksecret.py): read once from the address bar, then only its proof is used.
//
// Mail programs, chats and trackers change links: `#` becomes `%23`, final punctuation, line breaks and parameters are
// added.  The secret has a checksum, so it is looked for in whatever came.

import { canonical, concat, fromBase64Url, sha256, text, toBase64Url } from "./bytes.js";

const LENGTH = 32;
const LONGEST = 4096;
const ROUNDS = 4;
const PAGE = /^(\/(intake|status)\/(int_[0-9a-f]{32}))(.*)$/s;

// {page, id, secret, inAddress, cause}: `secret` is empty where none is found, and `cause` then says why; `inAddress`
// says that it stood in the part of the address that is sent to servers.
export async function takeLink() {
  const { pathname, search, hash } = location;
  const [, path, page, id, rest] = PAGE.exec(pathname) ?? [, pathname, ...pathname.split("/").slice(1, 3), ""];
  // Out of the address bar and the history, so that it is not shown, shared or synchronised by accident.
  history.replaceState(null, "", path);
  const sent = await find(rest + search);
  const secret = sent || (await find(hash));
  return { page, id, secret, inAddress: sent !== "", cause: secret ? "" : causeOf(rest, hash) };
}

async function find(changed) {
  const letters = lettersOf(changed);
  for (let start = 0; start + LENGTH <= letters.length; start++) {
    const candidate = letters.slice(start, start + LENGTH);
    if (await isWhole(candidate)) return candidate;
  }
  return "";
}

// Percent-encoding undone, however often it was done, and everything left out that no secret is made of.
function lettersOf(changed) {
  let decoded = changed.slice(0, LONGEST);
  for (let round = 0; round < ROUNDS; round++) {
    decoded = decoded.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
  }
  return decoded.replace(/[^A-Za-z0-9_-]/g, "");
}

// Parameters that were added tell nothing of what is missing.
function causeOf(...parts) {
  const longest = Math.max(...parts.map((part) => lettersOf(part.split(/[?&]/)[0]).length));
  if (longest >= LENGTH) return "link_altered";
  if (longest > 0) return "link_cut_off";
  const [arrival] = performance.getEntriesByType("navigation");
  return arrival && arrival.type !== "navigate" ? "link_forgotten" : "link_without_secret";
}

async function isWhole(secret) {
  const bytes = fromBase64Url(secret);
  const sum = await sha256(concat(text("keybroker/link/v1"), bytes.slice(0, 20)));
  return bytes.slice(20).every((byte, index) => byte === sum[index]);
}

export async function proofOf(secret) {
  return toBase64Url(await sha256(canonical("keybroker/link-proof/v1", secret)));
}
