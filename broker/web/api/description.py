"""What the API's description says of the whole."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("keybroker")

WHOLE = """\
A vendor receives its customers' API keys through one-time links, keeps them sealed, and lets its jobs use them for
minutes at a time without seeing them. Every use is on the record before it happens.

**Callers.** An operator sends a token (`Authorization: Bearer kbo_…`). A job sends an access token, which it gets at
`/oauth/token` with an assertion that its private key signs. Each operation names the roles that may call it; an
operation without any is open.

**Lists** have `items` and `next`; send `next` as `cursor` to get the page after it. It is null at the end.

**Repeats.** A POST of an operator takes an `Idempotency-Key`: the same key and body again get the same answer, and
change nothing a second time.

**Refusals** are `application/problem+json` (RFC 9457) with a `code` that is never renamed, and a `detail` that says
what to fix; the token endpoint alone refuses as OAuth does (RFC 6749). The answer's `X-Request-Id` is in the broker's
log.

The number in `/v1/` changes when an operation's meaning does. `info.version` is the version of the software.
"""

TAGS = {
    "leases": "Minutes of a grant, taken by a job. A lease's token is what a call through the proxy carries.",
    "operators": "People at the vendor: their accounts, roles and tokens.",
    "organizations": "The upstream's customers.",
    "providers": "Upstreams, each declared by a file.",
    "workloads": "Jobs: programs that use keys.",
    "grants": "Which job may reach which keys, and how.",
    "intakes": "Requests for keys, each with a one-time link for the customer.",
    "credentials": "Places of keys (organization, provider, label), and the keys that each has had.",
    "rotations": "Changes of keys, from the wish for a new one until the old one is dead upstream.",
    "exposures": "Reports that a key is known to others, and what is done about them.",
    "notices": "What operators and customers are told, and whether it arrived.",
    "leaks": "Keys where they should not be.",
    "webhooks": "Addresses that notices are posted to.",
    "audit": "The record of everything that was done, tried or refused.",
    "oauth": "How jobs prove who they are (RFC 6749, RFC 7523), and the keys that verify access tokens.",
    "operations": "Probes and metrics.",
    "customer": "What the customer's pages ask: of a one-time link or a status code, whose proof goes in a header.",
}


def tags() -> list[dict[str, str]]:
    """The tags as OpenAPI has them, in the order in which people read."""
    return [{"name": name, "description": text} for name, text in TAGS.items()]
