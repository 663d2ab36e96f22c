"""The composition root: settings in, a wired broker out.  The only place where parts meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache

import structlog

from broker import database, keystore_setup
from broker.audit import duties as audit_duties
from broker.audit import receipts, retention
from broker.audit.heads import Heads
from broker.audit.log import AuditLog
from broker.audit.retention import Retention
from broker.audit.signing import Signers, SignsTwice
from broker.audit.subjects import SubjectKeys, of_process
from broker.audit.timekeeping import CAUSES, REAL, Clocks, Timekeeping
from broker.base import tracing
from broker.base.clock import Timepiece
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Counts, Duty
from broker.base.election import Election
from broker.base.listen import Listener
from broker.base.outbound import Outbound
from broker.base.parent import Parent
from broker.base.secret import Secret
from broker.care import duties as care_duties
from broker.config import Settings, SettingsUnusable
from broker.credentials import duties as credentials_duties
from broker.credentials.certificates import Certificates
from broker.credentials.verification import Verification
from broker.database import open_database, prepared
from broker.identity import duties as identity_duties
from broker.identity import operators
from broker.identity.access_tokens import AccessTokens
from broker.identity.device_sign_in import DeviceSignIns
from broker.identity.dpop import spent
from broker.identity.dpop.nonces import Nonces
from broker.identity.dpop.proof import Proofs
from broker.identity.federation import duties as federation_duties
from broker.identity.federation.exchange import Federation
from broker.identity.jobs import Jobs
from broker.identity.oidc import duties as oidc_duties
from broker.identity.oidc import providers as sign_in_providers
from broker.identity.oidc.logout import Logout
from broker.identity.oidc.rechecks import Rechecks
from broker.identity.oidc.sign_in import SignIn
from broker.identity.passkeys import Passkeys
from broker.identity.signing import SigningKeys
from broker.identity.token_endpoint import TokenEndpoint
from broker.intake import duties as intake_duties
from broker.intake.proving import Links
from broker.intake.submission import Submissions
from broker.issuers import files as issuers
from broker.keystore import duties as keystore_duties
from broker.keystore import internal
from broker.keystore.census import Census
from broker.keystore.internal import INTERNAL_ROOT
from broker.keystore.keystore import Keystore, KeystoreUnavailable
from broker.keystore.vault.server import Vault
from broker.keystore_setup import Keystores
from broker.leaks.partner import PartnerKeys
from broker.leaks.reports import Reports
from broker.leases import use_days
from broker.leases.leasing import Leasing
from broker.leases.opening import Opening
from broker.leases.snapshot import SnapshotCache
from broker.notifications.mail import Mail
from broker.notifications.outbox import Outbox
from broker.parts import Parts
from broker.providers import catalog
from broker.proxy import duties as proxy_duties
from broker.proxy.authorize import Authorizer
from broker.proxy.call import Proxy
from broker.proxy.forward import Forwarder
from broker.proxy.in_flight import CallLimits, InFlightCalls
from broker.pruning import duties as pruning_duties
from broker.pruning.keeping import Keeping
from broker.reviews import duties as reviews_duties
from broker.rotations import duties as rotations_duties
from broker.rotations.requests import Rotating
from broker.siem import duties as siem_duties
from broker.siem import sinks
from broker.siem.export import Exporter
from broker.siem.sinks import Sink
from broker.web import duties as web_duties
from broker.web import logo, texts
from broker.web.metrics import Metrics
from broker.web.services import Options, Services
from broker.wire.framing import Bounds
from broker.witness import duties as witness_duties
from broker.witness import listed as witnesses
from broker.witness import starting
from broker.witness.listed import Listed
from broker.worker import Worker, parts_of_worker

_log = structlog.get_logger()
# The advisory lock of whoever does the periodic work; any number that nobody else takes.
_WORKER = 0x6B65_7962_726F_6B65


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker's parts."""

    services: Services
    worker: Worker
    outbound: Outbound
    keystores: Keystores
    heads: Heads


