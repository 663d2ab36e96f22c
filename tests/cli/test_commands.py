"""The command line as people and machines use it."""

from __future__ import annotations

import asyncio
import errno
import json
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker import app as composition
from broker.client.submission import submit_key
from broker.config import SettingsUnusable, load
from broker.formats import link_secret
from broker.keystore.local import MasterKeys
from broker.sandbox.serve import running as serving
from broker.sandbox.state import State
from tests.support.certificates import certify, serving_tls
from tests.support.commands import MINIMAL, run
from tests.support.processes import free_port
from tests.support.program import Program
from tests.support.world import running_world, settings_for, upstream


@dataclass
class CliRunner:
    """Somebody's shell."""

    environment: dict[str, str]
    directory: Path

    def run(self, *words: str, given: str = "", status: int = 0) -> str:
        """One command; its output."""
        done = run(*words, environment=self.environment, directory=self.directory, given=given.encode())
        output, errors = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == status, f"{words}: {done.returncode}\n{output}\n{errors}"
        assert "Traceback" not in errors
        return output if status == 0 else errors

    def hinted(self, *words: str) -> str:
        """What one command says beside its output."""
        return run(*words, environment=self.environment, directory=self.directory).stderr.decode()

    def json(self, *words: str, given: str = "") -> Any:
        """One command with ``--json``."""
        return json.loads(self.run(*words, "--json", given=given))


@dataclass
class CliBench:
    """A shell beside a new broker, the one-time token for its first operator, and the upstream behind it."""

    shell: CliRunner
    bootstrap: str
    upstream: State


def shell_beside(url: str, directory: Path) -> CliRunner:
    home = directory / "home"
    home.mkdir(parents=True)
    return CliRunner({**MINIMAL, "HOME": str(home), "BROKER_URL": url}, home)


@pytest.fixture
async def bench(tmp_path: Path, sqlite_url: str) -> AsyncIterator[CliBench]:
    url = f"http://127.0.0.1:{free_port()}"
    async with upstream() as (state, upstream_url):
        settings = settings_for(tmp_path, sqlite_url, upstream_url, public_url=url)
        async with running_world(settings, state, upstream_url, bootstrap=False) as world:
            token = await composition.bootstrap_token(world.services)
            assert token is not None
            async with serving(world.edge, port=int(url.rpartition(":")[2])):
                yield CliBench(shell_beside(url, tmp_path), token, state)


async def test_the_whole_tour(tmp_path: Path, sqlite_url: str) -> None:
    # against the program itself, and with the token that it gives out
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    async with upstream() as (state, upstream_url):
        program = await asyncio.to_thread(Program, tmp_path, sqlite_url, upstream_url, free_port())
        try:
            await asyncio.to_thread(tour, CliBench(shell_beside(program.url, tmp_path), program.bootstrap, state))
        finally:
            await asyncio.to_thread(program.stop)


