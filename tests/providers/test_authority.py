"""The private authority that a provider file names."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from broker.providers import catalog
from tests.providers.files import definition
from tests.support.certificates import certify

HOST = 'base_url = "https://{subdomain}.example.com/api"'


def named(file: str) -> tuple[str, str]:
    """The change of a provider file that names ``file``."""
    return HOST, f'{HOST}\nca_file = "{file}"'


def test_it_is_found_beside_the_provider_file_and_trusted_alone(tmp_path: Path) -> None:
    certify(tmp_path)
    read = definition(tmp_path, named("ca.pem"))
    assert read.host.tls is not None
    assert read.host.tls.cert_store_stats()["x509_ca"] == 1, "no public authority beside it"
    assert (read.host.tls.verify_mode, read.host.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    absolute = definition(tmp_path, named(str(tmp_path / "ca.pem")))
    assert absolute.host.ca_file == read.host.ca_file
    assert definition(tmp_path).host.tls is None, "none named: the public ones"


def bundle(directory: Path, *names: str) -> bytes:
    return b"".join((directory / name).read_bytes() for name in names)


def test_a_bundle_of_authorities_is_one_file(tmp_path: Path) -> None:
    certify(tmp_path)
    first = bundle(tmp_path, "ca.pem")
    certify(tmp_path)
    (tmp_path / "both.pem").write_bytes(first + bundle(tmp_path, "ca.pem"))
    tls = definition(tmp_path, named("both.pem")).host.tls
    assert tls is not None
    assert tls.cert_store_stats()["x509_ca"] == 2


@pytest.mark.parametrize(
    ("held", "fix"),
    [
        (None, "No such file or directory; name a file of certificates"),
        ((), "is not PEM; write one or more blocks"),
        (("ca.pem", "server.key"), "holds a private key, which belongs elsewhere"),
        (("server.pem",), "holds a certificate that is no authority's"),
        (("ca.pem", "server.pem"), "holds a certificate that is no authority's"),
    ],
    ids=["no file", "nothing", "a private key", "a server's certificate", "one beside an authority's"],
)
def test_what_it_may_not_hold_is_named_with_its_fix(tmp_path: Path, held: tuple[str, ...] | None, fix: str) -> None:
    certify(tmp_path)
    if held is not None:
        (tmp_path / "named.pem").write_bytes(bundle(tmp_path, *held))
    with pytest.raises(catalog.ProviderInvalid) as refused:
        definition(tmp_path, named("named.pem"))
    assert refused.value.public.startswith(f"example.toml: host.ca_file: {fix}")
    assert "BEGIN PRIVATE" not in refused.value.public


@pytest.mark.parametrize(
    "garbage", [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff\xfe\x00"]
)
def test_what_is_no_certificate_is_refused(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "named.pem").write_bytes(garbage)
    with pytest.raises(catalog.ProviderInvalid, match=r"host\.ca_file: is not PEM"):
        definition(tmp_path, named("named.pem"))


def test_one_that_is_too_long_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "named.pem").write_bytes(b"x" * (1 << 20) + b"x")
    with pytest.raises(catalog.ProviderInvalid, match=r"host\.ca_file: is longer than 1 MiB"):
        definition(tmp_path, named("named.pem"))
    with pytest.raises(catalog.ProviderInvalid, match=r"host\.ca_file: Is a directory"):
        definition(tmp_path, named("."))
    with pytest.raises(catalog.ProviderInvalid, match=r"host\.ca_file: must be a text"):
        definition(tmp_path, (HOST, f"{HOST}\nca_file = 7"))


def test_http_has_nothing_to_vouch_for(tmp_path: Path) -> None:
    certify(tmp_path)
    plain = 'base_url = "http://{subdomain}.example.com/api"\nprivate = true\nca_file = "ca.pem"'
    with pytest.raises(catalog.ProviderInvalid, match=r"host\.ca_file: has no certificate to vouch for"):
        definition(tmp_path, (HOST, plain))
