// HPKE (RFC 9180) with X-Wing, HKDF-SHA256 and AES-256-GCM: the same message as broker/formats/sealed.py.

import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";

import { canonical, concat, fromBase64Url, text } from "./bytes.js";

const BLOCK = 256;

export class WrongContext extends Error {}

// `opened` is what the page shows; sealing to anything else than that is refused.
export async function sealKey(key, opened, intake) {
  const { context, public_key: publicKey } = opened.seal;
  const shown = [intake, opened.organization.id, opened.provider.id];
  const bound = [context.intake, context.organization, context.provider];
  if (opened.intake !== intake || shown.some((value, index) => value !== bound[index])) throw new WrongContext();

  const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
  const recipientPublicKey = await suite.kem.deserializePublicKey(fromBase64Url(publicKey));
  const info = canonical(
    "keybroker/intake-seal/v1",
    context.intake,
    context.organization,
    context.provider,
    context.expires_ms,
  );
  const sender = await suite.createSenderContext({ recipientPublicKey, info });
  const sealed = await sender.seal(padded(text(key)));
  return concat(new Uint8Array(sender.enc), new Uint8Array(sealed));
}

function padded(key) {
  const length = new Uint8Array(2);
  new DataView(length.buffer).setUint16(0, key.length);
  const body = concat(length, key);
  return concat(body, new Uint8Array((BLOCK - (body.length % BLOCK)) % BLOCK));
}
