"""Keys and requests are named as people think of them, wherever an id is taken."""

from __future__ import annotations

import asyncio

from broker.client.submission import submit_key
from tests.cli.test_commands import CliBench, bench

__all__ = ["bench"]

PLACE = ("--org", "acme", "--provider", "raptor-comply")


async def test_a_credential_is_named_by_organization_provider_and_label(bench: CliBench) -> None:
    def name() -> None:
        shell, state = bench.shell, bench.upstream
        shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
        shell.run("org", "add", "acme")
        there = state.add_organization("acme")
        assert "no key of raptor-comply" in shell.run("key", "show", *PLACE, status=4)
        first = shell.json("key", "add", *PLACE, given=state.add_key(there)[1])["credential"]
        second = shell.json("key", "add", *PLACE, "--label", "second", given=state.add_key(there)[1])["credential"]
        assert shell.json("key", "show", *PLACE)["id"] == first
        assert shell.json("key", "show", *PLACE, "--label", "second")["id"] == second
        assert first in shell.run("key", "show", *PLACE)
        # in whatever takes a credential
        assert shell.json("key", "policy", *PLACE, "--rotation-days", "90")["rotation_days"] == 90
        assert shell.json("key", "holders", *PLACE) == {"items": [], "held": False}
        assert "came over a link" in shell.run("key", "status-link", *PLACE, status=4)
        rotation = shell.json("key", "rotate", *PLACE, "--from", "admin@acme.example")["rotation"]
        assert rotation["credential"] == first
        shell.run("rotation", "cancel", rotation["id"])
        # half a name, and both, are no name
        for words in ((), ("--org", "acme"), ("--provider", "raptor-comply"), (first, *PLACE)):
            assert "Name it by its id, or by --org and --provider" in shell.run("key", "show", *words, status=2)
        # a label that is used again means the key that is in use
        assert shell.json("key", "revoke", *PLACE, "--yes")["id"] == first
        assert shell.json("key", "show", *PLACE)["state"] == "revoked"
        again = shell.json("key", "add", *PLACE, given=state.add_key(there)[1])["credential"]
        assert shell.json("key", "show", *PLACE)["id"] == again

    await asyncio.to_thread(name)


async def test_an_open_request_is_named_likewise(bench: CliBench) -> None:
    def name() -> None:
        shell, state = bench.shell, bench.upstream
        shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
        shell.run("org", "add", "acme")
        asked = ("key", "request", *PLACE, "--from", "admin@acme.example")
        assert "No request of acme" in shell.run("key", "link", *PLACE, status=4)
        shell.run(*asked)
        link = shell.json("key", "link", *PLACE)["link"]
        other = shell.json(*asked)["intake"]["id"]
        assert other in shell.run("key", "cancel", *PLACE, status=5)
        shell.run("key", "cancel", other)
        assert submit_key(link, state.add_key(state.add_organization("acme"))[1].encode())["state"] == "accepted"
        assert "No request of acme" in shell.run("key", "cancel", *PLACE, status=4)

    await asyncio.to_thread(name)


async def test_a_list_of_keys_has_one_shape_and_leaves_out_what_is_over(bench: CliBench) -> None:
    def look() -> None:
        shell, state = bench.shell, bench.upstream
        shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
        shell.run("org", "add", "acme")
        there = state.add_organization("acme")
        at_upstream, key = state.add_key(there)
        held = shell.json("key", "add", *PLACE, given=key)["credential"]
        shell.run("key", "request", *PLACE, "--label", "other", "--from", "admin@acme.example")
        rows = shell.json("key", "list")
        assert [(row["kind"], row["organization"], row["credential"]) for row in rows] == [
            ("key", "acme", held),
            ("request", "acme", None),
        ]
        assert rows[0].keys() == rows[1].keys()
        assert len(shell.json("key", "list", "--label", "other")) == 1
        # the upstream has taken it, too: then it is over, and healthy no more
        at_upstream.state = "revoked"
        shell.run("key", "revoke", *PLACE, "--version", "1", "--yes")
        shell.run("key", "destroy", *PLACE, "--version", "1")
        assert [row["kind"] for row in shell.json("key", "list")] == ["request"]
        (over,) = [row for row in shell.json("key", "list", "--ended") if row["kind"] == "key"]
        assert (over["state"], over["health"]) == ("destroyed", "")
        assert "Nothing found for --org acme --state active." in shell.run(
            "key", "list", "--org", "acme", "--state", "active"
        )

    await asyncio.to_thread(look)
