"""``broker workload``: register jobs.  The key pair is made here, on the job's side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.api import broker_url, call, client_proxy, pages
from broker.cli.asking import Yes, insist_on_ending
from broker.cli.failing import Status, fail
from broker.cli.job import as_job, usable, usable_key
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, say, show

if TYPE_CHECKING:
    from broker.client.client import Client
    from broker.client.identity import Identity

app = typer.Typer(no_args_is_help=True, help="Jobs and their identities.")

Workload = Annotated[str, typer.Argument(help="The job's name or id.")]


class Algorithm(StrEnum):
    """The algorithm that signs a job's assertions."""

    EDDSA = "EdDSA"
    ES256 = "ES256"
    RS256 = "RS256"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What the job is called, such as nightly-sync.")],
    key_out: Annotated[
        Path | None, typer.Option(help="Where the identity is written (mode 0600); default NAME.identity.json.")
    ] = None,
    alg: Annotated[Algorithm, typer.Option(help="Signature algorithm.")] = Algorithm.EDDSA,
    keyless: Annotated[
        bool, typer.Option("--keyless", help="Without a key pair: `broker trust add` says by which tokens it signs in.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Register a job with a key pair that is made here and kept in a file, or with none (--keyless)."""
    if keyless:
        _add_keyless(name, key_out, as_json)
        return
    from broker.client.identity import Identity  # noqa: PLC0415 - help needs no cryptography

    path = key_out or Path(f"{name}.identity.json")
    again = path.exists()
    mine = _to_register(path, alg)
    try:  # a second try with the same key pair gets the first one's answer
        made = call(
            "POST",
            "/v1/workloads",
            json={"name": name, "jwks": {"keys": [mine.public_jwk]}},
            headers={"Idempotency-Key": f"workload-{mine.public_jwk['kid']}"},
        )
    except typer.Exit as ended:
        if ended.exit_code == Status.UNREACHABLE:
            say(f"Whether the job is registered isn't known. Run this again: {path} keeps its key pair.", err=True)
        elif not again:
            path.unlink()
        raise
    with _unwritable(path):
        Identity(mine.broker, made["id"], mine.private_jwk).replace(path)
    show({"id": made["id"], "name": made["name"], "key_ids": made["key_ids"], "identity": str(path)}, as_json)


def _add_keyless(name: str, key_out: Path | None, as_json: bool) -> None:
    if key_out is not None:
        fail("--keyless makes no key pair, so there is nothing to write; leave --key-out out.", Status.USAGE, "usage")
    made = call("POST", "/v1/workloads", json={"name": name, "keyless": True})
    say(f"It can't sign in yet: `broker trust add {name} --issuer …` says which tokens are its own.", err=True)
    show({"id": made["id"], "name": made["name"]}, as_json)


def _to_register(path: Path, alg: Algorithm) -> Identity:
    """A new key pair in its file, before anything is sent.

    So nothing is registered whose private half isn't kept.  If a run before this one got no answer, its key pair is
    taken.
    """
    from broker.client.identity import UNREGISTERED, Identity, generate  # noqa: PLC0415 - as above

    fresh = Identity(broker_url(), UNREGISTERED, generate(alg.value))
    with _unwritable(path):
        try:
            fresh.write(path)
        except FileExistsError:
            fresh = usable_key(path, registered=False)
            if fresh.client_id != UNREGISTERED:
                fail(f"{path} exists already; move it away or name another file with --key-out.", Status.CONFLICT)
    return fresh


@app.command("rotate-key")
def rotate_key(
    workload: Annotated[str, typer.Argument(help="The job's name or id; with --identity, left out.")] = "",
    identity: Annotated[
        Path | None, typer.Option("--identity", help="The job's own file: its present key proves who asks.")
    ] = None,
    key_out: Annotated[
        Path | None, typer.Option(help="Where the new identity is written; default NAME.identity.json.")
    ] = None,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=720, help="How long the keys from before still work; 0 if others know one.")
    ] = 24,
    alg: Annotated[Algorithm, typer.Option(help="Signature algorithm.")] = Algorithm.EDDSA,
    as_json: AsJson = False,
) -> None:
    """Give a job a new key pair under its grants; the key from before works on for a day, or --overlap-hours.

    A command that was interrupted is run again: it goes on with the key pair that it had made.
    """
    if (not workload) == (identity is None):
        fail("Name the workload, or the job's own file with --identity.")
    seconds = overlap_hours * 3600
    if identity is not None:
        mine = usable_key(identity)
        path = key_out or identity
        interrupted = _next_to(path).exists()
        fresh = _staged(path, mine.broker, mine.client_id, alg)
        # The answer may have been lost: then the new key is the one that proves who asks, and the old one may not be.
        proof = _next_to(path) if interrupted and _proves(fresh) else identity
        send = partial(as_job, usable(proof), None, partial(_rotated, fresh, seconds))
    else:
        known = call("GET", f"/v1/workloads/{workload}")
        path = key_out or Path(f"{workload}.identity.json")
        if path.exists() and usable(path).client_id != known["id"]:
            fail(f"{path} is another job's; name another file with --key-out.")
        fresh = _staged(path, broker_url(), known["id"], alg)
        body = {"jwk": fresh.public_jwk, "overlap_seconds": seconds}
        send = partial(call, "POST", f"/v1/workloads/{workload}/keys", json=body)
    made = send()
    with _unwritable(path):
        _next_to(path).replace(path)
    ended = f"for {overlap_hours} hours more" if overlap_hours else "no longer"
    say(f"The new identity is in {path}; the keys from before work {ended}.", err=True)
    show({"id": made["id"], "name": made["name"], "key_ids": made["key_ids"], "identity": str(path)}, as_json)


