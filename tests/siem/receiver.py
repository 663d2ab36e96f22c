"""A SIEM's receivers: NDJSON over HTTP, as a thread or as a process of its own, and syslog over TLS."""

from __future__ import annotations

import json
import random
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.certificates import serving_tls


class Received:
    """What a receiver took, and how it answers."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200

    def events(self) -> list[dict[str, Any]]:
        """The events in OCSF, in the order that they came, without checkpoints."""
        found = [json.loads(line) for batch in self.batches for line in batch]
        return [event for event in found if "sequence" in event["metadata"]]

    def indices(self) -> list[int]:
        """Their numbers in the record."""
        return [event["metadata"]["sequence"] for event in self.events()]


@contextmanager
def http_receiver(received: Received) -> Iterator[str]:
    """A receiver of NDJSON; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if received.status == 200:
                received.batches.append(body.splitlines())
                received.headers.append(dict(self.headers))
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/ingest"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def syslog_receiver(directory: Path, received: Received) -> Iterator[int]:
    """A receiver of syslog over TLS; its port.  With a status other than 200 it ends connections before it read."""
    tls = serving_tls(directory)
    listening = socket.create_server(("127.0.0.1", 0))

    def take() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with suppress(OSError), tls.wrap_socket(plain, server_side=True) as secured:
                if received.status != 200:
                    secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
                    continue
                data = b""
                while piece := _read(secured):
                    data += piece
                received.batches.append(_unframed(data))
                secured.unwrap()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def _read(secured: ssl.SSLSocket) -> bytes:
    try:
        return secured.recv(65_536)
    except ssl.SSLZeroReturnError:
        return b""


def _unframed(data: bytes) -> list[bytes]:
    """The messages of octet-counted frames (RFC 6587 §3.4.1), whole."""
    messages = []
    while data:
        length, _, rest = data.partition(b" ")
        messages.append(rest[: int(length)])
        assert len(messages[-1]) == int(length)
        data = rest[int(length) :]
    return messages


def main(kept: str) -> None:
    """A process that keeps the numbers it took, a line each; now and then it breaks off."""
    chance = random.Random(7)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if chance.random() < 0.05:
                self.close_connection = True
                return
            numbers = [json.loads(line)["metadata"].get("sequence") for line in body.splitlines()]
            with Path(kept).open("a") as file:
                file.write("".join(f"{number}\n" for number in numbers if number is not None))
            if chance.random() < 0.05:  # it took them, and nobody hears of it
                self.close_connection = True
                return
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
