// One call to the broker: its JSON, or a Problem that says what to do.

export class Problem extends Error {
  constructor(code, detail, status, retryAfter) {
    super(detail);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// `body` is JSON text, as it is proved.
export async function post(path, body, headers = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      // What the provider calls things comes in the page's language, which the reader may have chosen.
      headers: { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang, ...headers },
      body,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
    });
  } catch {
    throw new Problem("network", "", 0);
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const code = answer.code ?? (response.status >= 500 ? "unavailable" : "unknown");
  throw new Problem(code, answer.detail ?? "", response.status, Number(response.headers.get("Retry-After")) || 0);
}
