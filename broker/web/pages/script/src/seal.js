// HPKE (RFC 9180) with X-Wing, HKDF-SHA256 and AES-256-GCM: the same message as broker/formats/intake_seal.py.

import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";

import { canonical, concat, fromBase64Url, text } from "./bytes.js";
import { isFor, namesRecipient, recipientOf } from "./link.js";

const BLOCK = 256;

export class WrongRecipient extends Error {
  code = "recipient_changed";
}

// Whom and what the answer says that a key is sealed to has to be what the link names, and what the page shows.
export async function checkRecipient(opened, { id, secret }) {
  const { context } = opened.seal;
  const shown = [id, opened.organization.id, opened.provider.id];
  const bound = [context.intake, context.organization, context.provider];
  const named = !namesRecipient(secret) || isFor(secret, await recipientOf(opened.seal));
  if (!named || shown.some((value, index) => value !== bound[index])) throw new WrongRecipient();
}

// `verifier` is the key of the status code, which itself stays here.
export async function sealKey(key, verifier, opened) {
  const { context, public_key: publicKey } = opened.seal;
  const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  const recipientPublicKey = await suite.kem.deserializePublicKey(fromBase64Url(publicKey));
  const info = canonical(
    "keybroker/intake-seal/v2",
    context.intake,
    context.organization,
    context.provider,
    context.expires_ms,
  );
  const sender = await suite.createSenderContext({ recipientPublicKey, info });
  const sealed = await sender.seal(padded(text(key), verifier));
  return concat(new Uint8Array(sender.enc), new Uint8Array(sealed));
}

function padded(key, verifier) {
  const length = new Uint8Array(2);
  new DataView(length.buffer).setUint16(0, key.length);
  const body = concat(length, key, verifier);
  return concat(body, new Uint8Array((BLOCK - (body.length % BLOCK)) % BLOCK));
}