def tour(bench: CliBench) -> None:
    shell, state = bench.shell, bench.upstream
    # without an account the next step is named
    assert "broker operator bootstrap" in shell.run("org", "list", status=1)
    said = shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
    assert "You are ada (admin)" in said
    account = shell.directory / ".config/keybroker/account.json"
    assert stat.S_IMODE(account.stat().st_mode) == 0o600

    shell.run("org", "add", "acme", "--name", "Acme Power")
    key = state.add_key(state.add_organization("acme"))[1]
    request = shell.json(
        "key", "request", "--org", "acme", "--provider", "raptor-comply", "--from", "admin@acme.example"
    )
    assert shell.json("key", "list")[0]["state"] == "requested"
    assert submit_key(request["link"], key.encode())["state"] == "accepted"
    held = shell.json("key", "list")[0]
    assert (held["state"], held["last4"]) == ("active", key[-4:])

    made = shell.json("workload", "add", "nightly")
    identity = shell.directory / made["identity"]
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
    assert "exists already" in shell.run("workload", "add", "nightly", status=5)
    grant = shell.json("grant", "add", "--workload", "nightly", "--org", "acme", "--provider", "raptor-comply")[0]
    assert grant["retries"]
    wanted = ("--workload", "nightly", "--org", "acme", "--provider", "raptor-comply", "--no-retries")
    once = shell.json("grant", "add", *wanted)[0]
    assert not once["retries"]
    assert "no retries" in shell.run("grant", "list")
    call = ("grant", "explain", "--workload", "nightly", "--org", "acme", "--provider", "raptor-comply")
    assert shell.json(*call, "--path", "/facilities")["allowed"]
    assert "[" not in (told := shell.run(*call, "--path", "/a//b"))
    assert "path_refused" in told
    shell.run("grant", "revoke", once["id"])
    asked = ("lease", "issue", "--identity", str(identity), "--org", "acme", "--provider", "raptor-comply")
    lease = shell.json(*asked)
    assert lease["key"] is None
    assert "[mode_not_granted]" in shell.run(*asked, "--mode", "reveal", status=1)
    lease_id = lease["lease"]["id"]
    assert shell.json("lease", "list")[0]["id"] == lease_id
    told = shell.run("grant", "tighten", grant["id"], "--yes", status=5)
    assert f"broker grant revoke {grant['id']}" in told.replace("\n", " ")
    assert shell.json("lease", "renew", lease_id, "--identity", str(identity), "--ttl", "600")["state"] == "active"
    assert shell.json("lease", "end", lease_id, "--identity", str(identity))["state"] == "ended"
    lease_id = shell.json(*asked)["lease"]["id"]

    # cutting off, each one command, twice
    for words, state_ in (
        (("lease", "revoke", lease_id), "revoked"),
        (("grant", "revoke", grant["id"]), "revoked"),
        (("workload", "revoke", "nightly", "--yes"), "revoked"),
        (("key", "revoke", held["credential"], "--version", "1", "--yes"), "revoked"),
        (("key", "destroy", held["credential"], "--version", "1"), "destroyed"),
        (("key", "revoke", held["credential"], "--yes"), "revoked"),
        (("org", "revoke", "acme", "--yes"), "revoked"),
    ):
        assert shell.json(*words)["state"] == shell.json(*words)["state"] == state_
    assert "[unknown_organization]" in shell.run("org", "revoke", "nobody", "--yes", status=4)

    kinds = [event["kind"] for event in shell.json("audit", "search", "--limit", "500")]
    assert {"organization.revoked", "lease.issued", "lease.denied", "credential.version.destroyed"} <= set(kinds)
    assert "lease.issued" in shell.run("audit", "search", "--kind", "lease.*")
    assert all(event["kind"].startswith("lease.") for event in shell.json("audit", "search", "--kind", "lease.*"))

    # accounts
    other = shell.json("operator", "add", "sven", "--role", "security")
    for words in (("passkey", "list", "--operator", "sven"), ("operator", "identities", "sven")):
        assert shell.json(*words) == []
    assert "--yes" in shell.run("passkey", "remove", "psk_" + "0" * 32, status=2)
    assert shell.run("operator", "unlink", "idn_" + "0" * 32, "--yes", status=4)
    assert "BROKER_LOGIN_DEVICE=true" in shell.run("login", "--device", status=1)
    assert "You are sven (security)" in shell.run("login", given=other["link"] + "\n")
    assert "needs the role" in shell.run("org", "add", "globex", status=1)


async def test_the_life_of_a_key_by_commands(bench: CliBench) -> None:
    await asyncio.to_thread(life, bench)


