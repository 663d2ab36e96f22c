#!/usr/bin/env bash
# A job with curl and openssl: job.sh IDENTITY ORGANIZATION PROVIDER PATH
# Needs bash, curl 7.76 or newer, jq and OpenSSL 3; the identity's key is of EdDSA, as `broker workload add` makes it.
set -euo pipefail
identity=$1 organization=$2 provider=$3 path=$4
broker=$(jq -er .broker "$identity") client_id=$(jq -er .client_id "$identity") kid=$(jq -er .jwk.kid "$identity")
[ "$(jq -r .jwk.alg "$identity")" = EdDSA ] || { echo "This example signs with EdDSA alone." >&2; exit 1; }

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

private_key() { # PKCS #8 (RFC 8410): a constant beginning and the 32 bytes of `d`
  printf '\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20'
  jq -er '.jwk.d + "="' "$identity" | tr '_-' '/+' | base64 -d
}

assertion() {
  local now header claims unsigned
  now=$(date +%s)
  header=$(jq -nc --arg kid "$kid" '{typ: "client-authentication+jwt", alg: "EdDSA", $kid}' | base64url)
  claims=$(jq -nc --arg id "$client_id" --arg aud "$broker" --arg jti "$(openssl rand -hex 16)" --argjson now "$now" \
    '{iss: $id, sub: $id, $aud, iat: ($now - 60), nbf: ($now - 60), exp: ($now + 60), $jti}' | base64url)
  unsigned=$(mktemp)
  printf '%s.%s' "$header" "$claims" > "$unsigned" # openssl wants a file, whose size it can tell; there is no secret in it
  printf '%s.%s.' "$header" "$claims"
  openssl pkeyutl -sign -rawin -keyform DER -inkey <(private_key) -in "$unsigned" | base64url
  rm "$unsigned"
}

# Secrets go by <(…), as arguments of other programs are for everybody to read.  --noproxy: none that the environment names.
call() { # call TOKEN CURL'S ARGUMENTS: the answer; a refusal goes to standard error, and ends this
  local token=$1 answer
  shift
  answer=$(curl --silent --show-error --fail-with-body --noproxy '*' \
    -H @<(printf '%s' "${token:+Authorization: Bearer $token}") "$@") || { printf '%s\n' "$answer" >&2; return 1; }
  printf '%s' "$answer"
}

access_token=$(call "" "$broker/oauth/token" -d grant_type=client_credentials \
  -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
  --data-urlencode client_assertion@<(assertion) | jq -er .access_token)

wanted=$(jq -nc --arg organization "$organization" --arg provider "$provider" \
  '{$organization, $provider, purpose: "an example with curl"}')
lease=$(call "$access_token" "$broker/v1/leases" -H 'Content-Type: application/json' -d "$wanted")
id=$(jq -er .lease.id <<< "$lease") token=$(jq -er .token <<< "$lease") proxy_url=$(jq -er .proxy_url <<< "$lease")
trap 'call "$access_token" -X POST "$broker/v1/leases/$id/end" > /dev/null' EXIT

call "$token" "$proxy_url$path"
echo
