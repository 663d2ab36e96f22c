// Verify receipts and checkpoints of Keybroker in a browser, with this file alone.
//
// It has the rules of verify.py beside it: what one accepts the other accepts, and both refuse in the same words. It
// imports nothing, asks nobody and keeps nothing. Whoever calls it has the texts, and with `keys` says whom they trust.
//
// What is behind it: the tree hash of RFC 6962, signed notes, checkpoints and proofs as C2SP has them (c2sp.org), and
// docs/formats. Sizes and indices are BigInt, as they go beyond what a number of JavaScript holds.

// 32 bytes in base64, in the one spelling that they have.
const B64 = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=";
const NUMBER = "0|[1-9][0-9]{0,15}";
// What is no space. JavaScript's \s has other characters than Python's, so they are named.
const NAME = "[^\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000+]+";
const LINE_END = /\r\n|[\n-\r\x1c-\x1e\x85\u2028\u2029]/;
const CHECKPOINT = whole(`(${NAME})\\n(${NUMBER})\\n(${B64})\\n`);
const SIGNATURES = whole(`(?:— ${NAME} [A-Za-z0-9+/]+={0,2}\\n)+`);
const RECEIPT = whole(
  `c2sp\\.org/tlog-proof@v1\\nextra ([A-Za-z0-9+/=]+)\\nindex (${NUMBER})\\n((?:${B64}\\n)*)\\n([^\\n]+\\n.*)`,
);
// What follows an event's core.
const REST = whole(
  `","salt_core":"(${B64})",(?:"personal_commitment":"(${B64})"|` +
    `"personal":"([^"\\\\]*(?:\\\\[^\\n][^"\\\\]*)*)","salt_personal":"(${B64})")\\}\\n`,
);
const GOOD_TO = whole(`# good to size (${NUMBER})`);

function whole(pattern) {
  return new RegExp(`^(?:${pattern})$`, "s");
}

// What was shown doesn't prove what it is to prove; says why.
export class Refused extends Error {}

// This browser can't verify anything, so nothing is said of what was shown.
export class Unable extends Error {}

// --- signed notes ---

// The keys of a file, a line each: {name, public, witness, goodTo}. Those of other kinds (ML-DSA-44) are passed over.
// All witnesses that stand there have to have cosigned a checkpoint.
export function keys(file) {
  const found = [];
  let goodTo = null;
  for (const line of file.split(LINE_END)) {
    const retired = GOOD_TO.exec(line); // of the log's key that comes next
    if (retired) goodTo = BigInt(retired[1]);
    const [name, rest] = partition(line, "+");
    if (line.startsWith("#") || !name) continue;
    const key = base64(partition(rest, "+")[1]);
    if (key.length !== 33 || (key[0] !== 1 && key[0] !== 4)) continue;
    const witness = key[0] === 4;
    found.push({ name, public: key.slice(1), witness, goodTo: witness ? null : goodTo });
    if (!witness) goodTo = null;
  }
  if (found.every(({ witness }) => witness)) {
    throw new Refused("the file of keys has none: it is to have what the broker shows at /v1/audit/log/key");
  }
  return found;
}