def life(bench: CliBench) -> None:
    shell, state = bench.shell, bench.upstream
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
    shell.run("org", "add", "acme")
    there = state.add_organization("acme")
    place = ("--org", "acme", "--provider", "raptor-comply")
    link = shell.json("key", "request", *place, "--from", "admin@acme.example")["link"]
    assert submit_key(link, state.add_key(there)[1].encode())["state"] == "accepted"
    credential = shell.json("key", "list")[0]["credential"]
    assert f"`broker key rotate {credential}`" in shell.run("key", "request", *place, "--from", "a@b.example", status=5)

    # two requests for one key
    twice = (*place, "--label", "twice", "--from", "admin@acme.example")
    first = shell.json("key", "request", *twice)["intake"]["id"]
    assert f"broker key cancel {first}" in shell.hinted("key", "request", *twice)
    shell.run("key", "cancel", first)
    assert shell.hinted("key", "link", shell.json("key", "list")[-1]["intake"]) == ""

    # policies and views
    assert shell.json("org", "policy", "acme", "--rotation-days", "20")["rotation_days"] == 20
    assert shell.json("org", "rename", "acme", "Acme Power Ltd")["name"] == "Acme Power Ltd"
    assert [one["credential"] for one in shell.json("key", "list", "--only", "due_soon")] == [credential]
    assert shell.json("key", "policy", credential, "--rotation-days", "90")["rotation_days"] == 90
    assert shell.json("key", "list", "--only", "due_soon") == []
    assert "[invalid]" in shell.run("key", "policy", credential, "--on-max-age", "refuse", status=1)

    # rotate
    opened = shell.json("key", "rotate", credential, "--reason", "yearly")
    assert "[rotation_open]" in shell.run("key", "rotate", credential, status=5)
    rotation = opened["rotation"]["id"]
    assert [one["id"] for one in shell.json("rotation", "list")] == [rotation]
    assert "[unlawful_move]" in shell.run("rotation", "promote", rotation, status=5)
    again = shell.json("key", "link", opened["rotation"]["intake"])["link"]
    new = state.add_key(there)[1]
    assert submit_key(again, new.encode())["state"] == "accepted"
    assert shell.json("rotation", "show", rotation)["state"] == "grace"
    assert shell.json("key", "holders", credential, "--version", "1") == {"items": [], "held": False}
    assert shell.json("rotation", "promote", rotation)["state"] == "completed"
    assert "awaiting upstream revocation" in shell.run("key", "list")
    assert shell.json("rotation", "list") == []
    cancelled = shell.json("key", "rotate", credential)["rotation"]["id"]
    assert shell.json("rotation", "cancel", cancelled)["state"] == "cancelled"
    opened = shell.json("key", "rotate", credential)
    assert submit_key(opened["link"], state.add_key(there)[1].encode())["state"] == "accepted"
    back = shell.json("rotation", "rollback", opened["rotation"]["id"], "--reason", "made for another job")
    assert back["state"] == "rolled_back"
    made = shell.json("key", "status-link", credential)
    assert made["status_page"].startswith("http")
    assert link_secret.check(made["status_code"])

    # a leak is found, and opens an exposure
    (shell.directory / "config.env").write_text(f"KEY={new}\n")
    (shell.directory / "other.env").write_text("KEY=rc_live_" + "k9Zq" * 16)
    said = shell.run("scan", ".", "--json", "--expose", "--yes", status=1)
    assert f"of {credential} is cut off" in said
    assert new not in said
    (exposure,) = shell.json("incident", "list")
    assert exposure["where"].endswith("config.env:1")
    (finding,) = shell.json("leak", "list")
    assert (finding["credential"], finding["place"]) == (credential, exposure["where"])
    assert "--expose needs an operator" in shell.run("scan", ".", "--expose", "--offline", status=2)
    assert "--expose needs an operator" in shell.run("scan", ".", "--expose", "--identity", "x", status=2)
    out = shell.directory / "timeline.ndjson"
    shell.run("incident", "timeline", exposure["id"], "--out", str(out))
    assert next(json.loads(line)["type"] for line in out.read_text().splitlines()) == "exposure"
    assert "exists already" in shell.run("incident", "timeline", exposure["id"], "--out", str(out), status=5)
    reported = shell.run("key", "exposed", credential, "--version", "1", "--found-by", "me", "--where", "a log")
    assert "no lease or use of it" in reported

    # who is told
    made = json.loads(shell.run("webhook", "add", "--json", given="https://hooks.example.com/secret-part\n"))
    assert "secret-part" not in shell.run("webhook", "list")
    hook = made["webhook"]["id"]
    assert made["secret"] != shell.json("webhook", "rotate-secret", hook)["secret"]
    assert shell.json("webhook", "revoke", hook)["state"] == "revoked"
    away = json.loads(shell.run("webhook", "add", "--json", given="https://localhost:1/hook\n"))["webhook"]["id"]
    assert "The webhook took nothing: no answer: the host has no public address." in shell.run(
        "webhook", "test", away, status=1
    )
    assert "[invalid]" in shell.run("webhook", "add", given="http://127.0.0.1/hook\n", status=1)
    assert "key_exposed" in [one["kind"] for one in shell.json("notice", "list")]
    assert shell.json("notice", "deliveries", "--state", "dead") == []


