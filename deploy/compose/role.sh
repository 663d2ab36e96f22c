#!/bin/sh
# The broker's role: neither superuser nor BYPASSRLS, so that row-level security binds it. Its password comes from
# the same secret as the superuser's only in this rehearsal.
set -eu
psql --username postgres --set=password="$(cat /run/secrets/database-password)" <<'SQL'
CREATE ROLE keybroker LOGIN PASSWORD :'password';
CREATE DATABASE keybroker OWNER keybroker;
SQL
