"""A box between customer and broker that terminates TLS.

It records everything, and changes what it likes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from broker.formats import base64url, intake_seal
from tests.support.world import World

Changes = Callable[["Box", str, dict[str, Any]], None]
_KEPT = ("content-type", "x-broker-proof")


@dataclass(frozen=True)
class Recorded:
    """One exchange."""

    path: str
    headers: dict[str, str]
    body: bytes
    answer: str


@dataclass
class Box:
    """An ASGI application in front of a world's broker.

    ``changes`` is handed the path and JSON of each answer.  If a submission is sealed to the box's own key pair,
    ``read`` keeps its key, and the broker gets it sealed again.
    """

    world: World
    changes: Changes = lambda _box, _path, _answer: None
    seen: list[Recorded] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    theirs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.private, public = intake_seal.generate()
        self.public = base64url.encode(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body, path = await request.body(), request.url.path
        headers = {name: value for name, value in request.headers.items() if name in _KEPT}
        passed = self._opened(body) if path.endswith("/submit") else body
        answer = await self.world.http.request(request.method, path, content=passed, headers=headers)
        content = answer.content
        if answer.headers["content-type"] == "application/json":
            said = answer.json()
            self.theirs = dict(said["seal"]) if "seal" in said else self.theirs
            self.changes(self, path, said)
            content = json.dumps(said).encode()
        self.seen.append(Recorded(path, headers, body, content.decode(errors="replace")))
        kept = {"content-type": answer.headers["content-type"]}
        await Response(content, answer.status_code, kept)(scope, receive, send)

    def _opened(self, body: bytes) -> bytes:
        """What the box makes of a submission: the key read, and sealed again for the broker.

        It stays as it is if the box can't read it.
        """
        said, context = json.loads(body), intake_seal.SealContext(**self.theirs["context"])
        try:
            submission = intake_seal.open_sealed(base64url.decode(said["sealed"]), self.private, context)
        except intake_seal.CannotOpen:
            return body
        self.read.append(submission.key.decode())
        message = intake_seal.seal(submission, base64url.decode(self.theirs["public_key"]), context)
        return json.dumps({**said, "sealed": base64url.encode(message)}).encode()


def swaps_the_key(box: Box, _path: str, answer: dict[str, Any]) -> None:
    """Put the box's own public key in the place of the broker's."""
    if "seal" in answer:
        answer["seal"] = {**answer["seal"], "public_key": box.public}


def swaps(name: str, value: object) -> Changes:
    """Put another value into what a submission is bound to, and into what is shown."""

    def change(_box: Box, _path: str, answer: dict[str, Any]) -> None:
        if "seal" in answer:
            context = {**answer["seal"]["context"], name: value}
            answer["seal"] = {**answer["seal"], "context": context}
            if isinstance(answer.get(name), dict):
                answer[name] = {**answer[name], "id": value}

    return change


CHANGED = {
    "key": swaps_the_key,
    "organization": swaps("organization", "org_" + "0" * 32),
    "provider": swaps("provider", "stripe"),
    "expiry": swaps("expires_ms", 4_000_000_000_000),
}
_STEPS = (
    *(("status", step) for step in ("open", "usage", "pause", "resume", "withdraw", "rotate")),
    ("intake", "open"),
    ("intake", "submit"),
)


async def tried(world: World, box: Box, known: dict[str, tuple[str, str]]) -> None:
    """Send again everything that the box saw, and use it in every way.

    Nothing works, and its holder goes on.  ``known`` are the link's secret and the status code of each request; nothing
    of them may have been seen.
    """
    text = "\n".join(f"{one.path} {one.headers} {one.body.decode(errors='replace')} {one.answer}" for one in box.seen)
    assert not any(secret in text for secrets in known.values() for secret in secrets)
    proved = [one for one in box.seen if "x-broker-proof" in one.headers]
    assert proved
    for one in proved:  # as it was
        again = await world.http.post(one.path, content=one.body, headers=one.headers)
        assert again.json()["code"] == "challenge_over", one.path
    for intake in known:
        for one, (page, step) in itertools.product(proved, _STEPS):  # under a new challenge
            nonce = (await world.http.post(f"/{page}/{intake}/challenge")).json()["nonce"]
            proof = one.headers["x-broker-proof"].partition(".")[2]
            headers = {**one.headers, "x-broker-proof": f"{nonce}.{proof}"}
            refused = await world.http.post(f"/{page}/{intake}/{step}", content=one.body, headers=headers)
            assert refused.status_code in {404, 422}, (one.path, page, step)
        words = set(re.findall(r"(?<![\w-])[\w-]{32,60}(?![\w-])", text))
        for word in words:  # as a secret, a code or a constant proof
            assert (await world.say("status", intake, word, "withdraw")).status_code == 404
            assert (await world.open(intake, word)).status_code == 404
            constant = await world.http.post(f"/intake/{intake}/open", json={"proof": word[:43].ljust(43, "A")})
            assert constant.status_code == 404
    for intake, (_, code) in known.items():
        seen = (await world.say("status", intake, code, "open")).json()
        assert (seen["in_force"], seen["key"]["paused_at"]) == (True, None)