@asynccontextmanager
async def running(
    settings: Settings, *, clocks: Clocks = REAL, restored: bool = False, parent: Parent | None = None
) -> AsyncIterator[Broker]:
    """A wired broker, its audit writer running; closed again at the end.

    ``restored`` is True if an operator says that the database was restored from a backup: then it is not refused.
    ``parent`` writes to SQLite if this is one of several processes on it.

    Raises:
        SchemaUnusable, MasterKeysUnusable, DatabaseBehind, Unreadable: names the fix.
    """
    clock = Timepiece(clocks.system, clocks.steady)
    db = open_database(settings, parent)
    outbound = _outbound(settings)
    audit = AuditLog(db, deadline=settings.audit_deadline)
    try:
        listed = _witnesses(settings)
        if parent is not None:
            await parent.join()
        with tracing.exporting(settings.otlp_endpoint, settings.otlp_ratio):
            async with prepared(settings, db, clock) as opened:
                timekeeping = Timekeeping(db, clock, clocks)
                await timekeeping.begin()
                keystore = keystore_setup.in_force(settings, opened)
                keys = await internal.load(db, keystore, clock())
                db.subjects = SubjectKeys(keys.subjects)
                opened.stores[INTERNAL_ROOT] = keys.keystore()
                signing = SigningKeys(db, keystore, clock)
                heads = database.heads(settings, db, opened, keys)
                if not restored:
                    await _insist_on_newest(heads, db, outbound, listed)
                await signing.load()
                await _say_what_is_wrong(keystore)
                await audit.start()
                parts = Parts(db, audit, keystore, keys, catalog.load(settings.providers_dir), outbound, clock)
                services = _services(settings, parts, signing, timekeeping)
                worker = _worker(services, heads, listed, settings)
                _measure(services, worker, opened)
                broker = Broker(services, worker, outbound, opened, heads)
                async with _watched(broker):
                    yield broker
    finally:
        await audit.stop()
        await outbound.close()
        await db.close()


@asynccontextmanager
async def _watched(broker: Broker) -> AsyncIterator[None]:
    """Watch what may change under a running broker.

    At the end no call is under way any more.
    """
    services, heads = broker.services, broker.heads
    watching = asyncio.create_task(services.in_flight.watch(), name="in-flight-watch")
    comparing = asyncio.create_task(services.timekeeping.watch(), name="clock-watch")
    listening = asyncio.create_task(_listener(services).run(), name="listener")
    keeping = asyncio.create_task(heads.watch(services.parts.audit, broker.worker.election), name="heads-watch")
    try:
        yield
    finally:
        await services.in_flight.end(0)
        listening.cancel()
        heads.stop()
        # Not cancelled: a look-up that is cut short could leave its connection open.
        services.in_flight.stop()
        services.timekeeping.stop()
        await asyncio.gather(watching, comparing, listening, keeping, return_exceptions=True)
        broker.worker.election.leave()


async def _insist_on_newest(heads: Heads, db: Database, outbound: Outbound, listed: Sequence[Listed]) -> None:
    """Refuse a database that is behind what is known outside of it."""
    await heads.check()
    await starting.check(db, outbound, listed)


async def _say_what_is_wrong(keystore: Keystore) -> None:
    """Log what is wrong with a keystore that can't take new values.

    It may open what the broker began with all the same.  So people learn it now, not by a loss.
    """
    try:
        await keystore.check()
    except KeystoreUnavailable as problem:
        _log.error("keystore.not_ready", cause=problem.cause, mend=problem.public)


def _outbound(settings: Settings) -> Outbound:
    bounds = Bounds(settings.http_head_bytes, settings.http_answer_fields)
    return Outbound(egress_proxy=settings.egress_proxy, bounds=bounds)


def _services(settings: Settings, parts: Parts, signing: SigningKeys, timekeeping: Timekeeping) -> Services:
    options, clock = _options(settings), parts.clock
    verification = Verification(parts)
    snapshots = SnapshotCache(parts.db, clock)
    opening = Opening(parts, snapshots)
    leasing = Leasing(parts, snapshots, opening)
    in_flight = InFlightCalls(parts, leasing, snapshots, _limits(settings))
    rotating = Rotating(parts)
    sign_in = SignIn(parts, _sign_in_providers(settings), options.public_url, approval=options.approval)
    federation = Federation(parts, _issuers(settings), options.public_url)
    proofs = Proofs(Nonces(parts.keys.dpop_nonce, clock), clock)
    return Services(
        parts=parts,
        options=options,
        signing=signing,
        access_tokens=AccessTokens(options.public_url, signing, clock),
        proofs=proofs,
        jobs=Jobs(parts.db, clock),
        token_endpoint=_token_endpoint(parts, options, signing, federation),
        federation=federation,
        passkeys=Passkeys(parts, options.public_url, options.vendor_name),
        sign_in=sign_in,
        device_sign_ins=DeviceSignIns(parts, offered=settings.login_device),
        logout=Logout(parts, sign_in.clients),
        verification=verification,
        certificates=Certificates(parts, receipts.of_event),
        snapshots=snapshots,
        leasing=leasing,
        links=Links(parts),
        submissions=Submissions(parts, verification),
        in_flight=in_flight,
        proxy=Proxy(Authorizer(parts, leasing, snapshots, proofs), Forwarder(parts, opening), in_flight),
        rotating=rotating,
        outbox=_outbox(settings, parts),
        reports=Reports(parts, rotating, in_flight, _partner(settings, parts)),
        metrics=Metrics(),
        timekeeping=timekeeping,
        exporter=Exporter(parts.db, clock, cache(lambda epoch: parts.keys.log(epoch).name)),
        census=Census(parts.db, parts.keystore),
    )


