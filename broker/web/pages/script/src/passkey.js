// Passkeys between the broker's JSON and the browser's own objects, for browsers that lack toJSON(), too.

import { Refusal } from "./asking.js";
import { fromBase64Url, toBase64Url } from "./bytes.js";

const CANCELLED = "No passkey was used: the request was cancelled, or took too long. Try again.";
const MADE_ALREADY = "This device has a passkey for your account already. Make the second one on another device.";
const NOT_HERE = "This browser knows no passkeys. Use a newer one, or another device.";
const FAILED = "The browser could not use a passkey. Try again, or use another device.";

export async function prove(options) {
  const found = await asked(() =>
    navigator.credentials.get({
      publicKey: { ...options, challenge: fromBase64Url(options.challenge), allowCredentials: described(options.allowCredentials) },
    }),
  );
  const { authenticatorData, signature, userHandle } = found.response;
  return answer(found, {
    authenticatorData: toBase64Url(new Uint8Array(authenticatorData)),
    signature: toBase64Url(new Uint8Array(signature)),
    userHandle: userHandle ? toBase64Url(new Uint8Array(userHandle)) : null,
  });
}

export async function make(options) {
  const made = await asked(() =>
    navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: fromBase64Url(options.challenge),
        user: { ...options.user, id: fromBase64Url(options.user.id) },
        excludeCredentials: described(options.excludeCredentials),
      },
    }),
  );
  return answer(made, { attestationObject: toBase64Url(new Uint8Array(made.response.attestationObject)) });
}

async function asked(work) {
  if (!globalThis.PublicKeyCredential) throw new Refusal("unsupported", NOT_HERE);
  try {
    return await work();
  } catch (error) {
    if (error.name === "NotAllowedError" || error.name === "AbortError") throw new Refusal("cancelled", CANCELLED);
    if (error.name === "InvalidStateError") throw new Refusal("made_already", MADE_ALREADY);
    throw new Refusal("failed", FAILED);
  }
}

function described(credentials = []) {
  return credentials.map((one) => ({ ...one, id: fromBase64Url(one.id) }));
}

function answer(credential, response) {
  const clientDataJSON = toBase64Url(new Uint8Array(credential.response.clientDataJSON));
  return { id: credential.id, rawId: toBase64Url(new Uint8Array(credential.rawId)), type: credential.type,
    response: { clientDataJSON, ...response } };
}
