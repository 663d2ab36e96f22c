"""The intake page's part without a browser.

It is for scripted senders, and for customers who don't trust pages.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import httpx2

from broker.client.connecting import caller
from broker.client.errors import CallFailed, another_answer, answer, unreachable
from broker.formats import base64url, intake_seal, link_proof, link_secret

_LINK = re.compile(r"[<(\[\"']*((?i:https?)://[^/?#]+(?:/[^?#]*)?)/intake/(int_[0-9a-f]{32})(.*)")
_RECEIVED = frozenset({"accepted", "verifying", "held"})
# A submission gets these codes if something on the way sent it twice, or if somebody else was faster.
_TWICE = frozenset({"intake_spent", "challenge_over"})

OLD_LINK = (
    "This link is of an old kind: it doesn't say whom the key is to be sealed to, so whoever answered in the broker's "
    "place on the way could have read the key. Ask for a link of the new kind next time."
)


class Submitted(TypedDict):
    """What a sender gets for a key.

    ``state`` is ``accepted``, ``verifying`` or ``held``.  ``receipt`` says what was taken.  ``status_code``, pasted at
    ``status_page``, shows what becomes of the key.
    """

    state: str
    receipt: dict[str, Any]
    status_code: str
    status_page: str
    old_link: NotRequired[str]


class AnswerLost(CallFailed):
    """It isn't known if the key arrived.

    The answer was lost, and asking for it failed as well.  If the key did arrive, ``status_page`` shows what became of
    it to who has ``status_code``.
    """

    def __init__(self, text: str, *, status_code: str = "", status_page: str = "") -> None:
        super().__init__(text, code="answer_lost")
        self.status_code = status_code
        self.status_page = status_page


def submit_key(
    link: str,
    key: bytes,
    variables: dict[str, str] | None = None,
    *,
    timeout: float = 60,
    proxy: str | None = None,
) -> Submitted:
    """Seal ``key`` to the request behind a one-time link and submit it.

    The key is sealed to the recipient that the link names, whoever answers on the way.

    Returns:
        The receipt.  Its ``status_code`` was made here and is the sender's alone.  Pasted at ``status_page``, the code
        shows what becomes of the key, pauses and withdraws it.  ``old_link`` says what is missing if the link is of an
        old kind.

    Args:
        link: the whole link; if a mail program wrapped, encoded or added something, that is put right.
        key: the key as the upstream gave it.
        variables: what the upstream needs beside the key, by name.
        timeout: seconds that a call may wait for the broker.
        proxy: URL of the HTTP proxy that leads to the broker; left out, none, whatever the environment says.

    Raises:
        ProxyUnusable: ``proxy`` is no such URL.
        CallFailed: the link is no link, cut off, altered, expired or without TLS; or somebody else than the link names
            would read the key (``recipient_changed``); or the key was refused.  The text says what to do.
        AnswerLost: it isn't known whether the key arrived.
    """
    base, intake, secret = _parts(link)
    with caller(base, timeout=timeout, proxy=proxy) as http:
        page = _Page(http, "intake", intake, secret, proxy)
        opened = page.call("open")
        if opened["state"] != "open":
            raise CallFailed(
                "A key was submitted over this link before. Whoever did has a code that shows what became of it.",
                code="intake_spent",
            )
        public, context = _recipient(opened, intake, secret)
        code = link_secret.new()
        message = intake_seal.seal(intake_seal.Submission(key, link_proof.key_of(code)), public, context)
        status = _Page(http, "status", intake, code, proxy)
        received = _submitted(page, status, sealed=base64url.encode(message), variables=variables or {})
    submitted = Submitted(
        state=received["state"], receipt=received["receipt"], status_code=code, status_page=status.url
    )
    if not link_secret.names_recipient(secret):
        submitted["old_link"] = OLD_LINK
    return submitted


@dataclass(frozen=True, slots=True)
class _Page:
    """One of a request's two pages, and the text that opens it."""

    http: httpx2.Client
    name: str
    intake: str
    text: str
    proxy: str | None

    @property
    def url(self) -> str:
        """The page's address."""
        return str(self.http.base_url).rstrip("/") + f"/{self.name}/{self.intake}"

    def call(self, step: str, **said: Any) -> dict[str, Any]:
        """One call with its proof; if the challenge that it answers has expired, a second one."""
        try:
            return self._call(step, said)
        except CallFailed as failure:
            if failure.code != "challenge_over":
                raise
        return self._call(step, said)

    def _call(self, step: str, said: dict[str, Any]) -> dict[str, Any]:
        if self.name == "intake" and not link_secret.names_recipient(self.text):  # of version 1: a constant proof
            return self._post(step, {**said, "proof": link_secret.proof(self.text)}, "")
        return self._post(step, said, str(self._post("challenge", {}, "")["nonce"]))

    def _post(self, step: str, said: dict[str, Any], nonce: str) -> dict[str, Any]:
        route, body = f"/{self.name}/{self.intake}/{step}", json.dumps(said).encode()
        proof = link_proof.header(link_proof.key_of(self.text), nonce, route, body) if nonce else {}
        try:
            return answer(self.http.post(route, content=body, headers={"Content-Type": "application/json", **proof}))
        except httpx2.HTTPError as error:
            raise unreachable(self.url, error, self.proxy, named_by="The address is the link's.") from None