async def test_a_scan_of_many_candidates_finds_ours_among_them(bench: CliBench) -> None:
    def search() -> None:
        user, state = bench.shell, bench.upstream
        user.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
        user.run("org", "add", "acme")
        key = state.add_key(state.add_organization("acme"))[1]
        place = ("--org", "acme", "--provider", "raptor-comply")
        user.run("key", "add", *place, given=key)
        # the longest places there are, in what takes the most bytes to write
        folder = user.directory.joinpath(*["🔑" * 60] * 4)
        folder.mkdir(parents=True)
        others = [f"rc_live_{number:064d}" for number in range(1_000)]
        (folder / "dump.txt").write_text("\n".join([*others[:700], key, *others[700:]]))
        user.run("scan", ".", status=1)
        (finding,) = user.json("leak", "list")
        assert finding["place"].endswith("🔑/dump.txt:701")

    await asyncio.to_thread(search)


async def test_a_pasted_key_comes_from_standard_input_only(bench: CliBench) -> None:
    def paste() -> None:
        user, state = bench.shell, bench.upstream
        user.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
        user.run("org", "add", "acme")
        key = state.add_key(state.add_organization("acme"))[1]
        words = ("key", "add", "--org", "acme", "--provider", "raptor-comply")
        refused = user.run(*words, "--key", key, status=2)
        assert "standard input" in refused
        assert key not in refused
        assert "nothing came" in user.run(*words, status=1)
        made = user.json(*words, "--contact", "admin@acme.example", given=key + "\n")
        assert made["state"] == "active"
        assert "/intake/" in user.run("key", "rotate", made["credential"]), "whom to ask is known"

    await asyncio.to_thread(paste)


def test_provider_files_are_checked_with_field_and_fix(tmp_path: Path) -> None:
    shell = CliRunner(MINIMAL, tmp_path)
    bundled = Path(__file__).parents[2] / "broker/providers/definitions/raptor-comply.toml"
    assert "is valid" in shell.run("provider", "check", "--offline", str(bundled))
    broken = tmp_path / "mine.toml"
    broken.write_text(bundled.read_text().replace("[verify]", "[verfy]"))
    said = shell.run("provider", "check", str(broken), status=1)
    assert "mine.toml" in said
    assert "verfy" in said
    assert "verify" in said


