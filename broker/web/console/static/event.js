// "Verify in this browser", on an event's page: fetches the event's receipt and the log's keys, has verify.js prove each
// step, and holds the log to what this browser saw of it before. The page is whole without it.

import { base64, checkConsistency, checkpoint, decoded, keyLine, keys, node, receipt, Refused, toBase64, Unable } from "./verify.js";

const LOG = "/v1/audit/log";
const SEEN = "keybroker.log";
const form = document.getElementById("verify");
const verdict = document.getElementById("verdict");
const evidence = document.getElementById("evidence");
const shown = JSON.stringify(JSON.parse(document.getElementById("core-text").textContent));

// What the broker didn't answer, in its words.
class Unanswered extends Error {}

async function fetched(path) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", referrerPolicy: "no-referrer" });
  } catch {
    throw new Unanswered("the broker can't be reached.");
  }
  if (answer.ok) return new Uint8Array(await answer.arrayBuffer());
  const { detail } = await answer.json().catch(() => ({}));
  throw new Unanswered(detail ?? `the broker answered with ${answer.status}.`);
}

const text = async (path) => decoded(await fetched(path));

// --- what is said ---

function say(tone, ...sentences) {
  verdict.className = tone ? `callout ${tone}` : "";
  verdict.textContent = sentences.join(" ");
}

// What each step is to prove, as the page says it at first.
const sought = Object.fromEntries(
  [...document.querySelectorAll("[data-step]")].map((line) => [line.dataset.step, line.querySelector(".says").textContent]),
);

// A step's state is a word with its colour; without a sentence its own one stays.
function mark(step, tone, word, sentence) {
  const line = document.querySelector(`[data-step=${step}]`);
  const state = line.querySelector(".state");
  state.className = `state ${tone}`;
  state.textContent = word;
  if (sentence) line.querySelector(".says").textContent = sentence;
}

const events = (number) => `${number.toLocaleString("en")} ${number === 1n ? "event" : "events"}`;

// --- the steps ---

async function verify() {
  for (const [step, sentence] of Object.entries(sought)) mark(step, "quiet", "not checked", sentence);
  document.getElementById("steps").hidden = false;
  evidence.hidden = true;
  say("", "Verifying…");
  const progress = { at: "signed" }; // the step that isn't proved yet; at first there are no keys for that one
  try {
    say(...(await verified(progress)));
  } catch (problem) {
    if (problem instanceof Refused) mark(progress.at, "bad", "wrong");
    say(...failed(problem, progress));
    if (!(problem instanceof Refused || problem instanceof Unable || problem instanceof Unanswered)) throw problem;
  }
}

// What is said once all is proved.
async function verified(progress) {
  const kept = form.elements.namedItem("keys").value.trim();
  const trusted = keys(kept || (await text(`${LOG}/key`)));
  progress.at = "commitment";
  const witnessed = trusted.some(({ witness }) => witness);
  const next = { commitment: "signed", signed: witnessed ? "cosigned" : "included", cosigned: "included", included: "grown" };
  const whose = kept ? "A key that you kept" : "The key that the broker shows now";
  const told = async (step, found) => {
    await proved[step](found, whose);
    progress.at = next[step];
  };
  if (!witnessed) mark("cosigned", "quiet", "no witness", "No witness's key is among the keys.");
  const file = await text(form.dataset.receipt);
  const { index, core, checkpoint: found } = await receipt(file, trusted, told);
  progress.done = `Verified: event ${index} (${core.kind}) is in the log of ${events(found.size)}.`;
  const odd = await comparedWithBefore({ ...found, note: file.slice(file.indexOf("\n\n") + 2) }, trusted, Boolean(kept));
  return odd ? ["wait", progress.done, odd] : ["good", progress.done];
}

function failed(problem, { at, done }) {
  if (problem instanceof Refused) return ["bad", `NOT verified: ${problem.message}.`];
  if (problem instanceof Unable) {
    return ["wait", `Nothing was verified in this browser: ${problem.message}. Verify the receipt with the commands below.`];
  }
  const why = problem instanceof Unanswered ? problem.message : "this page has a fault.";
  return ["wait", at === "grown" ? `${done} It was not compared with what this browser saw before: ${why}` : `Nothing was verified: ${why}`];
}

const proved = {
  commitment({ core, entry }) {
    if (core !== shown) throw new Refused("the receipt is of another event than this page shows");
    mark("commitment", "good", "proved", `The core above makes the commitment ${toBase64(entry)}.`);
  },
  included: ({ index, size }) => mark("included", "good", "proved", `It is number ${index} of a log of ${events(size)}, by the hashes of the receipt.`),
  async signed({ size, by }, whose) {
    const lines = await Promise.all(by.map(keyLine));
    mark("signed", "good", "proved", `${whose} signed the log of ${events(size)}: ${lines.join(", ")}.`);
  },
  cosigned: (witnesses) => mark("cosigned", "good", "proved", `Cosigned by ${witnesses.map(({ name }) => name).join(", ")}.`),
};

// --- what this browser saw before ---

