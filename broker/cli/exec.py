"""``broker exec``: run a command with leased access in its environment."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from broker.cli.discreet import UNSAID, holds_a_secret
from broker.cli.failing import Status, fail, fail_call
from broker.cli.job import Proxy
from broker.cli.lease import Grant, Ttl
from broker.cli.output import AsJson, say
from broker.cli.proving import Job, proves_itself
from broker.cli.withheld import without_identity
from broker.client.errors import CallFailed

if TYPE_CHECKING:
    from broker.client.client import Client
    from broker.client.upstream import Upstream

# Our options end at the command's first word, with or without `--` before it.
_SETTINGS = {"allow_interspersed_args": False}

_PASSED_ON = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
)
# Python ignores these signals for itself, and a new program would inherit that.
_IGNORED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]
_BY_SIGNAL = 128
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_LOOK_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("exec", context_settings=_SETTINGS)(run)


def _variable(name: str) -> str:
    if name and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise typer.BadParameter("is not the name of an environment variable")
    return name


@proves_itself
def run(
    _job: Job,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.", metavar="COMMAND…")],
    org: Annotated[str, typer.Option("--org", help="Organization: slug or id.")],
    provider: Annotated[str, typer.Option(help="Provider id.")],
    label: Annotated[str, typer.Option(help="The credential's label.")] = "default",
    purpose: Annotated[str, typer.Option(help="What the access is for.")] = "",
    ttl: Ttl = None,
    grant: Grant = "",
    url_env: Annotated[
        str, typer.Option(help="Variable for the upstream's URL through the broker.", callback=_variable)
    ] = "UPSTREAM_URL",
    token_env: Annotated[
        str, typer.Option(help="Variable for the token that opens it.", callback=_variable)
    ] = "UPSTREAM_TOKEN",  # noqa: S107 - a name
    reveal: Annotated[
        str, typer.Option(help="Instead of both: variable for the key itself, where granted.", callback=_variable)
    ] = "",
    keep_env: Annotated[
        list[str] | None, typer.Option(help="Variable of the job's platform identity to hand on all the same; repeat.")
    ] = None,
    bound: Annotated[
        bool,
        typer.Option("--bound", help="Bind the lease to a key of this process; the command's calls go through it."),
    ] = False,
    proxy: Proxy = None,
    as_json: AsJson = False,  # noqa: ARG001 - it is asked where a command fails
) -> NoReturn:
    """Run a command with leased access in its environment; the lease is renewed while it runs, and ended with it.

    The status is the command's; 128 and the signal where one ended it, 127 where there is no such command, 126 where
    it can't be run, 1 where there was no lease.  No BROKER_* variable is handed on, nor what proves the job's identity
    (ACTIONS_ID_TOKEN_*, …).

    If the lease is bound to a key (--bound, or its grant), the URL is one of this machine: what is sent there goes on
    to the broker with a proof of that key, which stays in this process.

    Absolute URLs in the bodies of answers (a `next` link) lead past the broker: a command that follows them sends the
    token to the upstream.
    """
    # Help and completion need no client.
    from broker.cli.forwarding import unproxied  # noqa: PLC0415 - see above
    from broker.client.client import Client  # noqa: PLC0415 - see above
    from broker.client.connecting import ProxyUnusable  # noqa: PLC0415 - see above

    if not hasattr(signal, "sigtimedwait"):  # nothing else tells who sent a signal
        fail("`broker exec` runs on Linux only; elsewhere issue a lease and hand its token on yourself.")
    # Signals are blocked before a thread starts, so that no thread takes one. They wait until there is a command, and
    # _attend passes them on to it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    lease: dict[str, Any] = {
        "organization": org,
        "provider": provider,
        "label": label,
        "purpose": purpose,
        "ttl": ttl,
        "grant": grant,
        "bound": bound,
    }
    try:
        who = _job.who()
        kept = without_identity(os.environ, who.audiences, keep_env or (), sources=who.withheld)
        with Client(who, proxy=proxy) as client:
            if reveal:
                with _revealed(client, lease) as key:
                    status = _run(command, {**kept, reveal: key}, mask, lambda: None)
            else:
                with client.upstream(**lease, keep_token=True) as upstream, _address(upstream, proxy) as url:
                    _warn(url_env, token_env)
                    given = {url_env: url, token_env: upstream.token}
                    if upstream.bound:
                        kept = unproxied(kept)
                    status = _run(command, {**kept, **given}, mask, _Watch(upstream).look)
    except ProxyUnusable as error:
        fail(str(error))
    except CallFailed as error:
        fail_call(error, Status.REFUSED)  # other statuses are the command's own
    raise typer.Exit(status)


@contextmanager
def _address(upstream: Upstream, proxy: str | None) -> Iterator[str]:
    """The URL that the command is given: the forwarder's, if its calls need proofs."""
    from broker.cli.forwarding import forwarding  # noqa: PLC0415 - as in `run`

    if not upstream.bound:
        yield upstream.url
        return
    with forwarding(upstream, proxy) as url:
        yield url