def _token_endpoint(parts: Parts, options: Options, signing: SigningKeys, federation: Federation) -> TokenEndpoint:
    return TokenEndpoint(
        parts,
        signing,
        issuer=options.public_url,
        allow_client_secrets=options.allow_client_secrets,
        federation=federation,
    )


def _outbox(settings: Settings, parts: Parts) -> Outbox:
    mail = _mail(settings, parts.catalog)
    return Outbox(parts.db, parts.keystore, parts.outbound, mail, parts.clock, private=settings.private_webhooks)


def _options(settings: Settings) -> Options:
    return Options(
        public_url=settings.public_url,
        vendor_name=settings.vendor_name,
        vendor_contact=settings.vendor_contact,
        vendor_logo=_logo(settings),
        vendor_privacy=settings.vendor_privacy,
        texts=_texts(settings),
        rotation_ahead_days=settings.rotation_ahead_days,
        allow_client_secrets=settings.allow_client_secrets,
        approval=settings.reveal_approval == "on",
        review_days=settings.review_days,
        refusals=settings.http_refusals,
        private_webhooks=settings.private_webhooks,
        one_time_token_file=settings.one_time_token_file(),
        witness_quorum=settings.witness_quorum,
        log_ml_dsa=settings.log_ml_dsa,
    )


def _witnesses(settings: Settings) -> Sequence[Listed]:
    try:
        listed = witnesses.load(settings.witnesses_file) if settings.witnesses_file else ()
    except witnesses.ListUnusable as fault:
        raise SettingsUnusable(f"BROKER_WITNESSES_FILE: {fault}") from None
    if listed and settings.witness_quorum > len(listed):
        raise SettingsUnusable(
            f"BROKER_WITNESS_QUORUM: {settings.witness_quorum} is more than the {len(listed)} that are listed."
        )
    return listed


def _sign_in_providers(settings: Settings) -> Sequence[sign_in_providers.Provider]:
    try:
        return sign_in_providers.load(settings.sign_in_file)
    except sign_in_providers.SignInUnusable as fault:
        raise SettingsUnusable(f"BROKER_SIGN_IN_FILE: {fault}") from None


def _issuers(settings: Settings) -> issuers.Issuers:
    try:
        return issuers.load(settings.issuers_dir)
    except issuers.IssuersUnusable as fault:
        raise SettingsUnusable(f"BROKER_ISSUERS_DIR: {fault}") from None


def _logo(settings: Settings) -> logo.Logo | None:
    try:
        return logo.load(settings.vendor_logo) if settings.vendor_logo else None
    except logo.LogoUnusable as fault:
        raise SettingsUnusable(f"BROKER_VENDOR_LOGO: {fault}") from None


def _texts(settings: Settings) -> texts.Texts:
    try:
        loaded = texts.load(settings.texts_dir)
    except texts.TextsUnusable as fault:
        raise SettingsUnusable(f"BROKER_TEXTS_DIR: {fault}") from None
    for file, names in loaded.missing.items():
        _log.warning("texts.incomplete", file=file, shown_in_english=list(names))
    return loaded


def _limits(settings: Settings) -> CallLimits:
    return CallLimits(
        calls=settings.proxy_calls,
        share=settings.proxy_share,
        seconds=settings.proxy_seconds,
        idle_seconds=settings.proxy_idle_seconds,
        bytes_each_way=settings.proxy_bytes,
        drain_seconds=settings.proxy_drain_seconds,
    )


def _partner(settings: Settings, parts: Parts) -> PartnerKeys | None:
    """Whose reports of leaks are taken, if any are."""
    if not settings.leak_report_keys_url:
        return None
    return PartnerKeys(parts.outbound, parts.clock, settings.leak_report_keys_url, private=settings.private_webhooks)


def _keeping(settings: Settings) -> Keeping:
    return Keeping(settings.keep_leases_days, settings.keep_notices_days, settings.keep_requests_days)