// A key as a line of that file.
export async function keyLine(key) {
  const id = [...(await idOf(key))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${key.name}+${id}+${toBase64(concat([key.witness ? 4 : 1], key.public))}`;
}

async function idOf({ name, witness, public: bytes }) {
  return (await sha256(encoded(`${name}\n`), [witness ? 4 : 1], bytes)).slice(0, 4);
}

// What a key's line among signatures holds; null if it has none.
async function lineOf(key, signatures) {
  const id = await idOf(key);
  for (const line of signatures.split("\n")) {
    if (!line.startsWith(`— ${key.name} `)) continue;
    const signed = base64(line.slice(line.lastIndexOf(" ") + 1));
    if (same(signed.slice(0, 4), id)) return signed.slice(4);
  }
  return null;
}

// Whether a key signed a text, or cosigned it. A wrong signature of it is refused.
async function signed(key, text, signatures) {
  let found = await lineOf(key, signatures);
  if (!found) return false;
  if (key.witness) {
    // C2SP tlog-cosignature: eight bytes of time, which are signed with the text.
    const time = found.slice(0, 8).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    text = `cosignature/v1\ntime ${time}\n${text}`;
    found = found.slice(8);
  }
  if (!(await verifies(key.public, found, encoded(text)))) throw new Refused(`the signature of ${key.name} is wrong`);
  return true;
}

async function verifies(key, signature, text) {
  let imported;
  try {
    imported = await subtle().importKey("raw", key, "Ed25519", false, ["verify"]);
  } catch (error) {
    if (error.name === "DataError") return false; // no point of the curve
    throw new Unable("it can't check Ed25519 signatures");
  }
  return subtle().verify("Ed25519", imported, signature, text);
}

// What a signed checkpoint says, if one of the keys that you trust signed it: {origin, size, root, by}. `told` is called
// with each step that is proved: "signed", and "cosigned" if there are witnesses.
export async function checkpoint(note, trusted, told = () => {}) {
  const [head, signatures] = partition(note, "\n\n");
  const text = `${head}\n`;
  if (!SIGNATURES.test(signatures)) throw new Refused("not a signed note");
  const by = [];
  for (const key of trusted) if (!key.witness && (await signed(key, text, signatures))) by.push(key);
  const read = CHECKPOINT.exec(text);
  if (!read) throw new Refused("not a signed checkpoint");
  const [origin, size] = [read[1], BigInt(read[2])];
  const ofLog = by.filter(({ name }) => name === origin);
  if (!ofLog.length) throw new Refused(`no key that you trust signed the checkpoint of ${origin}`);
  if (ofLog.every(({ goodTo }) => goodTo !== null && size > goodTo)) {
    throw new Refused("the checkpoint is signed with a key that signed no more when the log was so large");
  }
  const found = { origin, size, root: base64(read[3]), by: ofLog };
  await told("signed", found);
  const witnesses = trusted.filter(({ witness }) => witness);
  for (const key of witnesses) {
    if (!(await signed(key, text, signatures))) {
      throw new Refused(`the witness ${key.name} has not cosigned the checkpoint`);
    }
  }
  if (witnesses.length) await told("cosigned", witnesses);
  return found;
}

// --- the tree ---

// The hash of two subtrees beside each other.
export function node(left, right) {
  return sha256([1], left, right);
}

// The root of a tree with the entry at the index (RFC 9162 §2.1.3.2).
async function rootByInclusion(entry, index, size, proof) {
  if (index >= size) throw new Refused("the checkpoint is of a smaller log than the event's index");
  const sides = [...sidesOf(index, size - 1n)];
  if (proof.length !== sides.length) throw new Refused("the proof is of another length");
  let made = await sha256([0], entry);
  for (const [at, beside] of proof.entries()) made = await (sides[at] ? node(beside, made) : node(made, beside));
  return made;
}

// Check that the newer log begins with all of the older one (RFC 9162 §2.1.4.2).
export async function checkConsistency(older, newer, proof) {
  if (older.size > newer.size) {
    throw new Refused(`the log had ${older.size} events and has ${newer.size} now: its end was cut off`);
  }
  if (older.size === 0n || older.size === newer.size) {
    if (proof.length || (older.size && !same(older.root, newer.root))) {
      throw new Refused("the log was rewritten: two histories have the same number of events");
    }
    return;
  }
  const hashes = older.size & (older.size - 1n) ? proof : [older.root, ...proof];
  let [at, last] = [older.size - 1n, newer.size - 1n];
  for (; at & 1n; at >>= 1n) last >>= 1n;
  const sides = [...sidesOf(at, last)];
  if (hashes.length !== sides.length + 1) throw new Refused("the proof is of another length");
  let [ofOlder, ofNewer] = [hashes[0], hashes[0]];
  for (const [step, beside] of hashes.slice(1).entries()) {
    if (sides[step]) ofOlder = await node(beside, ofOlder);
    ofNewer = await (sides[step] ? node(beside, ofNewer) : node(ofNewer, beside));
  }
  if (!same(ofOlder, older.root) || !same(ofNewer, newer.root)) {
    throw new Refused("the log was rewritten: what it was before is no part of it now");
  }
}

// For each step up to the root, whether what lies beside is on the left.
function* sidesOf(at, last) {
  while (last) {
    const onTheLeft = Boolean(at & 1n) || at === last;
    yield onTheLeft;
    for (; onTheLeft && at && !(at & 1n); at >>= 1n) last >>= 1n;
    [at, last] = [at >> 1n, last >> 1n];
  }
}

// --- events ---

// The event whose core begins at `start` of a line: {entry, core, personal (null if withheld)}; null if it isn't one.
async function eventOf(line, start) {
  const end = line.indexOf('","salt_core":"', start);
  const rest = end > 0 && line.startsWith('"core":"', start) ? REST.exec(line.slice(end)) : null;
  if (!rest) return null;
  // A core is ids and words, so no escape is in it but that of a quote.
  const pieces = line.slice(start + '"core":"'.length, end).split('\\"');
  const core = pieces.join('"');
  if (core.includes("\\") || core.split('"').length > pieces.length) return null;
  const [, saltCore, withheld, raw, saltPersonal] = rest;
  let [personal, cp] = [null, null];
  if (raw === undefined) {
    cp = base64(withheld);
  } else {
    personal = parsed(`"${raw}"`, "the line is cut off, or is no event");
    // Half a surrogate pair is no character, so nobody wrote it.
    if (/[\ud800-\udfff]/u.test(personal) || JSON.stringify(personal) !== `"${raw}"`) return null;
    cp = await sha256(encoded("auditpii/v1\0"), base64(saltPersonal), encoded(personal));
  }
  const cc = await sha256(encoded("auditcore/v1\0"), base64(saltCore), encoded(core));
  return { entry: await sha256(encoded("auditentry/v1\0"), cc, cp), core, personal };
}

// The event of a receipt, if the log has it: {index, core, text, personal, entry, checkpoint}; `text` is the core as it
// was committed. `told` is called with each step that is proved: "commitment", those of the checkpoint, "included".
export async function receipt(file, trusted, told = () => {}) {
  const read = RECEIPT.exec(file);
  const shown = read ? decodedOr(base64(read[1]), "") : "";
  const event = shown.startsWith("{") ? await eventOf(`${shown}\n`, 1) : null;
  if (!event) throw new Refused("not a receipt of an event");
  await told("commitment", event);
  const found = await checkpoint(read[4], trusted, told);
  const proof = read[3].split("\n").filter(Boolean).map(base64);
  const index = BigInt(read[2]);
  if (!same(await rootByInclusion(event.entry, index, found.size, proof), found.root)) {
    throw new Refused("the event is not in the log: it was changed, or was never there");
  }
  const personal = event.personal ? object(event.personal) : null;
  const core = object(event.core);
  await told("included", { index, size: found.size });
  return { index, core, text: event.core, personal, entry: event.entry, checkpoint: found };
}

// Two checkpoints, if `data` proves that the newer log begins with all of the older one. It is `old <size>`, the proof,
// a line each, an empty line, and the newer checkpoint.
export async function consistency(old, data, trusted) {
  const before = await checkpoint(old, trusted);
  const [lines, note] = partition(data, "\n\n");
  const [first, ...proof] = lines.split("\n");
  if (first !== `old ${before.size}`) throw new Refused(`the proof is to begin with: old ${before.size}`);
  const now = await checkpoint(note, trusted);
  await checkConsistency(before, now, proof.map(base64));
  return [before, now];
}

// --- small things ---

function object(text) {
  const none = "the event is no object of JSON";
  const value = parsed(text, none);
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Refused(none);
  return value;
}

function parsed(text, otherwise) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(otherwise);
  }
}

// Before and after the first `by`; nothing is after it where there is none.
function partition(text, by) {
  const at = text.indexOf(by);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + by.length)];
}

// The text of bytes that are UTF-8. A byte order mark is a character of it.
export function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("it is no text");
  }
}

function decodedOr(bytes, otherwise) {
  try {
    return decoded(bytes);
  } catch {
    return otherwise;
  }
}

function encoded(text) {
  return new TextEncoder().encode(text);
}

export function base64(text) {
  let data;
  try {
    data = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw new Refused("not base64");
  }
  if (toBase64(data) !== text) throw new Refused("base64 in another spelling");
  return data;
}

export function toBase64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

function same(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function concat(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

async function sha256(...parts) {
  return new Uint8Array(await subtle().digest("SHA-256", concat(...parts)));
}

function subtle() {
  if (!globalThis.crypto?.subtle) throw new Unable("it can hash and check signatures on https:// pages alone");
  return crypto.subtle;
}
