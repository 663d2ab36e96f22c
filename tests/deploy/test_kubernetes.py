"""The manifests, applied in the order that ``base.yaml`` tells, find what they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.config import SettingsUnusable, load
from tests.support.certificates import certify

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
ORDER = ("base.yaml", "migrate.yaml", "keybroker.yaml")
MADE_BY_HAND = {("Secret", "keybroker"), ("Secret", "keybroker-owner")}


def in_order() -> Iterator[dict[str, Any]]:
    for name in ORDER:
        yield from yaml.safe_load_all((KUBERNETES / name).read_text())


def referred(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pod["serviceAccountName"]
    for container in pod["containers"]:
        yield from (("ConfigMap", source["configMapRef"]["name"]) for source in container["envFrom"])
    for volume in pod["volumes"]:
        sources = volume.get("projected", {}).get("sources", ())
        yield from (("Secret", source["secret"]["name"]) for source in sources if "secret" in source)


def test_the_documented_order_is_whole() -> None:
    told = re.findall(r"-f ([a-z]+\.yaml)", (KUBERNETES / "base.yaml").read_text())
    assert tuple(told) == ORDER
    made = re.findall(r"create secret generic (\S+)", (KUBERNETES / "base.yaml").read_text())
    assert {("Secret", name) for name in made} == MADE_BY_HAND
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == set(ORDER)


def test_what_a_manifest_refers_to_was_applied_before_it() -> None:
    there = set(MADE_BY_HAND)
    for document in in_order():
        metadata = document["metadata"]
        if document["kind"] != "Namespace":
            assert ("Namespace", metadata["namespace"]) in there, document["kind"]
        if document["kind"] in {"Deployment", "Job"}:
            missing = set(referred(document["spec"]["template"]["spec"])) - there
            assert not missing, (document["kind"], missing)
        there.add((document["kind"], metadata["name"]))


def test_only_the_job_has_the_role_that_can_change_the_schema() -> None:
    pods = {each["kind"]: each["spec"]["template"]["spec"] for each in in_order() if "template" in each.get("spec", {})}
    secrets = {kind: {name for what, name in referred(pod) if what == "Secret"} for kind, pod in pods.items()}
    assert secrets == {"Job": {"keybroker", "keybroker-owner"}, "Deployment": {"keybroker"}}
    sources = next(volume for volume in pods["Job"]["volumes"] if volume["name"] == "secrets")["projected"]["sources"]
    (shared,) = (each["secret"] for each in sources if each["secret"]["name"] == "keybroker")
    assert [item["key"] for item in shared["items"]] == ["openbao-ca.pem"], "one database_url, the owner's"


def test_every_pod_is_under_the_network_policy() -> None:
    found = list(in_order())
    policy = next(document for document in found if document["kind"] == "NetworkPolicy")
    wanted = policy["spec"]["podSelector"]["matchLabels"]
    for document in found:
        if document["kind"] in {"Deployment", "Job"}:
            assert wanted.items() <= document["spec"]["template"]["metadata"]["labels"].items()


def test_the_monitoring_reaches_metrics_alone_and_only_the_ingress_the_broker() -> None:
    found = list(in_order())
    policy = next(document for document in found if document["kind"] == "NetworkPolicy")
    reached = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: [
            port["port"] for port in rule["ports"]
        ]
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
    }
    assert reached == {"ingress": [8080], "monitoring": [8081]}
    settings = next(document for document in found if document["kind"] == "ConfigMap")["data"]
    template = next(document for document in found if document["kind"] == "Deployment")["spec"]["template"]
    assert settings["BROKER_METRICS_PORT"] == template["metadata"]["annotations"]["prometheus.io/port"] == "8081"
    (container,) = template["spec"]["containers"]
    assert {"name": "metrics", "containerPort": 8081} in container["ports"]
    service = next(document for document in found if document["kind"] == "Service")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"], "the Service hands on no metrics"


def test_a_broker_ends_only_after_the_service_has_stopped_sending_calls() -> None:
    pod = next(each for each in in_order() if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    ends_calls_within = 10
    assert waits >= 5
    assert pod["terminationGracePeriodSeconds"] > waits + ends_calls_within


def test_the_placeholder_of_trusted_proxies_can_not_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(tmp_path)
    data = next(document for document in in_order() if document["kind"] == "ConfigMap")["data"]
    given = {**data, "BROKER_VAULT_CA_FILE": str(tmp_path / "ca.pem"), "BROKER_SECRETS_DIR": str(tmp_path)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsUnusable) as refused:
        load()
    (line,) = str(refused.value).splitlines()
    assert line.startswith("BROKER_TRUSTED_PROXIES: REPLACE-WITH-THE-ADDRESSES-OF-YOUR-INGRESS is neither an address")
    assert "the ingress controller's addresses" in line, "what to put there"
    monkeypatch.setenv("BROKER_TRUSTED_PROXIES", "10.4.7.0/24")
    assert load().trusted_proxies == "10.4.7.0/24", "and nothing else stands in the way"