async def test_a_check_of_a_provider_file_names_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    certify(tmp_path)
    shell, file = CliRunner(MINIMAL, tmp_path), tmp_path / "mine.toml"
    bundled = Path(__file__).parents[2] / "broker/providers/definitions/raptor-comply.toml"
    server = await asyncio.start_server(upstream, "127.0.0.1", 0, ssl=serving_tls(tmp_path))
    try:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        host = f'base_url = "{url}"\nprivate = true'
        file.write_text(bundled.read_text().replace('base_url = "https://api.raptormaps.com"', host))
        said = await asyncio.to_thread(shell.run, "provider", "check", str(file), status=1)
        assert "mine.toml: host.ca_file: the host's certificate is not trusted: " in said
        words = ("provider", "check", str(file), "--json")
        done = await asyncio.to_thread(run, *words, environment=shell.environment)
        told = json.loads(done.stdout)
        assert (told["valid"], "certificate" in told["faults"][0]) == (False, True)
        assert asked == []
        assert "is valid" in await asyncio.to_thread(shell.run, "provider", "check", "--offline", str(file))
        file.write_text(file.read_text().replace("private = true", 'private = true\nca_file = "ca.pem"'))
        assert "is valid" in await asyncio.to_thread(shell.run, "provider", "check", str(file))
        assert len(asked) == 1
        assert b"X-API-Key" not in asked[0]
    finally:
        server.close()
    assert "is valid" in await asyncio.to_thread(shell.run, "provider", "check", str(file)), "not reached: not known"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"BROKER_PORT": "x"}, "BROKER_PORT"),
        ({"BROKER_OTLP_ENDPOINT": "otel:4318"}, "BROKER_OTLP_ENDPOINT: must be an address such as http://"),
        ({"BROKER_PUBLIC_URL": "http://keys.example"}, "BROKER_PUBLIC_URL: must be https"),
        ({"BROKER_PUBLIC_URL": "https://keys.example/path"}, "BROKER_PUBLIC_URL: must be an origin"),
        ({"BROKER_KEYSTORE": "paper"}, "BROKER_KEYSTORE"),
        ({"BROKER_SMTP_HOST": "127.0.0.1", "BROKER_MAIL_FROM": "keys@x."}, "BROKER_MAIL_FROM: must be an address"),
        ({"BROKER_SMTP_HOST": "127.0.0.1", "BROKER_MAIL_FROM": "k@bü.example"}, "must be written k@xn--b-eha.example"),
        ({"BROKER_NOTIFY_EMAILS": "a@x.example; b@x.example"}, "BROKER_NOTIFY_EMAILS: write one e-mail address"),
        ({"BROKER_CONFIG": "/nowhere.toml"}, "BROKER_CONFIG"),
        ({"BROKER_MASTER_KEYS": "a:c2hvcnQ="}, "BROKER_MASTER_KEYS: key 'a'"),
        ({"BROKER_PROVIDERS_DIR": "/nowhere"}, "BROKER_PROVIDERS_DIR"),
        ({"BROKER_DATABASE_URL": "postgresql+asyncpg://x@127.0.0.1:1/x"}, "BROKER_DATABASE_URL"),
        ({"BROKER_STATE_DIR": "/proc/nowhere"}, "/proc/nowhere: No such file or directory"),
    ],
)
def test_serve_refuses_to_start_and_names_the_setting(tmp_path: Path, environment: dict[str, str], named: str) -> None:
    said = CliRunner({**MINIMAL, **environment}, tmp_path).run("serve", status=1)
    assert named in said


def test_settings_come_from_a_file_too_and_a_misspelt_one_is_named(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('vendor_nam = "Gridwise"\n')
    said = CliRunner({**MINIMAL, "BROKER_CONFIG": str(config)}, tmp_path).run("serve", status=1)
    assert "BROKER_VENDOR_NAM: there is no such setting" in said
    config.write_text('vendor_name = "Gridwise"\n')
    assert "ok" in CliRunner({**MINIMAL, "BROKER_CONFIG": str(config)}, tmp_path).run("doctor")


@pytest.mark.parametrize(
    ("written", "why"), [(b'port = "80', "is not TOML"), (b"\xff\xfe", "is not UTF-8")], ids=["cut off", "not text"]
)
def test_a_settings_file_that_is_not_toml_is_named(tmp_path: Path, written: bytes, why: str) -> None:
    config = tmp_path / "broker.toml"
    config.write_bytes(written)
    said = CliRunner({**MINIMAL, "BROKER_CONFIG": str(config)}, tmp_path).run("serve", status=1)
    assert str(config) in said
    assert why in said


@pytest.mark.parametrize("variable", ["BROKER_CONFIG", "BROKER_SECRETS_DIR"])
def test_a_settings_file_that_the_broker_may_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "port").write_text("8080")
    path = tmp_path / "port"
    monkeypatch.setenv(variable, str(path if variable == "BROKER_CONFIG" else tmp_path))
    with monkeypatch.context() as refusing:

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        refusing.setattr(Path, "open", refused)
        refusing.setattr(Path, "read_text", refused)
        with pytest.raises(SettingsUnusable, match=f"{variable}: {path} can't be read"):
            load()