def _retention(settings: Settings) -> Retention:
    return Retention(settings.keep_uses_days, settings.keep_decisions_days, settings.keep_changes_days)


def _sinks(settings: Settings) -> Sequence[Sink]:
    try:
        return sinks.load(settings.sinks)
    except sinks.SinksUnusable as fault:
        raise SettingsUnusable(f"BROKER_SINKS: {fault}") from None


def _worker(services: Services, heads: Heads, listed: Sequence[Listed], settings: Settings) -> Worker:
    parts = parts_of_worker(services.parts)
    verification = Verification(parts)
    submissions = Submissions(parts, verification)
    ahead_days = services.options.rotation_ahead_days
    return Worker(
        services.parts,
        parts.db,
        services.timekeeping,
        Election(parts.db, _WORKER),
        (
            *intake_duties.duties(parts, verification, submissions, Links(parts)),
            *care_duties.duties(parts, verification),
            *rotations_duties.duties(parts, verification, submissions, Rotating(parts), ahead_days=ahead_days),
            *credentials_duties.duties(parts),
            *proxy_duties.duties(parts, services.in_flight.limits),
            *keystore_duties.duties(parts.db, parts.keystore, parts.clock),
            *identity_duties.duties(parts.db, parts.clock),
            *oidc_duties.duties(parts, Rechecks(parts, services.sign_in.clients, approval=services.options.approval)),
            *federation_duties.duties(parts, services.federation),
            spent.duty(parts.db, parts.clock),
            *reviews_duties.duties(parts.db, parts.clock, settings.review_days),
            *web_duties.duties(parts.db, parts.clock),
            *audit_duties.duties(parts.db, _signers(services), heads.cover, parts.clock),
            *witness_duties.duties(parts, listed, services.options.witness_quorum),
            *siem_duties.duties(
                parts.db, parts.clock, replace(services.exporter, db=parts.db), parts.outbound, _sinks(settings)
            ),
            retention.duty(parts.db, parts.clock, _retention(settings)),
            use_days.duty(parts.db),
            *pruning_duties.duties(parts.db, parts.clock, _keeping(settings)),
        ),
        notices=Duty("work", replace(services.outbox, db=parts.db).work),
    )


def _signers(services: Services) -> Signers:
    keys, clock = services.parts.keys, services.parts.clock
    if not services.options.log_ml_dsa:
        return keys.log

    def both(epoch: int, number: int = 0) -> SignsTwice:
        return SignsTwice(keys.log(epoch, number), keys.log_ml_dsa(epoch, number), clock)

    return both


def _listener(services: Services) -> Listener:
    """What hears of other replicas' revocations, and of who was erased."""
    remembering = (services.snapshots, services.jobs, of_process(services.parts.db))

    def heard(message: str) -> None:
        for each in remembering:
            each.heard(message)

    def missed() -> None:
        for each in remembering:
            each.forget()

    return Listener(services.parts.db, "keybroker_guards", heard, missed)


def _measure(services: Services, worker: Worker, opened: Keystores) -> None:
    """Register what is shown beside requests: no tenant, no id, no path in any label."""
    metrics, audit = services.metrics, services.parts.audit
    metrics.watch("audit_waiting", "Events that wait to be recorded.", lambda: audit.depth)
    metrics.watch("calls_under_way", "Proxied calls under way.", lambda: len(services.in_flight))
    timekeeping = services.timekeeping
    metrics.count(
        "clock_off",
        "1 for the cause for which irreversible work rests.",
        ("cause",),
        lambda: {(cause,): float(cause == timekeeping.state) for cause in CAUSES},
    )
    metrics.watch("worker_holder", "1 where this process does the periodic work.", lambda: worker.election.leads)
    metrics.watch("worker_round_seconds", "Since when every duty had its turn.", lambda: worker.round_at / 1000)
    metrics.count("audit_events_total", "Events recorded in batches.", (), lambda: {(): audit.committed})
    metrics.count("audit_batches_total", "Commits of events.", (), lambda: {(): audit.batches})
    metrics.count("audit_commit_seconds_total", "Time that these commits took.", (), lambda: {(): audit.seconds})
    metrics.watch(
        "database_behind", "1 where the database was restored and is refused.", lambda: audit.closed is not None
    )
    metrics.count("audit_late_total", "Refused as not recorded in time.", (), lambda: {(): audit.late})
    _measure_log(metrics, worker)
    keys, orphans = worker.duties["count"], worker.duties["sweep_orphans"]
    metrics.count("keys", "Keys by state and health, counted by the worker.", ("state", "health"), lambda: keys.counted)
    metrics.count("sink_behind", "What a sink doesn't have yet.", ("sink", "of"), lambda: _behind(worker))
    _measure_callers(metrics, services)
    metrics.count("keystore_strays", "Values in Vault to be destroyed, 10000 at most.", (), lambda: orphans.counted)
    if opened.vault is not None:
        _measure_vault(metrics, opened.vault)


