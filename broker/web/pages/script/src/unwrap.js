// Take a key out of what was copied around it: quotes, a name, a header line, a JSON object.
//
// Only what the provider's pattern calls a key is taken, only where it is the one such text, and never one of two parts
// that a space cut: what stands around it has to be of a kind that stands around keys.

const QUOTES = "\"'`´“”„‟‘’‚‛«»‹›「」『』＂＇";
const INVISIBLE = /\p{Cf}/gu;
const LINES = /[\r\n]+/;
const WORD = "(?:export|setx?|env|curl|-H|--header|bearer|token)\\s+";
const NAME = `[$\\w.-]+(?: [$\\w.-]+){0,3}[\\]${QUOTES}]*\\s*(?:=>|:=|[:=])\\s*`;
const LEADING = new RegExp(`^(?:[\\s${QUOTES}([{<]+|${WORD}|${NAME})`, "iu");
const CLOSING = new RegExp(`[\\s${QUOTES})\\]}>,;.\\\\]`, "u");
const SIGNS = new RegExp(`[${QUOTES}()[\\]{}<>,;.\\\\]`, "gu");
const LONGEST = 20_000;

// {key, from, left}: `from` says what it was taken out of ("" nothing, "spaces", "text", "object", "lines"), and `left`
// holds the words that stood before and after it in a "text".
export function unwrapped(pasted, pattern) {
  const good = new RegExp(pattern, "u");
  const visible = pasted.replace(INVISIBLE, "").trim();
  const joined = visible.split(LINES).join("");
  if (good.test(joined) || visible.length > LONGEST) return { key: joined, from: joined === pasted ? "" : "spaces" };
  const inside = peeled(visible, good);
  if (inside) return { key: inside, from: "text", left: visible.split(inside).map((part) => part.replace(SIGNS, "").trim()).filter(Boolean) };
  const value = only(strings(visible), good);
  if (value) return { key: value, from: "object" };
  const line = only(visible.split(LINES), good);
  if (line) return { key: line, from: "lines" };
  return { key: joined, from: joined === pasted ? "" : "spaces" };
}

function only(texts, good) {
  const found = new Set(texts.map((text) => peeled(text, good)).filter(Boolean));
  return found.size === 1 ? [...found][0] : null;
}

// From the left a name or an opening sign at a time, from the right the closing signs, until a key is left.
function peeled(text, good) {
  for (let before = null, rest = text; rest !== before; before = rest, rest = rest.replace(LEADING, "")) {
    for (let end = rest.length; end > 0; end--) {
      if (good.test(rest.slice(0, end))) return rest.slice(0, end);
      if (!CLOSING.test(rest[end - 1])) break;
    }
  }
  return null;
}

// Every text in a JSON value.
function strings(text) {
  const found = [];
  try {
    JSON.parse(text, (_, value) => {
      if (typeof value === "string") found.push(value);
      return value;
    });
  } catch {
    return [];
  }
  return found;
}