@contextmanager
def _revealed(client: Client, lease: Mapping[str, Any]) -> Iterator[str]:
    """The key itself.

    The lease is not renewed: if it ends, the command still has the key.
    """
    issued = client.lease(**lease, mode="reveal")
    try:
        yield issued.key or ""
    finally:
        with suppress(CallFailed):
            client.end(issued.id)


def _run(command: list[str], environment: Mapping[str, str], mask: set[int], look: Callable[[], None]) -> int:
    """Run ``command`` to its end; returns its status as a shell tells it."""
    # A signal came before there was a command to pass it on to, so it ends us.
    if early := signal.sigpending() & _PASSED_ON - {signal.SIGWINCH}:
        raise typer.Exit(_BY_SIGNAL + min(early))
    name = UNSAID if holds_a_secret(command[:1]) else command[0]
    try:
        child = os.posix_spawnp(command[0], command, environment, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON)
    except FileNotFoundError:
        _stop(f"{name}: there is no such command; check its name and PATH.", _NOT_FOUND)
    except OSError as error:
        _stop(f"{name}: can't be run ({error.strerror}); check its path and permissions.", _NOT_EXECUTABLE)
    return _attend(child, look)


def _attend(child: int, look: Callable[[], None]) -> int:
    while True:
        received = signal.sigtimedwait(_PASSED_ON | {signal.SIGCHLD}, _LOOK_S)
        look()
        if received is None:
            continue
        if received.si_signo == signal.SIGCHLD:
            ended, how = os.waitpid(child, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(how)
                return status if status >= 0 else _BY_SIGNAL - status
        elif received.si_code <= 0:  # a process sent it; the kernel's, such as a terminal's, reached the command too
            os.kill(child, received.si_signo)


@dataclass
class _Watch:
    """Says on standard error, once, what the command can't know of its lease."""

    upstream: Upstream
    said_over: bool = False
    said_final: bool = False

    def look(self) -> None:
        if self.said_over:
            return
        try:
            _ = self.upstream.token
        except CallFailed as over:
            self.said_over = True
            _say(f"access has ended: {over} [{over.code}] The command goes on, its calls are refused.")
            return
        seconds = self.upstream.final_seconds
        if seconds is not None and not self.said_final:
            self.said_final = True
            _say(
                f"the lease ends in {seconds:.0f} s, the grant allows no longer; the command's calls are refused then."
            )


def _warn(url: str, token: str) -> None:
    """Warn of what no answer can be kept from doing.

    It goes to people who try a command out; the logs of jobs stay as they are.
    """
    if sys.stderr.isatty():
        _say(
            f"${token} is for ${url} only. Absolute URLs in the bodies of answers (a `next` link) lead past the "
            "broker: take their path and query, and send the token nowhere else."
        )


def _say(text: str) -> None:
    say(f"broker exec: {text}", err=True, fg="yellow")


def _stop(text: str, status: int) -> NoReturn:
    fail(text, status, "not_run")
