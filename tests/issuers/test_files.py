"""Files of issuers: what they have to say, and what is wrong with one in words of what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.issuers import files
from broker.issuers.files import IssuersUnusable

CLUSTER = """
id = "prod-cluster"
version = 1
preset = "kubernetes"
issuer = "https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D"
"""


def wrong(folder: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    with pytest.raises(IssuersUnusable) as refused:
        files.load(folder)
    return [line.replace(f"{folder}/", "") for line in str(refused.value).splitlines()]


def test_five_issuers_come_with_the_broker_and_are_shared() -> None:
    found = {one.id: one for one in files.load()}
    assert sorted(found) == ["buildkite", "github-actions", "gitlab-com", "google", "hcp-terraform"]
    assert all(one.shared for one in found.values())
    assert found["github-actions"].once
    assert not found["gitlab-com"].once


def test_a_cluster_is_declared_by_four_lines(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    one = files.load(tmp_path).get("prod-cluster")
    assert one is not None
    assert (one.kind.id, one.lifetime_s, one.once, one.algorithms, one.shared) == (
        "kubernetes",
        86_400,
        False,
        ("RS256",),
        False,
    )


def test_files_are_named_beside_their_own(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text(f'{CLUSTER}[keys]\nfrom = "file"\nfile = "cluster.jwks"\n')
    one = files.load(tmp_path).get("prod-cluster")
    assert one is not None
    assert one.declared.keys_file == tmp_path / "cluster.jwks"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("nope = 1", "nope: there is no such field; leave it out"),
        ('[keys]\nfrom = "url"', "keys: from: set url with"),
        ('[keys]\nurl = "https://cluster.example/jwks"', "keys: from: set url with"),
        ('[keys]\nfrom = "url"\nurl = "http://cluster.example/jwks"', "keys: url: must begin with https://"),
        ('[keys]\nfrom = "file"\nfile = "k"\nbearer_file = "t"', "keys: bearer_file: leave it out"),
        ('[keys]\nca_file = "absent.pem"', "keys: ca_file: No such file or directory"),
        ('[tokens]\nalgorithms = ["HS256"]', "tokens: algorithms: HS256 is none of"),
        ('[tokens]\nreplay = "never"', "tokens: replay: "),
        ("[tokens]\nleeway = 3600", "tokens: leeway: "),
        ('[required]\nclaims = ["sub"]', "required: claims: sub is none of namespace, serviceaccount"),
    ],
)
def test_each_fault_names_file_field_and_fix(tmp_path: Path, more: str, said: str) -> None:
    (line,) = wrong(tmp_path, cluster=f"{CLUSTER}{more}\n")
    assert line.startswith(f"cluster.toml: {said}")


@pytest.mark.parametrize(
    ("issuer", "ok"),
    [
        ("https://login.example", True),
        ("https://login.example/", True),
        ("http://login.example", False),
        ("https://Login.example", False),
        ("https://ada@login.example", False),
        ("https://login.example/a/../b", False),
        ("https://login.example?x", False),
        ("https://login.example#x", False),
        ("https://*.example", False),
        ("https://l\N{LATIN SMALL LETTER O WITH DIAERESIS}gin.example", False),
    ],
)
def test_an_issuer_is_an_address_of_one_meaning(tmp_path: Path, issuer: str, ok: bool) -> None:
    text = f'id = "own"\nversion = 1\npreset = "oidc"\nissuer = "{issuer}"\n'
    if not ok:
        (line,) = wrong(tmp_path, own=text)
        assert line.startswith("own.toml: issuer: ")
        return
    (tmp_path / "own.toml").write_text(text)
    assert files.load(tmp_path).get("own") is not None


def test_a_mesh_is_a_trust_domain_whose_bundle_is_named(tmp_path: Path) -> None:
    mesh = 'id = "mesh"\nversion = 1\npreset = "spiffe"\nissuer = "{}"\n[keys]\nfrom = "{}"\n'
    assert wrong(tmp_path, mesh=mesh.format("https://prod.example", "discovery")) == [
        "mesh.toml: issuer: write the trust domain, such as spiffe://prod.vendor.example",
        'mesh.toml: keys: from: name where the bundle is: from = "url" or from = "file"',
    ]
    (tmp_path / "mesh.toml").write_text(mesh.format("spiffe://prod.example", "file") + 'file = "bundle.json"\n')
    one = files.load(tmp_path).get("mesh")
    assert one is not None
    assert one.declared.use == "jwt-svid"


def test_the_checks_of_an_issuer_that_comes_with_the_broker_cant_be_left_out(tmp_path: Path) -> None:
    github = "https://token.actions.githubusercontent.com"
    plain = f'id = "own"\nversion = 1\npreset = "oidc"\nissuer = "{github}"\n'
    assert 'own.toml: preset: must be "github-actions" for this issuer, whose checks can\'t be left out' in wrong(
        tmp_path, own=plain
    )
    own = (
        f'id = "github-actions"\nversion = 1\npreset = "github-actions"\nissuer = "{github}"\naudience = "keybroker"\n'
    )
    assert wrong(tmp_path, own=own) == ["own.toml: shared: must be true for this issuer, which signs for everybody"]
    (tmp_path / "own.toml").write_text(f"{own}shared = true\n")
    one = files.load(tmp_path).get("github-actions")
    assert one is not None
    assert one.audience == "keybroker"


def test_two_files_of_one_issuer_or_id_are_refused(tmp_path: Path) -> None:
    other = CLUSTER.replace("prod-cluster", "other")
    issuer = "https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D"
    assert wrong(tmp_path, a=CLUSTER, b=other) == [
        f"{file}.toml: issuer: two files have {issuer}; leave one of them out" for file in "ab"
    ]


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    assert len(wrong(tmp_path, a="id = 1", b="=", c='id = "C"\nversion = 0\npreset = "x"\nissuer = ""')) > 5
