"""The page of notice kinds."""

from __future__ import annotations

from broker.notifications.words import WORDS
from tests.reference.markdown import code, page, table

ABOUT = """\
What operators are told, by mail (`BROKER_NOTIFY_EMAILS`) and [webhooks](../formats/webhook.md), and the customer's
Organization Admin by mail, where it concerns them. `broker webhook add --kind KIND` takes some kinds only; urgent ones
are told without delay. `{…}` stands for a fact of the case."""


def made() -> str:
    """The page."""
    kinds = [
        (code(kind), words.severity, words.title, "yes" if words.customer else "") for kind, words in WORDS.items()
    ]
    overview = table(("kind", "severity", "title", "customer too"), kinds)
    texts = []
    for kind, words in WORDS.items():
        customer = f"\n\nTo the customer: {_quoted(words.customer)}" if words.customer else ""
        texts.append(f"## {kind}\n\n*{words.title}* ({words.severity}).\n\nTo operators: {words.operator}{customer}")
    return page("Notice kinds", ABOUT, overview, *texts)


def _quoted(text: str) -> str:
    return " ".join(text.split())
