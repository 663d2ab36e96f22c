#!/bin/sh
# Set a Vault or OpenBao up for Keybroker, once, with a token that may: `sh set-up.sh`, BAO_ADDR and BAO_TOKEN set.
# POLICIES names what the role may do: keybroker-transit (default), keybroker-kv, or both by comma for a move.
# Prints the role id; the secret id goes to the file that SECRET_ID_FILE names (default ./secret-id), mode 0600.
set -eu
here=$(dirname "$0")
bao secrets enable transit
bao write -f transit/keys/keybroker derived=true type=aes256-gcm96
bao secrets enable -path=secret -version=2 kv
for policy in keybroker-transit keybroker-kv keybroker-operator; do
  bao policy write "$policy" "$here/$policy.hcl"
done
bao auth enable approle
bao write auth/approle/role/keybroker token_policies="${POLICIES:-keybroker-transit}" token_ttl=1h token_max_ttl=24h
echo "BROKER_VAULT_ROLE_ID=$(bao read -field=role_id auth/approle/role/keybroker/role-id)"
umask 077
bao write -f -field=secret_id auth/approle/role/keybroker/secret-id > "${SECRET_ID_FILE:-secret-id}"
