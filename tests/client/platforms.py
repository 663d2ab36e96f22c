"""A platform that gives its jobs tokens, and a token endpoint that takes them: one HTTP server, in a thread."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

WORKLOAD = "wkl_019ab3d4e5f678899aabbccddeeff001"
BROKER = "https://keys.vendor.example"
# It stands in every token, so whoever prints a part of one prints this.
CANARY = "canary-1b7e"


def jwt(claims: Any) -> str:
    """A JWT by its form; nobody checks its signature here."""
    parts = ({"alg": "RS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, f"{CANARY}-c2lnbmF0dXJl"])


def token(audience: Any = BROKER, **claims: Any) -> str:
    """A platform's token for the broker."""
    return jwt({"iss": "https://platform.example", "aud": audience, **claims})


@dataclass(frozen=True)
class Question:
    """A request as it came."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class ServiceAnswer:
    """What is answered."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class TokenService:
    """Answers by path, given when the request comes."""

    url: str = ""
    answers: dict[str, Callable[[Question], ServiceAnswer]] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)

    def gives(self, path: str, answer: Callable[[Question], ServiceAnswer]) -> None:
        """ServiceAnswer so at ``path``."""
        self.answers[path] = answer

    @property
    def exchanged(self) -> list[dict[str, str]]:
        """The forms that the token endpoint got."""
        return [asked.form for asked in self.asked if asked.path == "/oauth/token"]


def told(value: Any, status: int = 200, **headers: str) -> ServiceAnswer:
    """JSON."""
    return ServiceAnswer(json.dumps(value).encode(), status, {"content-type": "application/json", **headers})


def granted(asked: Question) -> ServiceAnswer:
    """What the token endpoint answers to any token."""
    return told({"access_token": f"kba_{len(asked.form)}", "token_type": "Bearer", "expires_in": 600})


def refused(code: str, status: int = 401) -> Callable[[Question], ServiceAnswer]:
    """The token endpoint's no."""
    return lambda _asked: told({"error": "invalid_client", "error_description": "No.", "code": code}, status)


@contextmanager
def serving() -> Iterator[TokenService]:
    """Such a server, until the context closes."""
    platform = TokenService()

    class Answering(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            asked = Question(
                parts.path, _flat(parts.query), {k.lower(): v for k, v in self.headers.items()}, _flat(body)
            )
            platform.asked.append(asked)
            given = platform.answers.get(parts.path)
            answer = given(asked) if given else ServiceAnswer(b"", 404)
            self.send_response(answer.status)
            for name, value in {"content-length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _answer  # noqa: N815 - the server's names

        def log_message(self, *_: Any) -> None:
            """Nothing: nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        platform.url = f"http://127.0.0.1:{server.server_port}"
        platform.gives("/oauth/token", granted)
        try:
            yield platform
        finally:
            server.shutdown()


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
