#!/bin/sh
# Set a Vault or OpenBao up for Keybroker, once: `sh set-up.sh`, with BAO_ADDR and BAO_TOKEN (of whoever may) set.  It
# must be initialised and unsealed (`bao operator init`, `bao operator unseal`).  Settings, all optional:
#   POLICIES        what brokers may do: keybroker-transit (default), keybroker-kv, or both by comma for a move
#   AUTH            approle (default): prints the role id; the secret id goes to the file that SECRET_ID_FILE names
#                   (default ./secret-id, made anew with mode 0600; - prints it as the last line)
#                   kubernetes: for the pods of deploy/kubernetes. A Vault in the same cluster needs nothing more than
#                   a service account with system:auth-delegator; for one elsewhere, KUBERNETES_HOST is the API
#                   server's address, KUBERNETES_CA_FILE its authority, KUBERNETES_REVIEWER_FILE a token with that right
#   CIDRS           where brokers come from, by comma, as Vault sees it (10.1.2.0/24): what they sign in with, and their
#                   tokens, work from nowhere else then. Set it wherever brokers' addresses are known
#   SECRET_ID_TTL   how long the secret id works (default 0: until it is replaced). With one, put a new secret id into the
#                   brokers' file in time (they look at it again by themselves):
#                   bao write -f -field=secret_id auth/approle/role/keybroker/secret-id
# Tokens last an hour, are renewed by the broker for a day, and have no policy but these (not Vault's `default`).
set -eu
here=$(dirname "$0")
policies=${POLICIES:-keybroker-transit} cidrs=${CIDRS:-}
bao secrets enable transit
bao write -f transit/keys/keybroker derived=true type=aes256-gcm96
bao secrets enable -path=secret -version=2 kv
for policy in keybroker-transit keybroker-kv keybroker-operator; do
  bao policy write "$policy" "$here/$policy.hcl"
done
case "${AUTH:-approle}" in
  approle)
    bao auth enable approle
    bao write auth/approle/role/keybroker token_policies="$policies" token_no_default_policy=true \
      token_ttl=1h token_max_ttl=24h token_bound_cidrs="$cidrs" \
      secret_id_bound_cidrs="$cidrs" secret_id_ttl="${SECRET_ID_TTL:-0}"
    echo "BROKER_VAULT_ROLE_ID=$(bao read -field=role_id auth/approle/role/keybroker/role-id)"
    file=${SECRET_ID_FILE:-secret-id}
    if [ "$file" != - ]; then
      if [ -d "$file" ]; then
        echo "SECRET_ID_FILE is a directory: '$file'." >&2
        exit 1
      fi
      # A new file takes the name at the end: no link is followed, and no mode or open descriptor of an old one stays.
      umask 077
      fresh=$(mktemp "$file.XXXXXX")
      trap 'rm -f "$fresh"' EXIT
      exec > "$fresh"
    fi
    bao write -f -field=secret_id auth/approle/role/keybroker/secret-id
    echo
    if [ "$file" != - ]; then
      mv -f "$fresh" "$file"
    fi
    ;;
  kubernetes)
    bao auth enable kubernetes
    if [ -n "${KUBERNETES_HOST:-}" ]; then
      bao write auth/kubernetes/config kubernetes_host="$KUBERNETES_HOST" disable_local_ca_jwt=true \
        kubernetes_ca_cert="@$KUBERNETES_CA_FILE" token_reviewer_jwt="@$KUBERNETES_REVIEWER_FILE"
    else
      bao write auth/kubernetes/config kubernetes_host=https://kubernetes.default.svc
    fi
    # The audience is the one that the pods' projected token is made for.
    bao write auth/kubernetes/role/keybroker bound_service_account_names=keybroker \
      bound_service_account_namespaces=keybroker audience=openbao \
      token_policies="$policies" token_no_default_policy=true token_ttl=1h token_max_ttl=24h token_bound_cidrs="$cidrs"
    ;;
  *)
    echo "AUTH is '$AUTH': it must be approle or kubernetes." >&2
    exit 1
    ;;
esac
