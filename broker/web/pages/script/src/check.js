// What is off with a pasted key, in words: judged here only to help; the broker judges again.

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

function plural(count) {
  return count === 1 ? "1 character" : `${count} characters`;
}

// {state: "empty" | "good" | "bad", message}
export function judge(key, { pattern, example, key_label: label }) {
  if (key === "") return { state: "empty", message: "" };
  if (new RegExp(pattern, "u").test(key)) return { state: "good", message: `This looks like a complete ${label}.` };
  const start = literalStart(pattern);
  if (start && !key.startsWith(start.slice(0, key.length))) {
    return { state: "bad", message: `The ${label} begins with “${start}”; this begins differently.` };
  }
  const stray = /[^\x21-\x7e]/u.exec(key);
  if (stray) return { state: "bad", message: "There is a space or a character in it that can’t be part of a key." };
  const length = fixedLength(pattern);
  if (length && key.length < length) {
    return { state: "bad", message: `It starts right; ${plural(length - key.length)} missing. Copy the whole key.` };
  }
  if (length && key.length > length) {
    return { state: "bad", message: `It is ${plural(key.length - length)} too long. Copy the key alone.` };
  }
  return { state: "bad", message: `This does not look like a ${label}; one looks like ${example}.` };
}
