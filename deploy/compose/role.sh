#!/bin/sh
# Two roles for the broker, neither superuser nor BYPASSRLS. keybroker_owner owns the schema and migrates it. keybroker,
# which brokers have, reads and writes rows: it can't switch row-level security or the record's triggers off, drop or
# truncate a table. Each has a password of its own, and the superuser has a third.
set -e
owner=$(cat "${KEYBROKER_OWNER_PASSWORD_FILE:?is not set}")
broker=$(cat "${KEYBROKER_PASSWORD_FILE:?is not set}")
psql --username postgres --set=ON_ERROR_STOP=1 \
  --set=owner="${owner:?has no password: run compose/secrets.sh}" \
  --set=broker="${broker:?has no password: run compose/secrets.sh}" <<'SQL'
CREATE ROLE keybroker_owner LOGIN PASSWORD :'owner';
CREATE ROLE keybroker LOGIN PASSWORD :'broker';
CREATE DATABASE keybroker OWNER keybroker_owner;
REVOKE ALL ON DATABASE keybroker FROM PUBLIC;
GRANT CONNECT ON DATABASE keybroker TO keybroker;
\connect keybroker
ALTER DEFAULT PRIVILEGES FOR ROLE keybroker_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO keybroker;
ALTER DEFAULT PRIVILEGES FOR ROLE keybroker_owner GRANT USAGE, SELECT ON SEQUENCES TO keybroker;
SQL
