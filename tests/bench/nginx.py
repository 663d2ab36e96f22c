"""The peer: nginx with one worker process, which answers by itself, or proxies with a key that it puts in."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import processes

_WHERE = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # Debian keeps it off an ordinary user's path
_FOREVER = 1_000_000_000  # requests that a kept connection may carry; by default nginx closes it after 1,000
# Its own are of one page, with which unbuffered bodies crawl; these are as large as what the broker reads at once.
_LARGE_BUFFERS = "proxy_buffer_size 128k; proxy_buffers 4 128k; client_body_buffer_size 128k;"


def available() -> bool:
    """Whether nginx is here; root on Debian installs it.  Says so where it is missing."""
    if not installed() and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing nginx …", flush=True)
        _install()
    if not installed():
        print("nginx is missing and can't be installed here: its figures are left out.", flush=True)
    return installed()


def installed() -> bool:
    """Whether nginx is here."""
    return _binary() is not None


def _binary() -> str | None:
    return shutil.which("nginx", path=_WHERE)


def _install() -> None:
    """By apt-get; the service that the package may have started is stopped again."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light"],
    ):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    for command in (["systemctl", "disable", "--now", "nginx"], ["service", "nginx", "stop"]):
        if _binary() and shutil.which(command[0]):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


@contextmanager
def answering(directory: Path, body: str) -> Iterator[int]:
    """The port of one that answers every request with ``body``, which is JSON."""
    with _running(directory, f"default_type application/json; return 200 '{body}';") as (port, _):
        yield port


@contextmanager
def proxying(directory: Path, upstream: int, key: str, *, streaming: bool = False) -> Iterator[tuple[int, int]]:
    """The port and the process of one that forwards to a local port with ``key`` in a header, over kept connections.

    ``streaming`` passes bodies on as they come, both ways, instead of buffering them.
    """
    location = f'{_forward("upstream")} proxy_set_header X-API-Key "{key}"; client_max_body_size 0;'
    if streaming:
        location += f" proxy_request_buffering off; proxy_buffering off; {_LARGE_BUFFERS}"
    with _running(directory, f"location / {{ {location} }}", _kept("upstream", upstream)) as running:
        yield running


@contextmanager
def asking(directory: Path, upstream: int, application: int) -> Iterator[tuple[int, int]]:
    """The port and the process of one that forwards to a local port what an application allows, with the key it says.

    ``application`` is its local port: ``GET /authorize`` there is answered with 2xx and ``X-API-Key``, or refused.
    """
    call = f"""{_forward("upstream")} auth_request /authorize; auth_request_set $key $upstream_http_x_api_key;
proxy_set_header X-API-Key $key; proxy_set_header Authorization "";"""
    asked = f"""internal; {_forward("application")} proxy_pass_request_body off; proxy_set_header Content-Length "";
proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URI $request_uri;"""
    server = f"location / {{ {call} }} location = /authorize {{ {asked} }}"
    pools = _kept("upstream", upstream) + _kept("application", application)
    with _running(directory, server, pools) as running:
        yield running


def _forward(pool: str) -> str:
    return f'proxy_pass http://{pool}; proxy_http_version 1.1; proxy_set_header Connection "";'


def _kept(pool: str, port: int) -> str:
    return f"upstream {pool} {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests {_FOREVER}; }}\n"


@contextmanager
def _running(directory: Path, server: str, http: str = "") -> Iterator[tuple[int, int]]:
    port = processes.free_port()
    directory.mkdir(parents=True)
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    paths = "".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off;\nworker_processes 1;\npid {directory}/pid;\nerror_log stderr warn;\n"
        + (f"user {user} {group};\n" if os.geteuid() == 0 else "")
        + f"events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  {paths}\n  {http}\n"
        f"  server {{\n    listen 127.0.0.1:{port};\n    keepalive_requests {_FOREVER};\n    keepalive_timeout 1h;\n"
        f"    {server}\n  }}\n}}\n"
    )
    arguments = [_binary() or "nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
    with processes.running(arguments, port=port, log=directory / "nginx.log") as process:
        yield port, process.pid