def _submitted(page: _Page, status: _Page, **said: Any) -> dict[str, Any]:
    """Submit; if the answer is lost, get the receipt by the status code that was made for it."""
    try:
        return page.call("submit", **said)
    except CallFailed as failure:
        lost = failure.transient and failure.status != 429
        if not lost and failure.code not in _TWICE:
            raise
        refused = failure
    try:
        receipt: dict[str, Any] = status.call("open")["receipt"]
    except CallFailed as failure:
        if failure.code == "link_invalid" and refused.code in _TWICE:
            raise refused from None
        raise AnswerLost(
            "No answer came to the submission, so it isn't known whether the key arrived. Do the same again with the "
            "same link: a second submission does no harm. If the link is spent then, the key did arrive: the code in "
            f"this error's status_code, pasted at {status.url}, shows what became of it.",
            status_code=status.text,
            status_page=status.url,
        ) from None
    if receipt["state"] not in _RECEIVED:
        raise CallFailed(
            "The key arrived, but was refused: it is not valid, or another organization's. The link still works.",
            code="key_refused_upstream",
        )
    return {"state": receipt["state"], "receipt": receipt}


def _recipient(opened: dict[str, Any], intake: str, secret: str) -> tuple[bytes, intake_seal.SealContext]:
    """The recipient that the answer names, if it is the one that the link names."""
    try:
        public = base64url.decode(opened["seal"]["public_key"])
        context = intake_seal.SealContext(**opened["seal"]["context"])
        recipient = link_secret.recipient_of(public, context)
    except (KeyError, TypeError, ValueError):
        raise another_answer("seal") from None
    if context.intake != intake:
        raise CallFailed("The broker answered for another link.", code="wrong_intake")
    if link_secret.names_recipient(secret) and not link_secret.is_for(secret, recipient):
        raise CallFailed(
            "Somebody else than the link names would read the key: the answer was changed on the way. Nothing was "
            "sent. Don't submit a key from here; tell the vendor, by another way than this link.",
            code="recipient_changed",
        )
    return public, context


def _parts(link: str) -> tuple[str, str, str]:
    """The broker's address, the request's id and the secret of a link, in whatever form it came."""
    visible = "".join(character for character in link if character.isprintable() and not character.isspace())
    found = _LINK.match(visible)
    if found is None:
        raise CallFailed("That is no link to a page for a key; copy the whole one that you got.", code="link_invalid")
    base, intake, rest = found.groups()
    secret = link_secret.find(rest)
    if secret is None and link_secret.cut_off(rest):
        raise CallFailed("The link is cut off; copy the whole of it.", code="link_cut_off")
    if secret is None:
        raise CallFailed("A character in the link is wrong or missing; copy it again.", code="link_altered")
    return base, intake, secret
