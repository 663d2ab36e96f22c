"""Authorities of a test's own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certify(directory: Path) -> None:
    """Make an authority (``ca.pem``) and its certificate for 127.0.0.1.

    The certificate is ``server.pem``, with ``server.key``.
    """
    now = datetime.now(UTC)

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("test authority"))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signed = builder("test authority", authority).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    signed = signed.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False
    ).add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
    leaf = builder("bao", server).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    )
    leaf = leaf.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(signed.sign(authority, hashes.SHA256()).public_bytes(pem))
    (directory / "server.pem").write_bytes(leaf.sign(authority, hashes.SHA256()).public_bytes(pem))
    key = directory / "server.key"
    key.touch(0o600)
    key.write_bytes(server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    ssl.create_default_context(cafile=str(directory / "ca.pem"))


def serving_tls(directory: Path) -> ssl.SSLContext:
    """TLS of a server with that certificate."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(directory / "server.pem", directory / "server.key")
    return tls