def _measure_callers(metrics: Metrics, services: Services) -> None:
    reports = services.reports
    metrics.count(
        "strangers_refused_total",
        "Refused from memory, beyond what is recorded, by what they came with.",
        ("cause",),
        lambda: _strangers(services),
    )
    metrics.count(
        "access_tokens_of_unknown_keys_total",
        "Access tokens that named a signing key which is not there.",
        (),
        lambda: {(): services.access_tokens.of_unknown_keys},
    )
    metrics.count(
        "platform_tokens_total",
        "Platforms' tokens that jobs brought, by platform and what came of them.",
        ("preset", "outcome"),
        lambda: {labels: float(count) for labels, count in services.federation.brought.items()},
    )
    metrics.count("leak_reports_refused_total", "Not signed by the partner.", (), lambda: {(): reports.refused})


def _strangers(services: Services) -> Counts:
    """What strangers came with that was refused from memory."""
    return {
        ("link",): services.links.refused,
        ("assertion",): services.token_endpoint.refused,
        ("submission",): services.submissions.refused,
        ("passkey",): services.passkeys.refused,
    }


def _measure_log(metrics: Metrics, worker: Worker) -> None:
    def counted(duty: str, what: str) -> Counts:
        return {(*labels,): value for (*labels, counts), value in worker.duties[duty].counted.items() if counts == what}

    metrics.count(
        "log_size", "Events in the newest checkpoint, by the worker.", (), lambda: counted("integrate", "size")
    )
    metrics.count(
        "log_seconds", "When the log last reached the record's end.", (), lambda: counted("integrate", "seconds")
    )
    if "ask_witnesses" not in worker.duties:
        return
    metrics.count(
        "log_witness_size", "Events that a witness cosigned.", ("witness",), lambda: counted("ask_witnesses", "size")
    )
    metrics.count("log_witness_seconds", "When it last did.", ("witness",), lambda: counted("ask_witnesses", "seconds"))


def _behind(worker: Worker) -> Counts:
    """What each sink doesn't have yet: events, and seconds since the oldest of them."""
    return {
        of: count
        for name, duty in worker.duties.items()
        if name.startswith("sink_")
        for of, count in duty.counted.items()
    }


def _measure_vault(metrics: Metrics, vault: Vault) -> None:
    metrics.count("vault_answers_total", "Calls that Vault answered.", (), lambda: {(): vault.answers})
    metrics.count(
        "vault_refusals_total",
        "Calls that it did not answer as it should, by cause.",
        ("cause",),
        lambda: {(cause,): count for cause, count in vault.refusals.items()},
    )


def _mail(settings: Settings, providers: catalog.Catalog) -> Mail | None:
    """How e-mail is sent, if a mail server is named."""
    if not settings.smtp_host:
        return None
    password = settings.smtp_password
    return Mail(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_username,
        Secret(password.get_secret_value().encode()) if password else None,
        settings.mail_from,
        settings.vendor_name,
        settings.vendor_contact,
        settings.operators_mailboxes(),
        {definition.id: definition.title for definition in providers},
    )


async def bootstrap_token(services: Services, *, replace: bool = False) -> str | None:
    """The one-time token for the first operator, while there is none and none was given out.

    With ``replace`` it is another one, also for a second person whose account nobody made.
    """
    async with services.parts.db.write(EVERY_TENANT) as session:
        return await operators.offer_bootstrap(
            session, services.parts.keys.token_hash, services.parts.clock(), replace=replace
        )


async def has_operators(services: Services) -> bool:
    """Whether anybody has an account."""
    async with services.parts.db.read(EVERY_TENANT) as session:
        return await operators.are_there(session)


async def admins(services: Services) -> int:
    """How many admins of every customer can sign in."""
    async with services.parts.db.read(EVERY_TENANT) as session:
        return await operators.admins(session, services.parts.clock())


async def awaits_bootstrap(services: Services) -> bool:
    """Whether a one-time token that was given out waits to be used."""
    async with services.parts.db.read(EVERY_TENANT) as session:
        return await operators.awaits_bootstrap(session, services.parts.clock())
