#!/bin/sh
# The broker's role: neither superuser nor BYPASSRLS, so that row-level security binds it. Its password is the
# superuser's only in this rehearsal; the image's entry point has read it from its secret by now.
set -e
psql --username postgres --set=ON_ERROR_STOP=1 \
  --set=password="${POSTGRES_PASSWORD:?is empty: postgres can not read its secret, run compose/secrets.sh}" <<'SQL'
CREATE ROLE keybroker LOGIN PASSWORD :'password';
CREATE DATABASE keybroker OWNER keybroker;
SQL
