"""The page of codes: every refusal of the broker and its client, why it comes and what to do."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import broker
from broker.base.errors import BrokerError
from tests.reference.markdown import page

ADVICE = Path(__file__).with_name("problems.toml")
# What makes a refusal, by where its code stands: after its status, first, or by name.
_AFTER_STATUS = {"problem", "Refused"}
_FIRST = {"Denied"}
_NAMED = {"CallFailed", "AccessDenied", "AccessEnded", "__init__"}
# The token endpoint refuses as OAuth does (RFC 6749 §5.2), by codes of that standard.
OAUTH = {
    "invalid_client": "401",
    "invalid_dpop_proof": "400",
    "invalid_request": "400",
    "unauthorized_client": "400",
    "unsupported_grant_type": "400",
    "use_dpop_nonce": "400",
}
# It says beside that, as `code`, why it takes no platform's token, to whoever proved enough to be told.
PLATFORM = (
    *("address_refused", "claim_differs", "claim_missing", "client_id_needed", "event_refused", "issuer_suspended"),
    *("lives_too_long", "pod_missing", "token_not_yet", "token_over", "token_used", "wrong_audience"),
)
CLIENT = "client"

ABOUT = """\
A refusal of the broker is `application/problem+json` (RFC 9457). Its `code` never changes, so programs can go by it;
`detail` says what to fix in that very case. The CLI shows the code in brackets at the end of its message. In the record
it is the `reason` of an event with the decision `denied`. What commands end with stands in [use the command line in
scripts](../how-to/use-in-scripts.md).

*client* in the place of a status: the code is made by the client or the CLI, without an answer of the broker."""


def made() -> str:
    """The page; raises ValueError while a code has no advice, or some advice no code."""
    codes, advice = found(), advised()
    if wrong := sorted(codes.keys() ^ advice.keys()):
        raise ValueError(f"{ADVICE.name}: {', '.join(wrong)}: is no code, or has no advice")
    parts = []
    for code in sorted(codes):
        statuses = ", ".join(sorted(codes[code]))
        parts.append(f"## {code}\n\n*{statuses}* · {advice[code]['cause']}\n\n**What to do:** {advice[code]['fix']}")
    return page("Codes of refusals", ABOUT, *parts)


def advised() -> Mapping[str, Mapping[str, str]]:
    """Cause and fix by code."""
    return tomllib.loads(ADVICE.read_text(encoding="utf-8"))


def found() -> Mapping[str, set[str]]:
    """Every code that the broker or its client may tell, with its statuses."""
    codes: defaultdict[str, set[str]] = defaultdict(set)
    for code, status in OAUTH.items():
        codes[code].add(status)
    for code in PLATFORM:
        codes[code].add("401")
    for module in pkgutil.walk_packages(broker.__path__, "broker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for kind in _kinds(BrokerError):
        codes[kind.code].add(str(kind.status))
    here = Path(broker.__path__[0])
    for path in set(here.rglob("*.py")) - set((here / "sandbox").rglob("*.py")):  # which is somebody else's service
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                for code, status in _of_call(node):
                    codes[code].add(status)
    codes["unknown"].add(CLIENT)  # the default of CallFailed
    return codes


def _kinds(kind: type[BrokerError]) -> Iterator[type[BrokerError]]:
    yield kind
    for one in kind.__subclasses__():
        if one.__module__.startswith("broker."):
            yield from _kinds(one)


def _of_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    given = [one.value if isinstance(one, ast.Constant) else None for one in node.args]
    if name in _AFTER_STATUS and len(given) > 1 and isinstance(given[1], str):
        yield given[1], str(given[0])
    elif name in _FIRST and given and isinstance(given[0], str):
        yield given[0], "403"
    elif name in _NAMED:
        for word in node.keywords:
            if word.arg == "code" and isinstance(word.value, ast.Constant):
                yield str(word.value.value), CLIENT
