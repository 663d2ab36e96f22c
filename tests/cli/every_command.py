"""Every command with what it needs, and a broker that answers whatever they ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import typer
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from broker.cli import TABLE, build
from broker.web.api import ROUTERS

SERVERS = frozenset(name for name, entry in TABLE.items() if entry.server)


def commands(leave_out: frozenset[str] = frozenset()) -> Iterator[tuple[str, ...]]:
    """Every command with what it needs, in the order that it takes it."""
    found: list[tuple[str, ...]] = []

    def walk(words: tuple[str, ...], command: Any) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                if name not in leave_out:
                    walk((*words, name), inner)
        else:
            found.append(words + tuple(_given_to(command)))

    walk((), typer.main.get_command(build()))
    yield from found


def _given_to(command: Any) -> Iterator[str]:
    for parameter in command.params:
        value = _VALUES.get(parameter.name, "x")
        if parameter.param_type_name == "argument":
            if parameter.required or parameter.name in _NAMED:
                yield value
        elif parameter.name == "yes":
            yield "--yes"
        elif parameter.required:
            yield from (parameter.opts[0], value)


# Arguments that may be left out where something else is said instead.
_NAMED = frozenset({"workload", "credential", "request", "grant"})
_VALUES = {"version": "1", "role": "security", "token": "-"}


def _odd(schema: dict[str, Any], text: str, defs: dict[str, Any]) -> Any:
    """A value of a JSON schema whose every text is ``text``."""
    if "$ref" in schema:
        return _odd(defs[schema["$ref"].rpartition("/")[2]], text, defs)
    if "anyOf" in schema:
        return _odd(schema["anyOf"][0], text, defs)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: _odd(inner, text, defs) for name, inner in schema["properties"].items()}
        case "array":
            return [_odd(schema["items"], text, defs)] * 2
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "string":
            return text
        case _:
            return {"actor": {"id": text}, "target": {"method": text, "host": text}, "reason": text, "path": text}


def answers(text: str) -> Callable[..., dict[str, Any]]:
    """A broker whose every answer has the right form, and this text wherever there is one."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]

    def send(method: str, path: str, **_options: Any) -> dict[str, Any]:
        route = next(one for one in routes if method in (one.methods or ()) and one.path_regex.fullmatch(path))
        schema = TypeAdapter(route.response_model).json_schema(mode="serialization")
        answer = _odd(schema, text, schema.get("$defs", {}))
        assert isinstance(answer, dict)
        return answer | ({"next": None} if "next" in answer else {})

    return send


@contextmanager
def answering(text: str) -> Iterator[str]:
    """The address of such a broker."""
    answer = answers(text)

    class Answering(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = json.dumps(answer(self.command, urlsplit(self.path).path)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the server's names

        def log_message(self, *_: Any) -> None:
            """Nothing: nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
