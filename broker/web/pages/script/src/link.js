// The secret part of a link, or the code of a status page (broker/formats/link_secret.py): read once from the address bar
// or a field, then only proofs of it are used.
//
// Mail programs, chats and trackers change links: `#` becomes `%23`, final punctuation, line breaks and parameters are
// added.  Both have a checksum, so they are looked for in whatever came.

import { canonical, concat, fromBase64Url, sha256, text, toBase64Url } from "./bytes.js";
import { inLanguage } from "./words.js";

const CODE = 32;
const LINK = 54;
const LABELS = { [CODE]: "keybroker/link/v1", [LINK]: "keybroker/link/v2" };
const SUM = 4;
const SECRET = 20;
const RECIPIENT = 16;
const LONGEST = 4096;
const ROUNDS = 4;
const PAGE = /^(\/(intake|status)\/(int_[0-9a-f]{32}))(.*)$/s;
const GROUPED = /(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{4}-){7}[A-Za-z0-9_-]{4}(?![A-Za-z0-9_-])/g;

// {page, id, secret, inAddress, cause}: `secret` is empty where none is found, and `cause` then says why; `inAddress`
// says that it stood in the part of the address that is sent to servers.
export async function takeLink() {
  const { pathname, search, hash } = location;
  const [, path, page, id, rest] = PAGE.exec(pathname) ?? [, pathname, ...pathname.split("/").slice(1, 3), ""];
  // Out of the address bar, so that it is not shown or copied on by accident.  The browser's history keeps the visit all
  // the same: what is to stay secret for long is a code, which is in no address.
  const before = history.state?.link;
  history.replaceState(history.state, "", inLanguage(path));
  const sent = await find(rest + search);
  const found = sent || (await find(hash));
  const link = found ? { secret: found, inAddress: sent !== "" } : before;
  if (!link) return { page, id, secret: "", cause: causeOf(rest, hash) };
  // This entry of the tab's history keeps a one-time link, for when the browser drops the page and loads it again.
  if (page === "intake") history.replaceState({ link }, "");
  return { page, id, ...link, cause: "" };
}

// A key was submitted over the link.
export function forgetLink() {
  history.replaceState(null, "");
}

// The fragment by which the same page opens in another language.
export function fragment() {
  return history.state?.link?.secret ?? "";
}

// A fresh code.
export async function newCode() {
  return encoded(crypto.getRandomValues(new Uint8Array(SECRET)), CODE);
}

// The code in what was pasted, {code} or {cause}: its groups may stand apart, by spaces, line breaks or dashes.
export async function takeCode(pasted) {
  const plain = await find(pasted);
  if (plain) return { code: plain };
  for (const [grouped] of pasted.matchAll(GROUPED)) {
    const code = grouped.replace(/(.{4})-/g, "$1");
    if (await isWhole(code)) return { code };
  }
  const { length } = lettersOf(pasted);
  return { cause: length === 0 ? "empty" : length < CODE ? "code_cut_off" : "code_altered" };
}

// The link's secret part for the 20 secret bytes and the recipient that it names.
export function linkTo(secret, recipient) {
  return encoded(concat(secret, recipient.slice(0, RECIPIENT)), LINK);
}

// Whom a key is sealed to, and for what.
export function recipientOf({ public_key: publicKey, context }) {
  const { intake, organization, provider, expires_ms: expires } = context;
  return sha256(canonical("keybroker/link-recipient/v2", fromBase64Url(publicKey), intake, organization, provider, expires));
}

// Links of version 1 name nobody.
export function namesRecipient(secret) {
  return secret.length === LINK;
}

export function isFor(secret, recipient) {
  const named = fromBase64Url(secret).slice(SECRET, SECRET + RECIPIENT);
  return namesRecipient(secret) && named.every((byte, index) => byte === recipient[index]);
}

export async function find(changed) {
  const letters = lettersOf(changed);
  for (const length of [LINK, CODE]) {
    for (let start = 0; start + length <= letters.length; start++) {
      const candidate = letters.slice(start, start + length);
      if (await isWhole(candidate)) return candidate;
    }
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
  if (longest >= LINK || longest === CODE) return "link_altered";
  if (longest > 0) return "link_cut_off";
  const [arrival] = performance.getEntriesByType("navigation");
  return arrival && arrival.type !== "navigate" ? "link_forgotten" : "link_without_secret";
}

async function isWhole(secret) {
  const bytes = fromBase64Url(secret);
  // Of the last character not every bit counts: one spelling is the right one.
  return (await encoded(bytes.slice(0, -SUM), secret.length)) === secret;
}

async function encoded(data, length) {
  const sum = await sha256(concat(text(LABELS[length]), data));
  return toBase64Url(concat(data, sum.slice(0, SUM)));
}

// What shows the broker that a link of version 1 is known.
export async function constantProof(secret) {
  return toBase64Url(await sha256(canonical("keybroker/link-proof/v1", secret)));
}
