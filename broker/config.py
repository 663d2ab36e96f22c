"""Settings: read once from ``BROKER_*`` and one TOML file, handed down from there."""

from __future__ import annotations

import difflib
import ipaddress
import os
import ssl
import stat
import tomllib
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from broker.base import address, closed, variables
from broker.base.mailbox import NotAMailbox, mailbox
from broker.base.wording import wording

_PREFIX = "BROKER_"
# Where settings are.
_SOURCES = frozenset({"BROKER_CONFIG", "BROKER_SECRETS_DIR"})


class SettingsUnusable(Exception):
    """A setting is wrong; the text names it and the fix."""


class Settings(BaseSettings):
    """What a deployment decides.

    Environment variables win over mounted secrets (``BROKER_SECRETS_DIR``, files named as settings), and those over
    the file (``BROKER_CONFIG``, TOML, same names).
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    state_dir: Path = Field(Path("var"), description="Where the embedded default keeps all its state.")
    database_url: SecretStr | None = Field(
        None, description="postgresql://USER:PASSWORD@HOST/NAME or sqlite+aiosqlite:///PATH; default in state_dir."
    )
    keystore: Literal["local", "vault-transit", "vault-kv"] = Field(
        "local", description="Where the master key, or with vault-kv the customers' keys themselves, live."
    )
    keystore_cache_seconds: float = Field(
        0, ge=0, le=3_600, description="Seconds that an opened key stays in memory, for when Vault is away; 0: never."
    )
    master_key_file: Path | None = Field(None, description="TOML of master keys, mode 0600; default in state_dir.")
    master_keys: SecretStr | None = Field(None, description="id:base64,id:base64 instead of the file, active first.")
    vault_url: str = Field("", description="Vault or OpenBao, such as https://vault.vendor.example:8200.")
    vault_namespace: str = Field("", max_length=200, description="Namespace of the broker's mounts.")
    vault_ca_file: Path | None = Field(None, description="The only authority that Vault's certificate may come from.")
    vault_auth: Literal["token", "approle", "jwt", "kubernetes"] = Field("approle", description="How to sign in.")
    vault_auth_mount: str = Field("", max_length=200, description="Where that method is mounted; default its name.")
    vault_role: str = Field("", max_length=200, description="Role of jwt or kubernetes.")
    vault_jwt_file: Path | None = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"), description="The JWT to sign in with."
    )
    vault_role_id: str = Field("", max_length=200, description="Role id of approle.")
    vault_secret_id_file: Path | None = Field(None, description="File with the secret id of approle.")
    vault_token_file: Path | None = Field(None, description="Token that an agent keeps fresh, read again when refused.")
    vault_timeout: float = Field(2.0, gt=0, le=30, description="Seconds that one call of Vault may take.")
    vault_connections: int = Field(16, ge=1, le=256, description="Calls of Vault at once, per process.")
    vault_transit_mount: str = Field(
        "transit", min_length=1, max_length=200, description="Mount of the transit engine."
    )
    vault_transit_key: str = Field(
        "keybroker", pattern=r"^[A-Za-z0-9._-]{1,40}$", description="Transit key that wraps data keys; derived."
    )
    vault_kv_mount: str = Field("secret", min_length=1, max_length=200, description="Mount of KV version 2.")
    vault_kv_prefix: str = Field(
        "keybroker", pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", description="Path below which values are kept."
    )
    public_url: str = Field("http://localhost:8080", description="How customers and jobs reach the broker; no path.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    worker_port: int = Field(
        8081, ge=0, le=65535, description="Port of `broker worker`'s probes and metrics, on the same address; 0: none."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of a broker's probes and metrics, apart from its work; 0: on its own alone.",
    )
    trusted_proxies: str = Field(
        "127.0.0.1", description="Addresses and networks whose X-Forwarded-For is believed, by comma."
    )
    vendor_name: str = Field("The vendor", min_length=1, max_length=200, description="Named on customers' pages.")
    vendor_contact: str = Field("", max_length=200, description="E-mail or telephone on customers' pages.")
    vendor_logo: Path | None = Field(None, description="Logo on customers' pages: an .svg, .png or .webp file.")
    vendor_privacy: str = Field(
        "", max_length=2000, description="Privacy notice that customers' pages name: an https: or mailto: address."
    )
    texts_dir: Path | None = Field(
        None, description="Folder of more languages of customers' pages (fr.toml); single texts replace shipped ones."
    )
    providers_dir: Path | None = Field(None, description="More provider files; one with a bundled id replaces it.")
    issuers_dir: Path | None = Field(
        None, description="Files of more issuers whose tokens jobs may bring; one with a bundled id replaces it."
    )
    allow_client_secrets: bool = Field(False, description="Development only: workloads without a key pair.")
    reveal_approval: Literal["on", "off"] = Field(
        "on", description="Whether a second person approves grants to see keys, and admins; off where one works alone."
    )
    sign_in_file: Path | None = Field(
        None, description="TOML of the OpenID providers that people sign in by: Entra ID, Okta, Keycloak and others."
    )
    login_device: bool = Field(
        False,
        description="Whether `broker login --device` signs people in by a code, without a browser; phishers use that.",
    )
    audit_deadline: float = Field(2.0, gt=0, le=30, description="Seconds until an event that isn't durable is a no.")
    egress_proxy: str | None = Field(
        None, description="http://HOST:PORT that every call to an upstream goes through; it resolves the names."
    )
    http_refusals: float = Field(
        20, gt=0, le=1_000_000, description="Refusals of callers that nobody knows, per second and process; more wait."
    )
    http_connections: int = Field(2_000, ge=1, description="Connections at once, per process.")
    http_idle_seconds: float = Field(
        75,
        gt=0,
        le=86_400,
        description="Seconds that an idle connection is kept; more than proxies in front keep it.",
    )
    http_head_bytes: int = Field(65_536, ge=4_096, le=1_048_576, description="Bytes of a request's or answer's head.")
    http_request_fields: int = Field(100, ge=20, le=1_000, description="Header fields of a request.")
    http_answer_fields: int = Field(256, ge=20, le=1_000, description="Header fields of an upstream's answer.")
    proxy_calls: int = Field(1_000, ge=1, description="Proxied calls under way at once, per process.")
    proxy_share: float = Field(0.25, gt=0, le=1, description="Share of them that one workload may have.")
    proxy_seconds: float = Field(900, gt=0, le=86_400, description="Seconds that one proxied call may take.")
    proxy_idle_seconds: float = Field(120, gt=0, le=86_400, description="Seconds without a byte that end a call.")
    proxy_bytes: int = Field(5 * 1024**3, ge=1, description="Bytes that one proxied call may carry each way.")
    proxy_drain_seconds: float = Field(
        8, ge=0, le=3_600, description="Seconds that calls under way may go on once the broker is told to end."
    )
    smtp_host: str = Field("", description="Mail server that notices are handed to; empty sends no e-mail.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_security: Literal["tls", "starttls", "none"] = Field("starttls", description="none only on this machine.")
    smtp_username: str = Field("", description="Account on the mail server, where it wants one.")
    smtp_password: SecretStr | None = Field(None, description="Its password.")
    mail_from: str = Field("", max_length=200, description="Sender of notices, such as keys@vendor.example.")
    notify_emails: str = Field("", description="Operators' addresses that every notice is mailed to, by comma.")
    private_webhooks: bool = Field(False, description="Development only: webhooks to http:// and private addresses.")
    sinks: Path | None = Field(None, description="TOML of places that the record is pushed to, such as a SIEM.")
    leak_report_keys_url: str = Field(
        "", description="Public keys of partners' leak reports; GitHub's: its meta API. Empty takes no reports."
    )
    rotation_ahead_days: int = Field(
        30, ge=0, le=365, description="Days before a key is due that a new one is asked for."
    )
    review_days: int = Field(
        450,
        ge=60,
        le=3_650,
        description="Days until grants and accounts have to be reviewed again: a little less than 15 months.",
    )
    keep_leases_days: int = Field(
        400, ge=90, le=36_500, description="Days that leases are kept once they are over; then the worker deletes them."
    )
    keep_notices_days: int = Field(90, ge=30, le=36_500, description="Days that notices and deliveries are kept.")
    keep_requests_days: int = Field(
        400, ge=30, le=36_500, description="Days that closed requests for keys and ended rotations are kept."
    )
    keep_uses_days: int | None = Field(
        None, ge=30, le=36_500, description="Days that the record's events of uses are kept; unset: for ever."
    )
    keep_decisions_days: int | None = Field(
        None, ge=30, le=36_500, description="The same of leases, refusals, sign-ins and searches of the record."
    )
    keep_changes_days: int | None = Field(None, ge=30, le=36_500, description="The same of all other events.")
    otlp_endpoint: str = Field(
        "", max_length=500, description="OTLP/HTTP collector for traces, such as http://otel:4318; empty sends none."
    )
    otlp_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces kept, of those that no known caller began.")
    witnesses_file: Path | None = Field(
        None, description="File of the witnesses that cosign the record's log, a line `URL VKEY` each."
    )
    witness_quorum: int = Field(1, ge=1, le=12, description="How many of them a checkpoint needs to count as cosigned.")
    log_ml_dsa: bool = Field(
        False, description="Whether checkpoints of the record's log are signed with ML-DSA-44 beside Ed25519."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Given values, the environment, a directory of one file for each setting, the TOML file."""
        sources = [init_settings, env_settings]
        if directory := os.environ.get("BROKER_SECRETS_DIR"):
            sources.append(SecretsSettingsSource(settings_cls, secrets_dir=directory, env_prefix=""))
        if path := os.environ.get("BROKER_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, Path(path)))
        return tuple(sources)

    @field_validator("database_url")
    @classmethod
    def _a_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        usable = address.usable(value.get_secret_value())
        if (key := address.client_key(usable)) is not None:
            try:
                closed.check(key)
            except closed.OpenToOthers as error:
                raise ValueError(f"sslkey: {error}") from None
            except OSError:  # the driver says what is wrong
                pass
        return SecretStr(usable)

    @field_validator("public_url")
    @classmethod
    def _an_origin(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in {"http", "https"} or not url.hostname or url.path.strip("/") or url.query or url.fragment:
            raise ValueError("must be an origin such as https://keys.vendor.example")
        if url.scheme == "http" and not _is_loopback(url.hostname):
            raise ValueError("must be https: customers seal their keys on a page served from it")
        return value.rstrip("/")

    @field_validator("vendor_privacy")
    @classmethod
    def _a_notice(cls, value: str) -> str:
        url = urlsplit(value or "https://none")
        if not (url.scheme == "https" and url.hostname) and not (url.scheme == "mailto" and "@" in url.path):
            raise ValueError("must be such as https://vendor.example/privacy or mailto:privacy@vendor.example")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: str) -> str:
        for one in filter(None, (one.strip() for one in value.split(","))):
            try:
                everybody = ipaddress.ip_network(one).prefixlen == 0
            except ValueError:
                everybody = one == "*"
                if not everybody:
                    raise ValueError(
                        f"{one} is neither an address (10.1.2.3) nor a network (10.1.2.0/24); put there what the "
                        "proxies in front of the broker call from, such as the ingress controller's addresses, and "
                        "nothing that jobs or other callers have"
                    ) from None
            if everybody:
                raise ValueError(
                    f"{one} is everybody, who could then say that they call from anywhere; name the proxies"
                )
        return value

    @field_validator("egress_proxy")
    @classmethod
    def _a_proxy(cls, value: str | None) -> str | None:
        url = urlsplit(value or "http://none")
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.path.strip("/"):
            raise ValueError("must be a proxy such as http://egress.vendor.example:3128, without a password in it")
        return value or None

    @field_validator("otlp_endpoint")
    @classmethod
    def _a_collector(cls, value: str) -> str:
        url = urlsplit(value or "http://none")
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.query or url.fragment:
            raise ValueError("must be an address such as http://otel:4318, without a password in it")
        return value

    @field_validator("vault_url")
    @classmethod
    def _a_vault(cls, value: str) -> str:
        url = urlsplit(value or "https://none")
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.path.strip("/"):
            raise ValueError("must be an address such as https://vault.vendor.example:8200")
        if url.scheme == "http" and not _is_loopback(url.hostname):
            raise ValueError("must be https: keys travel to and from it")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _vault_is_whole(self) -> Self:
        if self.keystore != "local" and not self.vault_url:
            raise PydanticCustomError("vault_url", "must be set where BROKER_KEYSTORE is a vault")
        needed = {
            "token": ("vault_token_file",),
            "approle": ("vault_role_id", "vault_secret_id_file"),
            "jwt": ("vault_role", "vault_jwt_file"),
            "kubernetes": ("vault_role", "vault_jwt_file"),
        }[self.vault_auth]
        for name in needed if self.vault_url else ():
            if not getattr(self, name):
                raise PydanticCustomError(name, "must be set to sign in with {auth}", {"auth": self.vault_auth})
        if self.vault_url and self.vault_ca_file is not None and not _holds_certificates(self.vault_ca_file):
            raise PydanticCustomError("vault_ca_file", "must be a readable PEM file of certificates")
        return self

    @model_validator(mode="after")
    def _mail_is_whole(self) -> Self:
        if self.smtp_host:
            try:
                usable = mailbox(sender := parseaddr(self.mail_from)[1])
            except NotAMailbox:
                raise PydanticCustomError(
                    "mail_from", "must be an address such as keys@vendor.example where smtp_host is set"
                ) from None
            if usable != sender:
                raise PydanticCustomError("mail_from", "must be written {usable}", {"usable": usable})
        try:
            self.operators_mailboxes()
        except NotAMailbox as fault:
            raise PydanticCustomError("notify_emails", "{fault}; several by comma", {"fault": str(fault)}) from None
        if self.smtp_security == "none" and self.smtp_host and not _is_loopback(self.smtp_host):
            raise PydanticCustomError("smtp_security", "must be tls or starttls, as the mail server is elsewhere")
        return self

    def operators_mailboxes(self) -> tuple[str, ...]:
        """The mailboxes that every notice is mailed to, each once; raises NotAMailbox."""
        return tuple(dict.fromkeys(mailbox(one.strip()) for one in self.notify_emails.split(",") if one.strip()))

    def database(self) -> str:
        """The database URL in force."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.state_dir.absolute()}/broker.db"

    def key_file(self) -> Path:
        """The master key file in force, if the environment holds no keys."""
        return self.master_key_file or self.state_dir / "master-keys.toml"

    def one_time_token_file(self) -> Path:
        """Where the one-time token of an admin waits to be used, if no terminal showed it."""
        return self.state_dir / "first-admin-token"


def _holds_certificates(file: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except OSError:  # ssl's own errors are of this kind too
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(**given: object) -> Settings:
    """The settings of this process.

    Raises:
        SettingsUnusable: names each wrong setting and its fix.
    """
    try:
        _look_at_environment()
        _look_at_sources()
        return Settings(**given)  # type: ignore[arg-type]  # checked by pydantic
    except ValidationError as error:
        raise SettingsUnusable("\n".join(map(_fix, error.errors()))) from None
    except (SettingsError, tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsUnusable(_unreadable(error)) from None


def _unreadable(error: Exception) -> str:
    config = os.environ.get("BROKER_CONFIG")
    if isinstance(error.__cause__, OSError):  # pydantic wraps what a mounted secret's file raised
        error = error.__cause__
    if isinstance(error, OSError):
        name = "BROKER_CONFIG" if str(error.filename) == config else "BROKER_SECRETS_DIR"
        fix = "make it readable for the user that the broker runs as"
        return f"{name}: {error.filename} can't be read ({error.strerror}); {fix}."
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"BROKER_CONFIG: {config} is not TOML: {error}."
    return f"BROKER_CONFIG ({config}) or a file in BROKER_SECRETS_DIR is not UTF-8 text; mend the file."


def _look_at_environment() -> None:
    """Refuse a variable that begins as ours do and is none, as a misspelt one of a file is."""
    ours = [name for name in sorted(os.environ) if name.upper().startswith(_PREFIX)]
    if unknown := [name for name in ours if name.upper() not in _variables()]:
        raise SettingsUnusable("\n".join(map(_no_such, unknown)))


def _variables() -> frozenset[str]:
    """What may begin as our settings do: they, where they are, and what commands read."""
    return _SOURCES | variables.OF_COMMANDS | {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}


def _no_such(name: str) -> str:
    near = difflib.get_close_matches(name.upper(), sorted(_variables()), 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    return f"{name}: there is no such setting.{meant} `broker doctor --settings` lists them."


def _look_at_sources() -> None:
    directory = os.environ.get("BROKER_SECRETS_DIR")
    if directory is not None and not Path(directory).is_dir():
        raise SettingsUnusable(f"BROKER_SECRETS_DIR: {directory} is not a directory; mount one or unset the variable.")
    path = os.environ.get("BROKER_CONFIG")
    if path is not None and not Path(path).is_file():
        raise SettingsUnusable(f"BROKER_CONFIG: {path} is not a file; write one or unset the variable.")
    if path is not None and Path(path).stat().st_mode & stat.S_IWOTH:
        raise SettingsUnusable(f"BROKER_CONFIG: everybody can write {path}; run: chmod o-w {path}")
    try:
        if path is not None and _secrets() & tomllib.loads(Path(path).read_text(encoding="utf-8")).keys():
            closed.check(Path(path))
        for file in Path(directory).iterdir() if directory is not None else ():
            if file.name.lower() in _secrets():
                closed.check(file)
    except closed.OpenToOthers as error:
        raise SettingsUnusable(str(error)) from None


def _secrets() -> frozenset[str]:
    """The settings that are secrets.

    A file without any of them may be everybody's to read.
    """
    return frozenset(name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation))


def _fix(item: ErrorDetails) -> str:
    # A check of several settings together names, as its type, the one to fix.
    field = str((*item["loc"], item["type"])[0])
    name = f"{_PREFIX}{field.upper()}"
    if item["type"] == "extra_forbidden":
        return _no_such(name)
    description = Settings.model_fields[field].description if field in Settings.model_fields else ""
    return f"{name}: {wording(item)} ({description})"