def test_every_setting_is_documented(tmp_path: Path) -> None:
    rows = CliRunner(MINIMAL, tmp_path).json("doctor", "--settings")
    assert len(rows) >= 15
    assert all(row["meaning"] for row in rows)


def test_migrate_makes_the_embedded_default_and_goes_down_again(tmp_path: Path) -> None:
    shell = CliRunner(MINIMAL, tmp_path)
    shell.run("migrate")
    assert stat.S_IMODE((tmp_path / "var/master-keys.toml").stat().st_mode) == 0o600
    assert "at base" in shell.run("migrate", "base", "--down", "--yes")


def test_master_keys_are_rotated_rewrapped_and_dropped(tmp_path: Path) -> None:
    shell = CliRunner(MINIMAL, tmp_path)
    shell.run("migrate")
    (old,) = shell.json("keystore", "status")
    shell.run("keystore", "rotate")
    assert "still need" in shell.run("keystore", "drop", old["master_key"], status=1)
    assert old["master_key"] not in shell.run("keystore", "rewrap")
    assert "Removed" in shell.run("keystore", "drop", old["master_key"], "--settle", "0")
    # and: each is on the record, that it begins before anything is opened
    with closing(sqlite3.connect(tmp_path / "var/broker.db")) as db:
        kinds = [kind for (kind,) in db.execute("SELECT kind FROM audit_events ORDER BY idx")]
    assert kinds == [
        "keystore.rotated",
        "keystore.rewrap_begun",
        "keystore.rewrapped",
        "keystore.master_key_dropped",
    ]


