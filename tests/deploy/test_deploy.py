"""What ``deploy/`` ships is checked by the tools that will read it, and names only what exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import hvac
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from broker.config import Settings, SettingsUnusable, load
from tests.deploy.tools import needs
from tests.support import bao
from tests.support.certificates import certify
from tests.support.world import World, running_world, settings_for, upstream

DEPLOY = Path(__file__).parents[2] / "deploy"
BESIDE = Path(sys.executable).parent
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
NO_SETTINGS = {"BROKER_CONFIG", "BROKER_SECRETS_DIR", "BROKER_URL"}  # where settings are, and the CLI's


def run(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=100, check=False, **more
    )


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def pods() -> Iterator[dict[str, Any]]:
    for document in documents():
        if document["kind"] in {"Deployment", "Job"}:
            yield document["spec"]["template"]["spec"]


def test_compose_is_valid_and_hands_secrets_over_as_files() -> None:
    done = run(BESIDE / "docker-compose", "-f", DEPLOY / "compose.yaml", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert {"broker-1", "broker-2", "postgres", "openbao", "nginx", "migrate"} == set(services)
    for name in ("broker-1", "broker-2", "migrate"):
        assert services[name]["read_only"] is True
    added = {name: set(service.get("cap_add", ())) for name, service in services.items() if service.get("cap_add")}
    assert added == {"nginx": {"CHOWN", "SETGID", "SETUID"}}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "pids_limit", "cpus"} <= service.keys(), name
    proxy = services["nginx"]["networks"]["inside"]["ipv4_address"]
    assert {services[name]["environment"]["BROKER_TRUSTED_PROXIES"] for name in ("broker-1", "broker-2")} == {proxy}
    (network,) = json.loads(done.stdout)["networks"]["inside"]["ipam"]["config"]
    assert ip_address(proxy) not in ip_network(network["ip_range"]), "nobody else gets it"
    owners = [name for name, service in services.items() if "owner-database-url" in json.dumps(service)]
    assert owners == ["migrate"], "brokers can't change the schema"
    published = [
        (name, port.get("host_ip"), port["target"]) for name in services for port in services[name].get("ports", ())
    ]
    assert sorted(published) == [("broker-1", "127.0.0.1", 8080), ("nginx", None, 443)], "to others the site alone"
    written = json.dumps(services)
    assert not re.search(r"(PASSWORD|TOKEN|SECRET|KEY)\"?: ?\"(?!/run/)", written, re.IGNORECASE)
    for path in re.findall(r"\./(compose/[a-z.]+|vault)", (DEPLOY / "compose.yaml").read_text()):
        assert (DEPLOY / path).exists() or path.startswith("compose/secrets"), path


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_what_kubernetes_takes(path: Path) -> None:
    done = run(BESIDE / "kubernetes-validate", "--strict", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_each_kind_that_a_deployment_needs() -> None:
    kinds = {document["kind"] for document in documents()}
    assert {"Deployment", "PodDisruptionBudget", "NetworkPolicy", "Job", "Service", "ServiceAccount"} <= kinds


def test_pods_are_as_small_a_target_as_they_can_be() -> None:
    for pod in pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "a Service called broker would set BROKER_PORT and more"
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert "env" not in container, "secrets come as files, the rest from the ConfigMap"
            assert all("configMapRef" in source for source in container["envFrom"])
        assert all("projected" in volume or "emptyDir" in volume for volume in pod["volumes"])


def test_probes_ask_for_what_they_mean() -> None:
    deployment = next(document for document in documents() if document["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz", "a Vault that is away must not restart pods"
    wanted = container["readinessProbe"]["httpGet"]["path"]
    assert wanted == "/readyz?need=database", "nor take every broker out of the Service"


def test_every_setting_that_is_named_exists() -> None:
    known = {f"BROKER_{name.upper()}" for name in Settings.model_fields} | NO_SETTINGS
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            named = set(re.findall(r"\bBROKER_[A-Z_]+[A-Z]\b", path.read_text()))
            assert named <= known, (path.name, named - known)


def test_a_mounted_secret_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "database_url").write_text("postgresql+asyncpg://keybroker:x@database/keybroker\n")
    (tmp_path / "database_url").chmod(0o400)
    (tmp_path / "openbao-ca.pem").write_text("not a setting")
    monkeypatch.setenv("BROKER_SECRETS_DIR", str(tmp_path))
    assert load().database() == "postgresql+asyncpg://keybroker:x@database/keybroker"
    monkeypatch.setenv("BROKER_DATABASE_URL", "sqlite+aiosqlite:///x")
    assert load().database().startswith("sqlite"), "the environment wins"
    monkeypatch.setenv("BROKER_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsUnusable, match="BROKER_SECRETS_DIR"):
        load()


@needs("systemd-analyze", package="systemd")
def test_the_unit_is_hardened() -> None:
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", DEPLOY / "keybroker.service")
    assert done.returncode == 0, done.stdout[-500:]


def unit() -> str:
    """The unit with what its comments say to add."""
    text = (DEPLOY / "keybroker.service").read_text()
    return re.sub(r"^#   (?=LoadCredential=|Environment=)", "", text, flags=re.MULTILINE)


@needs("systemd-analyze", package="systemd")
def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    made = tmp_path / "keybroker.service"
    made.write_text(unit().replace("/opt/keybroker/.venv/bin/broker", sys.executable))
    done = run("systemd-analyze", "verify", made)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), "it says nothing of what it ignores"


def test_the_unit_takes_no_more_of_the_host_than_it_says() -> None:
    assert {"MemoryMax", "MemorySwapMax", "TasksMax", "LimitNOFILE"} <= set(
        re.findall(r"^(\w+)=", unit(), re.MULTILINE)
    )


def test_the_units_secrets_are_credentials_that_the_broker_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given what systemd puts into the directory, as it does: files of mode 0400, of whatever is loaded or set
    named = re.findall(r"^(?:Load|Set)Credential=([\w-]+):", unit(), re.MULTILINE)
    for name in named:
        (tmp_path / name).write_text(
            {"database_url": "postgresql://keybroker:x@database/keybroker"}.get(name, "secret")
        )
        (tmp_path / name).chmod(0o400)
    for name, value in re.findall(r"^Environment=(\w+)=(%d\S*)$", unit(), re.MULTILINE):
        monkeypatch.setenv(name, value.replace("%d", str(tmp_path)))
    settings = load()
    # then secrets are settings, and the rest is found by its path or left alone
    assert {"database_url", "smtp_password", "vault-secret-id", "about"} == set(named)
    assert settings.database_url is not None
    assert settings.smtp_password is not None
    assert settings.vault_secret_id_file is not None
    assert settings.vault_secret_id_file.read_text() == "secret"


@needs("promtool", package="prometheus")
def test_the_alert_rules_are_what_prometheus_takes() -> None:
    done = run("promtool", "check", "rules", DEPLOY / "monitoring" / "alerts.yaml")
    assert done.returncode == 0, done.stderr


@needs("promtool", package="prometheus")
def test_alerts_wake_people_for_what_lasts_and_for_nothing_else() -> None:
    done = run("promtool", "test", "rules", DEPLOY / "monitoring" / "alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


async def test_alerts_and_dashboard_ask_for_metrics_that_exist(
    tmp_path: Path, sqlite_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with bao.running(tmp_path_factory.mktemp("bao")) as server:
        given = server.approle(server.set_up(), tmp_path / "vault")
        async with upstream() as (state, url):
            settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **given)
            async with running_world(settings, state, url) as world:
                await world.key_for("acme")
                await world.broker.worker.once()
                text = (await world.http.get("/metrics")).text
    found = {family.name for family in text_string_to_metric_families(text)}
    shown = {name for family in found for name in (family, f"{family}_total", f"{family}_bucket")}
    alerts = yaml.safe_load((DEPLOY / "monitoring" / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in alerts] + [t["expr"] for panel in panels for t in panel["targets"]]
    for expression in asked:
        for name in re.findall(r"keybroker_[a-z_]+", expression):
            assert name in shown, (name, expression)
    assert all({"summary", "runbook"} <= rule["annotations"].keys() for rule in alerts)


def test_there_are_files_enough_for_the_proxied_calls_that_a_broker_takes() -> None:
    wanted = 2 * Settings.model_fields["proxy_calls"].default + 1_000
    unit = re.search(r"^LimitNOFILE=(\d+)$", (DEPLOY / "keybroker.service").read_text(), re.MULTILINE)
    assert unit is not None
    assert int(unit[1]) > wanted
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("broker-1", "broker-2"):
        assert services[name]["ulimits"]["nofile"] > wanted


def set_up(server: bao.Bao, home: Path, **more: str | Path) -> subprocess.CompletedProcess[str]:
    """The set-up script, run with every right."""
    environment = {
        "PATH": f"{Path(bao.binary()).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "BAO_ADDR": server.url,
        "BAO_TOKEN": server.root_token,
        **{name: str(value) for name, value in more.items()},
    }
    return run("sh", DEPLOY / "vault" / "set-up.sh", env=environment)


async def test_the_set_up_script_makes_a_vault_that_a_broker_works_with(
    tmp_path: Path, sqlite_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # given somebody's link, to a file that they read, where the secret id is to be
    (tmp_path / "theirs").touch(0o666)
    secret_id = tmp_path / "secret-id"
    secret_id.symlink_to(tmp_path / "theirs")
    with bao.running(tmp_path_factory.mktemp("bao")) as server:
        done = set_up(server, tmp_path, SECRET_ID_FILE=secret_id)
        assert done.returncode == 0, done.stderr
        assert not secret_id.is_symlink()
        assert secret_id.stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "theirs").read_text()
        assert secret_id.read_text().strip() not in done.stdout
        assert not list(tmp_path.glob("secret-id.*")), "nothing is left beside it"
        role_id = next(line for line in done.stdout.splitlines() if "ROLE_ID" in line).partition("=")[2]
        given = {"vault_url": server.url, "vault_role_id": role_id, "vault_secret_id_file": secret_id}
        async with upstream() as (state, url):
            settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-transit", **given)
            async with running_world(settings, state, url) as world:
                await _works(world)
        # and the broker's token is good for nothing that Vault's own default policy would give it
        client: Any = hvac.Client(server.url, token="")
        made = client.auth.approle.login(role_id, secret_id.read_text().strip())["auth"]
        assert made["policies"] == ["keybroker-transit"]
        assert client.auth.token.renew_self()["auth"]["lease_duration"] > 0
        for more in (client.auth.token.lookup_self, client.auth.token.revoke_self, lambda: client.read("cubbyhole/x")):
            with pytest.raises(hvac.exceptions.Forbidden):
                more()


def test_the_set_up_script_keeps_no_old_mode_and_binds_what_it_gives_to_addresses_and_a_time(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret_id = tmp_path / "secret-id"
    secret_id.write_text("an old one")
    secret_id.chmod(0o666)
    with bao.running(tmp_path_factory.mktemp("bao")) as server, secret_id.open() as read_by_others:
        cidrs = "192.0.2.0/24,198.51.100.7/32"
        done = set_up(server, tmp_path, SECRET_ID_FILE=secret_id, CIDRS=cidrs, SECRET_ID_TTL="720h")
        assert done.returncode == 0, done.stderr
        assert secret_id.stat().st_mode & 0o777 == 0o600
        assert read_by_others.read() == "an old one"
        role = server.root.auth.approle.read_role("keybroker")["data"]
        assert role["secret_id_bound_cidrs"] == ["192.0.2.0/24", "198.51.100.7/32"]
        assert role["token_bound_cidrs"] == ["192.0.2.0/24", "198.51.100.7"]
        assert role["secret_id_ttl"] == 720 * 3_600
        role_id = server.root.auth.approle.read_role_id("keybroker")["data"]["role_id"]
        with pytest.raises(hvac.exceptions.VaultError):
            hvac.Client(server.url).auth.approle.login(role_id, secret_id.read_text().strip())


def test_the_set_up_script_lets_the_pods_of_the_manifests_sign_in(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A Vault outside the cluster, as there is none here
    certify(tmp_path)
    (tmp_path / "reviewer").write_text("a-token-of-kubernetes")
    with bao.running(tmp_path_factory.mktemp("bao")) as server:
        done = set_up(
            server,
            tmp_path,
            AUTH="kubernetes",
            KUBERNETES_HOST="https://127.0.0.1:6443",
            KUBERNETES_CA_FILE=tmp_path / "ca.pem",
            KUBERNETES_REVIEWER_FILE=tmp_path / "reviewer",
        )
        assert done.returncode == 0, done.stderr
        role = server.root.auth.kubernetes.read_role("keybroker")
    (account,) = (document["metadata"] for document in documents() if document["kind"] == "ServiceAccount")
    assert role["bound_service_account_names"] == [account["name"]]
    assert role["bound_service_account_namespaces"] == [account["namespace"]]
    assert role["token_policies"] == ["keybroker-transit"]
    assert role["token_no_default_policy"] is True
    for pod in pods():
        (token,) = (
            source["serviceAccountToken"]
            for volume in pod["volumes"]
            for source in volume.get("projected", {}).get("sources", ())
            if "serviceAccountToken" in source
        )
        assert role["audience"] == token["audience"]


async def _works(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    assert (await world.proxied(await job.lease("acme"), "/facilities")).status_code == 200
