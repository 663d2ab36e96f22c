"""The private authority that alone vouches for an upstream.

It is judged when the provider file is read.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cryptography import x509
from pydantic import PlainValidator, ValidationInfo

_MAX = 1_048_576
DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificates of authorities, and the TLS that trusts these alone."""

    path: Path
    tls: ssl.SSLContext = field(repr=False, compare=False)


def read(path: Path) -> Authority:
    """The authority in a PEM file (RFC 7468).

    Raises:
        ValueError: it can't be read, or holds something else than certificates of authorities.  Names the fix.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "is no path"
        raise ValueError(f"{why}; name a file of certificates that the broker can read") from None
    if len(data) > _MAX:
        raise ValueError("is longer than 1 MiB; name a file with the authority's certificates alone")
    if b"PRIVATE KEY" in data:
        raise ValueError("holds a private key, which belongs elsewhere; name a file with certificates alone")
    try:
        certificates = x509.load_pem_x509_certificates(data)
        authorities = all(_is_authority(certificate) for certificate in certificates)
        tls = ssl.create_default_context(cadata=data.decode("ascii"))
    except (ValueError, ssl.SSLError, x509.DuplicateExtension):
        raise ValueError("is not PEM; write one or more blocks of -----BEGIN CERTIFICATE-----") from None
    if not authorities:
        raise ValueError("holds a certificate that is no authority's; name the one that signed the upstream's")
    return Authority(path, tls)


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate may sign others (RFC 5280 §4.2.1.3, §4.2.1.9)."""
    extensions = certificate.extensions
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    try:
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    return basic.ca and signs


def _named(value: object, info: ValidationInfo) -> Authority:
    """The authority that a provider file names, relative to the file's own directory."""
    if not isinstance(value, str) or not value:
        raise ValueError('must be a text in quotes, such as "acme-ca.pem"')
    return read(Path((info.context or {}).get(DIRECTORY, ".")) / value)


CaFile = Annotated[Authority, PlainValidator(_named)]
