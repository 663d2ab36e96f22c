#!/bin/sh
# Make the rehearsal's OpenBao ready while it runs: `sudo sh compose/vault.sh`. The first time it initialises it and sets
# it up for the broker (secret-id, and vault_role_id in broker.toml); each time it unseals it, as after a restart.
# The unseal key and the root token go to secrets/openbao-init, which no container gets. In production there are
# several keys, held by several people, and the root token is revoked.
set -eu
cd "$(dirname "$0")/.."
secrets=${1:-compose/secrets}
kept=$secrets/openbao-init
umask 077

inside() { docker compose exec -T -e BAO_TOKEN -e SECRET_ID_FILE -e CIDRS openbao "$@"; }

if [ ! -s "$kept" ]; then
  fresh=$(mktemp "$kept.XXXXXX")  # no link is followed, no old mode stays
  inside bao operator init -key-shares=1 -key-threshold=1 > "$fresh"
  mv -f "$fresh" "$kept"
fi
sed -n 's/^Unseal Key 1: //p' "$kept" | tr -d '\n' | inside bao write sys/unseal key=- > /dev/null
until inside bao status -format=json | grep -q '"active_time": *"[1-9]'; do sleep 1; done
if [ ! -s "$secrets/secret-id" ]; then
  BAO_TOKEN=$(sed -n 's/^Initial Root Token: //p' "$kept") SECRET_ID_FILE=-
  CIDRS=${CIDRS:-172.30.0.128/25}  # where compose.yaml puts brokers
  export BAO_TOKEN SECRET_ID_FILE CIDRS
  told=$(inside sh /setup/set-up.sh)
  echo "$told" | sed -n 's/^BROKER_VAULT_ROLE_ID=\(.*\)$/vault_role_id = "\1"/p' >> "$secrets/broker.toml"
  fresh=$(mktemp "$secrets/secret-id.XXXXXX")
  echo "$told" | tail -n 1 > "$fresh"
  chown 65532 "$fresh"
  chmod 0400 "$fresh"
  mv -f "$fresh" "$secrets/secret-id"
fi
echo "OpenBao is unsealed and set up."
