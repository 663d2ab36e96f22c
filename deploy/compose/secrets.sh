#!/bin/sh
# Make what compose.yaml mounts as secrets: `sudo sh compose/secrets.sh`. A file that is there already stays as it is.
# Compose mounts files with the owner they have here, so each private one is made readable by the one user who reads
# it in its container (mode 0400). The certificates are the rehearsal's own: put your site's in place of site.*.
set -eu
if [ "$(id -u)" != 0 ]; then
  echo "Run this as root: each file has to belong to the user who reads it in its container." >&2
  exit 1
fi
broker=65532 postgres=999 openbao=100 nginx=0
umask 077
mkdir -p "${1:-$(dirname "$0")/secrets}"
cd "${1:-$(dirname "$0")/secrets}"
chmod 0700 .
if [ -n "$(find . -type l)" ]; then
  echo "There are links in $(pwd), which secrets would be written through: remove them." >&2
  exit 1
fi

own() { # USER FILE: only USER reads it
  chown "$1" "$2"
  chmod 0400 "$2"
}

certify() { # NAME SUBJECT ALTERNATIVE-NAMES: NAME.pem and NAME.key, signed by the rehearsal's authority
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr"
  echo "subjectAltName=$3" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA openbao-ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -days 365 \
    -extfile "$1.ext" -out "$1.pem"
  rm "$1.csr" "$1.ext"
  chmod 0444 "$1.pem"
}

if [ ! -e openbao-ca.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Keybroker rehearsal" \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out openbao-ca.pem
  chmod 0444 openbao-ca.pem
fi
if [ ! -e openbao.key ]; then
  certify openbao openbao DNS:openbao,IP:127.0.0.1
  own $openbao openbao.key
fi
if [ ! -e site.key ]; then
  certify site keys.vendor.example DNS:keys.vendor.example
  own $nginx site.key
fi
if [ ! -e broker.toml ]; then
  for role in database-password database-owner-password database-broker-password; do
    openssl rand -hex 24 > "$role"
    own $postgres "$role"
  done
  at=@postgres/keybroker
  echo "postgresql+asyncpg://keybroker_owner:$(cat database-owner-password)$at" > owner-database-url
  echo "database_url = \"postgresql+asyncpg://keybroker:$(cat database-broker-password)$at\"" > broker.toml
  own $broker owner-database-url
  own $broker broker.toml
fi
