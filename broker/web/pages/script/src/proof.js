// Proofs that a link's secret or a code is known, which serve nobody a second time (broker/formats/link_proof.py).

import { Problem, post } from "./api.js";
import { canonical, sha256, text, toBase64Url } from "./bytes.js";
import { constantProof, linkTo, namesRecipient, recipientOf } from "./link.js";

export const HEADER = "X-Broker-Proof";

export function keyOf(secret) {
  return hmac(text(secret), text("keybroker/link-key/v2"));
}

export async function header(key, nonce, route, body) {
  const said = canonical("keybroker/link-proof/v2", nonce, route, await sha256(text(body)));
  return { [HEADER]: `${nonce}.${toBase64Url(await hmac(key, said))}` };
}

// What opens one of a request's two pages: `secret` is a link's or a status code.
export class Holder {
  constructor(page, id, secret) {
    this.page = page;
    this.id = id;
    this.secret = secret;
    this.path = `/${page}/${id}`;
  }

  // One call with its proof; another one where the challenge that it answers is over.  A Problem's `sent` says whether
  // the call itself went out: then nobody knows what became of it where there is no answer.
  async call(step, said = {}) {
    return (await this.proved(step, said)).answer;
  }

  // As `call`: {answer, nonce}, the nonce being what the answer answers.
  async proved(step, said = {}) {
    try {
      return await this.#once(step, said);
    } catch (problem) {
      if (problem.code !== "challenge_over") throw problem;
      return this.#once(step, said);
    }
  }

  async #once(step, said) {
    const route = `${this.path}/${step}`;
    if (this.page === "intake" && !namesRecipient(this.secret)) {
      return { answer: await sent(post(route, JSON.stringify({ ...said, proof: await constantProof(this.secret) }))) };
    }
    const body = JSON.stringify(said);
    const { nonce } = await post(`${this.path}/challenge`, "{}");
    const proof = await header(await keyOf(this.secret), nonce, route, body);
    return { answer: await sent(post(route, body, proof)), nonce };
  }
}

// The request that the holder of a code goes on to: its link's secret is made on both sides and never sent.
export async function following(status) {
  const { answer, nonce } = await status.proved("rotate");
  const key = await keyOf(status.secret);
  const recipient = await recipientOf(answer.seal);
  const named = await nextRecipient(key, nonce, recipient);
  if (toBase64Url(named) !== answer.answer || answer.intake !== answer.seal.context.intake) {
    throw new Problem("recipient_changed", "", 0);
  }
  return new Holder("intake", answer.intake, await linkTo(await nextSecret(key, answer.intake, recipient), recipient));
}

// The 20 secret bytes of the next link.
export async function nextSecret(key, intake, recipient) {
  return (await hmac(key, canonical("keybroker/next-link/v2", intake, recipient))).slice(0, 20);
}

// What shows that the broker named this recipient, in answer to this nonce.
export function nextRecipient(key, nonce, recipient) {
  return hmac(key, canonical("keybroker/next-recipient/v2", nonce, recipient));
}

async function sent(answered) {
  try {
    return await answered;
  } catch (problem) {
    problem.sent = true;
    throw problem;
  }
}

async function hmac(key, data) {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, data));
}
