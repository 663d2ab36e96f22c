#!/bin/sh
# The hook of .pre-commit-hooks.yaml: `broker` with these words, in an environment that this makes when it is first
# needed, from the hashed pins beside it. (pre-commit's own environments can't check hashes: whatever is newest in a
# registry that day would run at every commit.)  It lies in pre-commit's clone of this repository, so each version has
# its own.  Needs a Python 3.11 or newer.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
environment=$source/.hook

newest() { # a Python that is new enough
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      echo "$name"
      return
    fi
  done
  echo "keybroker: this hook needs Python 3.11 or newer on the PATH." >&2
  return 1
}

if [ ! -d "$environment" ]; then
  python=$(newest)
  echo "keybroker: installing the hook's pinned dependencies, once …" >&2
  fresh=$(mktemp -d "$source/.hook.XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  "$python" -m venv "$fresh"
  pip() { "$fresh/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }
  pip --require-hashes -r "$source/requirements-cli.lock" -r "$source/requirements-build.lock"
  pip --no-deps --no-build-isolation "$source"
  mv "$fresh" "$environment"  # whole or not at all; only scripts in it name the folder that it was made in
  trap - EXIT
fi
# -I: what lies in the scanned repository, or the environment names, is not taken for the broker.
exec "$environment/bin/python" -I -m broker "$@"
