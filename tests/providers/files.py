"""A provider file that is right, for tests to break."""

from __future__ import annotations

from pathlib import Path

from broker.providers import catalog
from broker.providers.definition import Definition

RIGHT = """
id = "example"
version = 1
title = "Example"
docs = "https://docs.example.com"

[host]
base_url = "https://{subdomain}.example.com/api"

[host.variables.subdomain]
title = "Subdomain"
pattern = "^[a-z0-9][a-z0-9-]{0,61}$"

[auth]
placement = "header"
name = "Authorization"
format = "Bearer {key}"

[key]
label = "API key"
pattern = "^ex_[A-Za-z0-9]{20}$"
example = "ex_xxxxxxxxxxxxxxxxxxxx"

[verify]
path = "/me"
good = [200]
bad_key = [401]

[identity]
path = "[].id"

[presets.read-only]
methods = ["GET"]
paths = ["/**"]

[retry]
statuses = [429]

[rotation]
interval_days = 90
new_key_revokes_old = false
revoked_by = "customer admin"

[required_headers]
Accept = "application/json"

[admin]
role = "Administrator"
where = ["Open Settings, API keys."]
revoke = ["Open Settings, API keys, and choose Revoke."]
"""


def changed(*changes: tuple[str, str]) -> str:
    """The right file with each first text replaced by the second."""
    text = RIGHT
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        text = text.replace(old, new)
    return text


def definition(directory: Path, *changes: tuple[str, str]) -> Definition:
    """The definition of the right file with ``changes``."""
    path = directory / "example.toml"
    path.write_text(changed(*changes), encoding="utf-8")
    return catalog.check(path)


BASIC = ('placement = "header"\nname = "Authorization"\nformat = "Bearer {key}"', 'placement = "basic"')
QUERY = (BASIC[0], 'placement = "query"\nname = "api_key"')