async def test_a_second_person_approves_what_the_first_asked_for(tmp_path: Path, sqlite_url: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with upstream() as (state, upstream_url):
        settings = settings_for(tmp_path, sqlite_url, upstream_url, public_url=url, reveal_approval="on")
        async with running_world(settings, state, upstream_url, bootstrap=False) as world:
            tokens = [await composition.bootstrap_token(world.services)]
            async with serving(world.edge, port=int(url.rpartition(":")[2])):
                ada, bea = (shell_beside(url, tmp_path / name) for name in ("ada", "bea"))
                await asyncio.to_thread(ada.run, "operator", "bootstrap", "--name", "ada", given=f"{tokens[0]}\n")
                tokens.append(await composition.bootstrap_token(world.services, replace=True))
                await asyncio.to_thread(bea.run, "operator", "bootstrap", "--name", "bea", given=f"{tokens[1]}\n")
                await asyncio.to_thread(approving, ada, bea)


def approving(ada: CliRunner, bea: CliRunner) -> None:
    ada.run("org", "add", "acme")
    ada.run("workload", "add", "nightly")
    wanted = ("--workload", "nightly", "--org", "acme", "--provider", "raptor-comply", "--mode", "reveal")
    grant = ada.json("grant", "add", *wanted)[0]
    assert grant["state"] == "waiting"
    assert "[not_a_second_person]" in ada.run("grant", "approve", grant["id"], status=1)
    assert [one["id"] for one in bea.json("grant", "list", "--waiting")] == [grant["id"]]
    assert f"broker grant approve {grant['id']}" in bea.run("notice", "list").replace("\n", " ")
    assert bea.json("grant", "approve", grant["id"])["state"] == "active"
    assert bea.json("grant", "list", "--waiting") == []
    account = ada.json("operator", "add", "cyd", "--role", "admin")
    assert account["state"] == "waiting"
    assert bea.json("operator", "approve", account["name"])["state"] == "active"


def test_doctor_says_who_approves_and_lists_rights_that_the_broker_did_not_give(tmp_path: Path) -> None:
    shell = CliRunner(MINIMAL, tmp_path)
    shell.run("migrate")
    assert "one person alone can read a key" not in shell.run("doctor")
    alone = CliRunner({**MINIMAL, "BROKER_REVEAL_APPROVAL": "off"}, tmp_path)
    assert "one person alone" in " ".join(alone.run("doctor").split())
    assert shell.json("doctor", "--rights") == []
    assert "as the broker gave it" in shell.run("doctor", "--rights")
    with closing(sqlite3.connect(tmp_path / "var/broker.db")) as db, db:
        db.execute(
            "INSERT INTO operators (id, name, roles, token_hash, state, created_at, expires_at) "
            "VALUES ('opr_x', 'eve', '[\"admin\"]', x'00', 'active', 0, 9999999999999)"
        )
    assert "they give nobody anything" in shell.run("doctor", "--rights", status=1)


def test_doctor_says_whether_the_clock_is_believed(tmp_path: Path) -> None:
    shell = CliRunner(MINIMAL, tmp_path)
    shell.run("migrate")

    def clock() -> Any:
        return next(row for row in shell.json("doctor") if row["part"] == "clock")

    assert clock()["state"] == "ok"
    with closing(sqlite3.connect(tmp_path / "var/broker.db")) as db, db:
        db.execute("UPDATE audit_head SET latest = 9999999999999")
    assert clock()["state"] == "record"
    assert "see that the clock is right" in clock()["what"]


async def test_a_grant_is_narrowed_to_what_it_was_used_for(bench: CliBench) -> None:
    shell = bench.shell
    target = ("--org", "acme", "--provider", "raptor-comply")

    def prepared() -> tuple[str, str]:
        shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
        shell.run("org", "add", "acme", "--name", "Acme Power")
        key = bench.upstream.add_key(bench.upstream.add_organization("acme"))[1]
        shell.run("key", "add", *target, given=key)
        identity = shell.json("workload", "add", "nightly")["identity"]
        grant = shell.json("grant", "add", "--workload", "nightly", *target)[0]
        lease = shell.json("lease", "issue", "--identity", str(shell.directory / identity), *target)
        return grant["id"], lease["token"]

    grant, token = await asyncio.to_thread(prepared)
    async with httpx2.AsyncClient(base_url=shell.environment["BROKER_URL"]) as job:
        headers = {"Authorization": f"Bearer {token}"}
        assert (await job.get("/proxy/acme/raptor-comply/facilities", headers=headers)).status_code == 200
        # without a terminal nobody is asked, and nothing is changed
        assert "--yes" in await asyncio.to_thread(partial(shell.run, "grant", "tighten", grant, status=2))
        told = await asyncio.to_thread(shell.run, "grant", "tighten", grant, "--yes")
        lines = told.splitlines()
        assert {"- every method and path", "+ GET /facilities"} <= {*lines}
        assert max(map(len, lines)) <= 80
        refused = await job.get("/proxy/acme/raptor-comply/control-centers", headers=headers)
        assert refused.json()["code"] == "rule_refused"
    again = await asyncio.to_thread(shell.json, "grant", "tighten", grant, "--yes")
    assert again["rules"] == [{"methods": ["GET"], "paths": ["/facilities"]}]


async def test_a_review_is_started_and_decided(bench: CliBench) -> None:
    await asyncio.to_thread(reviewed, bench)


def reviewed(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
    bea = shell.json("operator", "add", "bea", "--role", "security")["id"]
    review = shell.json("review", "start", bea)
    assert review["account_name"] == "bea"
    assert "bea" in shell.run("review", "list", "--state", "due")
    why = ("--reason", "she left")
    assert "--yes" in shell.run("review", "decide", review["id"], "--decision", "revoke", *why, status=2)
    kept = shell.json("review", "decide", review["id"], "--decision", "keep", "--reason", "still on the team")
    assert (kept["state"], kept["decision"]) == ("decided", "keep")
    assert shell.json("review", "show", review["id"]) == kept
    assert [one["state"] for one in shell.json("review", "list")] == ["decided", "scheduled"]
