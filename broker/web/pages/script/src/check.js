// What is off with a pasted key, in words: judged here only to help; the broker judges again.

import { say } from "./words.js";

const META = /[\\^$.|?*+()[\]{}]/;

export function literalStart(pattern) {
  const body = pattern.replace(/^\^/, "");
  const end = body.search(META);
  return end < 0 ? body : body.slice(0, end);
}

function fixedLength(pattern) {
  const match = /^\^([^\\^$.|?*+()[\]{}]*)\[[^\]]+\]\{(\d+)\}\$$/.exec(pattern);
  return match ? match[1].length + Number(match[2]) : null;
}

// {state: "empty" | "good" | "bad", message}
export function judge(key, { pattern, example, key_label }) {
  if (key === "") return { state: "empty", message: "" };
  if (new RegExp(pattern, "u").test(key)) return { state: "good", message: say("check.good", { key: key_label }) };
  const start = literalStart(pattern);
  if (start && !key.startsWith(start.slice(0, key.length))) {
    return { state: "bad", message: say("check.start", { key: key_label, start }) };
  }
  const stray = /[^\x21-\x7e]/u.exec(key);
  if (stray) return { state: "bad", message: say("check.stray") };
  const length = fixedLength(pattern);
  if (length && key.length < length) {
    return { state: "bad", message: say("check.too_short", { count: length - key.length }) };
  }
  if (length && key.length > length) {
    return { state: "bad", message: say("check.too_long", { count: key.length - length }) };
  }
  return { state: "bad", message: say("check.unlike", { key: key_label, example }) };
}