// Holds the log to the newest checkpoint that was seen here, then keeps the newest of now. Says what is odd. Another log or
// key than was seen is remembered once it was verified with keys that somebody kept; until then it stays odd.
async function comparedWithBefore(found, trusted, kept) {
  const note = await text(`${LOG}/checkpoint`);
  const now = { ...(await checkpoint(note, trusted.filter(({ witness }) => !witness))), note };
  if (now.origin !== found.origin) {
    mark("grown", "wait", "another log", `The newest checkpoint is of ${now.origin}.`);
    return "The log has another name by now: the database was restored, or somebody makes believe that it was.";
  }
  await grown(found, now);
  const seen = remembered();
  const before = seen[now.origin];
  if (before) await grown({ size: BigInt(before.size), root: base64(before.root), note: before.note }, now);
  const signers = await Promise.all(now.by.map(keyLine));
  const known = before ? signers.some((line) => before.signers.includes(line)) : !Object.keys(seen).length;
  const entry = { size: String(now.size), root: toBase64(now.root), at: new Date().toISOString(), note };
  entry.signers = known || kept ? signers : before?.signers;
  const stored = entry.signers && remember({ ...seen, [now.origin]: entry });
  if (before) return sinceBefore(before, known || kept);
  return firstSeen(known || kept ? [] : Object.keys(seen), stored);
}

function sinceBefore({ size, at }, sure) {
  const when = `${at.slice(0, 16).replace("T", " ")} UTC`;
  mark("grown", "good", "proved", `The log begins with the ${events(BigInt(size))} that this browser saw at ${when}.`);
  return sure ? null : "Another key signs than this browser saw. Compare it with the one that you were given, and verify with that.";
}

function firstSeen(others, stored) {
  if (others.length) {
    mark("grown", "wait", "another log", `This browser knows ${others.join(", ")} here.`);
    return "Another log than this browser knows: the database was restored, or this is another broker. Verify with keys that you kept.";
  }
  if (stored) mark("grown", "quiet", "first time", "This browser remembers the log from now on.");
  else mark("grown", "quiet", "not kept", "This browser keeps nothing, so it can't compare.");
  return null;
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(SEEN)) ?? {};
  } catch {
    return {};
  }
}

function remember(seen) {
  try {
    localStorage.setItem(SEEN, JSON.stringify(seen));
    return true;
  } catch {
    return false;
  }
}

// --- that the log only grew, by its tiles (broker/formats/tile.py, merkle.py) ---

async function grown(older, newer) {
  const apart = older.size > 0n && older.size < newer.size;
  try {
    await checkConsistency(older, newer, apart ? await proofOf(older.size, newer.size) : []);
  } catch (problem) {
    if (problem instanceof Refused) {
      evidence.hidden = false;
      evidence.querySelector("pre").textContent = `${older.note}\n${newer.note}`;
    }
    throw problem;
  }
}

// The consistency proof from a tree to a larger one (RFC 9162 §2.1.4.1).
async function proofOf(old, size) {
  const tiles = new Map();
  const tile = (level, number) => {
    const width = least(256n, (size >> BigInt(8 * level)) - number * 256n);
    const path = pathOf(level, number, width);
    if (!tiles.has(path)) tiles.set(path, fetched(`${LOG}/${path}`));
    return tiles.get(path);
  };
  const beside = [];
  let [start, stop] = [0n, size];
  while (stop !== old) {
    const middle = start + (1n << BigInt(levelOf(stop - start - 1n)));
    beside.push(old <= middle ? [middle, stop] : [start, middle]);
    [start, stop] = old <= middle ? [start, middle] : [middle, stop];
  }
  const ranges = start ? [[start, stop], ...beside.reverse()] : beside.reverse();
  return Promise.all(ranges.map(([first, end]) => hashOf(first, end, tile)));
}

// The hash over the entries from `first` to before `end`, where a subtree begins at `first`.
async function hashOf(first, end, tile) {
  const level = levelOf(end - first);
  const left = await wholeOf(level, first >> BigInt(level), tile);
  const middle = first + (1n << BigInt(level));
  return middle === end ? left : node(left, await hashOf(middle, end, tile));
}

// The hash of a whole subtree: it stands in a tile, or some that do stand there make it.
async function wholeOf(level, number, tile) {
  const above = level % 8;
  const first = number << BigInt(above);
  const hashes = await tile((level - above) / 8, first / 256n);
  const start = Number(first % 256n) * 32;
  let row = Array.from({ length: 1 << above }, (_, at) => hashes.slice(start + at * 32, start + at * 32 + 32));
  while (row.length > 1) row = await Promise.all(pairs(row).map(([left, right]) => node(left, right)));
  return row[0];
}

const pairs = (row) => row.flatMap((left, at) => (at % 2 ? [] : [[left, row[at + 1]]]));
const least = (one, other) => (one < other ? one : other);
// Of the largest power of two that is no larger, which power it is.
const levelOf = (number) => number.toString(2).length - 1;

function pathOf(level, number, width) {
  const digits = String(number);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/.{3}/g);
  const named = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join("/");
  return `tile/${level}/${named}${width === 256n ? "" : `.p/${width}`}`;
}

let working = null;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  working ??= verify().finally(() => (working = null));
});
form.hidden = false;