def _proves(fresh: Identity) -> bool:
    """Whether the broker knows this key already."""
    from broker.client.client import Client  # noqa: PLC0415 - help needs no client
    from broker.client.connecting import ProxyUnusable  # noqa: PLC0415 - likewise
    from broker.client.errors import CallFailed  # noqa: PLC0415 - likewise

    with suppress(CallFailed, ProxyUnusable), Client(fresh, proxy=client_proxy()) as job:
        job.access_token()
        return True
    return False


def _rotated(fresh: Identity, overlap_seconds: int, job: Client) -> dict[str, Any]:
    return dict(job.rotate_key(fresh.public_jwk, overlap_seconds=overlap_seconds).answer)


def _staged(path: Path, broker: str, client_id: str, alg: Algorithm) -> Identity:
    """The new identity, which is on the disk before anything is sent.

    If an interrupted run left one there, that one is taken.
    """
    from broker.client.identity import Identity, generate  # noqa: PLC0415 - as in `add`

    fresh = Identity(broker, client_id, generate(alg.value))
    beside = _next_to(path)
    with _unwritable(beside):
        try:
            fresh.write(beside)
        except FileExistsError:
            fresh = usable_key(beside)
            if fresh.client_id != client_id:
                fail(f"{beside} is another job's; move it away.")
    return fresh


def _next_to(path: Path) -> Path:
    return path.with_name(path.name + ".next")


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    """End the command, and say why, where the file can't be written."""
    try:
        yield
    except OSError as error:
        fail(f"{path}: can't be written ({error.strerror}); make its folder writable, or name another with --key-out.")


def _row(job: Item) -> Item:
    """A job as people read it."""
    proofs = [_counted(len(job["key_ids"]), "key"), _counted(job["trusts"], "trust")]
    if job["has_client_secret"]:
        proofs.append("a client secret")
    return {**job, "proves_by": ", ".join(filter(None, proofs))}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""


@app.command("list")
@prints_list(Columns("name state id", "proves_by created_at"), _row)
def list_(
    state: Annotated[str | None, typer.Option(help="active or revoked.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
) -> Iterable[Item]:
    """Jobs."""
    return pages("/v1/workloads", state=state, name=name)


@app.command("show")
def show_(workload: Workload, as_json: AsJson = False) -> None:
    """One job."""
    show(call("GET", f"/v1/workloads/{workload}"), as_json)


@app.command()
def revoke(
    workload: Workload,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a job: no token, lease or use by it from now on."""
    path = f"/v1/workloads/{workload}"
    insist_on_ending(f"Revoking the job {workload}", path, yes=yes)
    show(call("POST", f"{path}/revoke", json={"reason": reason}), as_json)
