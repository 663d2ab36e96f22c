// The page's words, in the language that it came in.  They stand in the page as JSON (broker/web/texts.py).

const WORDS = JSON.parse(document.getElementById("texts").textContent);
const LANGUAGE = document.documentElement.lang;
const PLURAL = new Intl.PluralRules(LANGUAGE);

// As this browser's reader writes the language: "en-GB" where the page's is "en".
const LOCALE = navigator.languages.find((one) => one.split("-")[0] === LANGUAGE.split("-")[0]) ?? LANGUAGE;

// A text by its name, with `values` in its braces; a `count` among them also chooses the form.
export function say(name, values = {}) {
  return pieces(name, values).join("");
}

// The same for values that are elements: a list of what to put one after the other.
export function pieces(name, values = {}) {
  return formOf(name, values.count).split(/\{(\w+)\}/).map((part, index) => (index % 2 ? values[part] : part));
}

export function knows(name) {
  return name in WORDS;
}

function formOf(name, count) {
  return WORDS[name] ?? WORDS[`${name}.${PLURAL.select(count)}`] ?? WORDS[`${name}.other`];
}

// A moment as people here write it, with the zone that this browser is in.
export function moment(iso) {
  const options = { year: "numeric", month: "long", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short" };
  return new Intl.DateTimeFormat(LOCALE, options).format(new Date(iso));
}

// A day of UTC.
export function day(iso) {
  return new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeZone: "UTC" }).format(new Date(iso));
}

// The address of a page of ours in the language that was chosen here, if one was.
export function inLanguage(path) {
  return new URLSearchParams(location.search).get("lang") === null ? path : `${path}?lang=${LANGUAGE}`;
}
