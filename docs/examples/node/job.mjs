// A job in Node, without packages: node job.mjs IDENTITY ORGANIZATION PROVIDER PATH
import { createPrivateKey, randomBytes, sign } from "node:crypto";
import { readFileSync } from "node:fs";

const [file, organization, provider, path] = process.argv.slice(2);
const identity = JSON.parse(readFileSync(file, "utf8"));
const { broker, client_id: id, jwk } = identity;

// What sign() wants for each `alg`.  A JWT has the two numbers of ES256 beside each other, and not in DER.
const HOW = { EdDSA: [null], ES256: ["sha256", { dsaEncoding: "ieee-p1363" }], RS256: ["sha256"] };

function assertion() {
  const now = Math.floor(Date.now() / 1000);
  const header = { typ: "client-authentication+jwt", alg: jwk.alg, kid: jwk.kid };
  const jti = randomBytes(16).toString("base64url");
  const claims = { iss: id, sub: id, aud: broker, iat: now - 60, nbf: now - 60, exp: now + 60, jti };
  const text = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const [digest, options] = HOW[jwk.alg];
  const key = createPrivateKey({ key: jwk, format: "jwk" });
  return `${text}.${sign(digest, Buffer.from(text), { key, ...options }).toString("base64url")}`;
}

async function call(url, token, { method = "GET", body, type } = {}) {
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(type && { "Content-Type": type }) };
  const answer = await fetch(url, { method, headers, body, redirect: "error" });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${answer.status} ${text}`);
  return text;
}

async function main() {
  const form = new URLSearchParams({
    grant_type: "client_credentials",
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: assertion(),
  });
  const { access_token: token } = JSON.parse(await call(`${broker}/oauth/token`, "", { method: "POST", body: form }));
  const body = JSON.stringify({ organization, provider, purpose: "an example in Node" });
  const json = { method: "POST", body, type: "application/json" };
  const lease = JSON.parse(await call(`${broker}/v1/leases`, token, json));
  try {
    console.log(await call(lease.proxy_url + path, lease.token));
  } finally {
    await call(`${broker}/v1/leases/${lease.lease.id}/end`, token, { method: "POST" });
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
