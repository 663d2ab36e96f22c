"""The rows of many customers, as a year of work leaves them, and as skewed as work is.

One organization has a tenth of what is done, one key of its own most of that, and one job a right to every customer's
key.  What is rare is there in small numbers: keys that fail, links that wait, deliveries that were given up, findings.
Every sealed value opens, every right is the broker's own, every event has a commitment to its bytes.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from broker.audit.batch import values_of
from broker.audit.events import BROKER, Actor, AuditTarget, Event, Outcome
from broker.audit.months import month_of
from broker.audit.subjects import Whose
from broker.audit.tables import EventRow, GuardRow, OrganizationHeadRow, OrganizationTreeRow, QuotaRow, SubjectRow
from broker.base.clock import DAY_MS, Millis
from broker.base.db import Table
from broker.base.secret import Secret
from broker.base.validity import Validity
from broker.credentials.lifecycle import Health, State
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import (
    CertificateRow,
    CredentialRow,
    EvidenceRow,
    FingerprintRow,
    KeyEvidenceRow,
    RotationRow,
    VersionRow,
    binding_of,
)
from broker.formats import ids, intake_seal, link_proof, link_secret
from broker.formats.certificate import Answered, Certificate, Ended, Moment
from broker.formats.envelope import Binding
from broker.formats.packed_core import unpack
from broker.formats.personal_part import KEY_BYTES, NOBODY, PartKey, wrap
from broker.grants.tables import GrantRow
from broker.identity.federation.tables import TrustRow, UsedTokenRow
from broker.identity.tables import AssertionRow, WorkloadRow
from broker.incidents.tables import ExposureRow
from broker.intake.lifecycle import IntakeState
from broker.intake.tables import IntakeRow, ThrottleRow, UsedChallengeRow
from broker.keystore.genuine import GivesRights, row_mac
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.leaks.tables import FindingRow
from broker.leases.listing import REVOKED
from broker.leases.tables import DayRow, LeaseRow, OrganizationDayRow, UseDayRow, UseRow
from broker.notifications.lifecycle import DeliveryState
from broker.notifications.queues import queue_of
from broker.notifications.tables import DeliveryRow, NoticeRow, QueueRow
from broker.organizations.tables import OrganizationRow
from broker.reviews.shown import ReviewState
from broker.reviews.tables import ReviewRow
from broker.web.tables import IdempotencyRow
from tests.bench.growth.load import Row

# The caller declares them, each at an upstream of its own making: keys are tried there.
PROVIDERS = ("raptor-comply", "bench-a", "bench-b")
_AT_ONCE = 20_000
# Which of many are cut off, paused, without a right (taken back, expired), or with one that waits for a second person.
_OVER_AT, _PAUSED_AT, _NO_RIGHT_AT, _WAITS_AT = 199, 250, (13, 14), 17
_HOUR_MS = 3_600_000
_INTERVAL_DAYS = 365
_UNUSED_AT = 7
_RECORD_DAYS = 90


@dataclass(frozen=True, slots=True)
class Size:
    """How many of each there are, beside what a broker begins with.

    ``waiting`` is how many keys' checks are due.
    """

    organizations: int
    credentials: int
    workloads: int
    grants_of_one_job: int
    other_grants: int
    leases: int
    uses_under_way: int
    events: int
    intakes: int
    rotations: int
    notices: int
    findings: int
    exposures: int
    short_lived: int
    waiting: int

    @classmethod
    def of(cls, organizations: int) -> Size:
        """What so many organizations have after a year."""
        share = organizations / 100_000
        counts = cls(
            organizations=organizations,
            credentials=120_000,
            workloads=2_000,
            grants_of_one_job=100_000,
            other_grants=50_000,
            leases=200_000,
            uses_under_way=500,
            events=1_000_000,
            intakes=50_000,
            rotations=5_000,
            notices=20_000,
            findings=2_000,
            exposures=500,
            short_lived=50_000,
            waiting=5_000,
        )
        scaled = {each.name: max(1, round(getattr(counts, each.name) * share)) for each in fields(cls)}
        return cls(**{**scaled, "organizations": organizations})


class _Key(NamedTuple):
    """A credential, by what others refer to."""

    id: ids.CredentialId
    place: int  # of its organization
    organization: ids.OrganizationId
    provider: str
    label: str
    rotation: RotationState | None


_REVIEWS = tuple(ReviewState)


class _Grant(NamedTuple):
    id: ids.GrantId
    job: int
    key: _Key


def _spread(states: Sequence[tuple[Any, int]]) -> list[Any]:
    """Each state as often in a hundred as it says."""
    return [state for state, times in states for _ in range(times)]


_ROTATIONS = _spread(
    [
        (RotationState.COMPLETED, 65),
        (RotationState.CANCELLED, 8),
        (RotationState.ROLLED_BACK, 2),
        (RotationState.REQUESTED, 14),
        (RotationState.VERIFYING, 2),
        (RotationState.PENDING_REVIEW, 3),
        (RotationState.GRACE, 5),
        (RotationState.FAILING, 1),
    ]
)
_OVER = {RotationState.COMPLETED, RotationState.CANCELLED, RotationState.ROLLED_BACK}
_INTAKES = _spread(
    [
        (IntakeState.ACCEPTED, 60),
        (IntakeState.OPEN, 15),
        (IntakeState.VERIFYING, 1),
        (IntakeState.PENDING_REVIEW, 2),
        (IntakeState.CANCELLED, 10),
        (IntakeState.EXPIRED, 12),
    ]
)
_DELIVERIES = _spread([(DeliveryState.SENT, 95), (DeliveryState.DEAD, 2), (DeliveryState.PENDING, 3)])
# The first of these are a job's uses, two events each; refusals are a tenth.
_KINDS = _spread(
    [
        ("use.authorized", 30),
        ("use.completed", 30),
        ("lease.issued", 12),
        ("lease.ended", 6),
        ("auth.token_issued", 6),
        ("credential.probe.authorized", 3),
        ("credential.probe.completed", 3),
        ("use.denied", 5),
        ("lease.denied", 5),
    ]
)
_RARE = ("leak.found", "lease.revoked", "operator.created", "keystore.rewrapped")
_RARE_EACH = 20_000


class Customers:
    """All rows of a database of one size, the same ones for the same size but for secrets.

    ``jwks`` are the public keys of the job that has a right to every customer's key; ``job`` is its id.  ``leases`` are
    all leases, oldest first.
    """

    def __init__(
        self, size: Size, keystore: Keystore, keys: InternalKeys, jwks: dict[str, Any], now: Millis, *, first_event: int
    ) -> None:
        self._size, self._keystore, self._keys, self._jwks = size, keystore, keys, jwks
        self._now, self._first_event = now, first_event
        self._random = random.Random(size.organizations)
        self._subjects: dict[str, bytes] = {}
        self._organizations = [self._id(ids.OrganizationId, self._day(400)) for _ in range(size.organizations)]
        self._jobs = [self._id(ids.WorkloadId, self._day(300)) for _ in range(size.workloads)]
        self._credentials = [self._key(number) for number in range(size.credentials)]
        self._grants = [self._grant(number) for number in range(size.grants_of_one_job + size.other_grants)]
        self.leases = [self._id(ids.LeaseId, self._issued(number)) for number in range(size.leases)]

    @property
    def events(self) -> int:
        """How many events there are, about."""
        return self._size.events

    @property
    def ordinary(self) -> int:
        """The place of an organization, and of its key, that has no more than others."""
        return len(self._organizations) // 2

    def credential(self, place: int) -> ids.CredentialId:
        """The key of the organization at this place."""
        return self._credentials[place].id

    def subjects(self) -> list[str]:
        """Organizations whose key of the first provider the one job may use, from the middle on."""
        return [
            self.slug(place)
            for place in range(self.ordinary, len(self._organizations))
            if self._credentials[place].provider == PROVIDERS[0]
            and self._credentials[place].rotation is None
            and not self._is_over(place)
            and self._health(place) is Health.HEALTHY
            and place % 200 != _OVER_AT
            and place % 300 != _PAUSED_AT
            and place % 50 not in _NO_RIGHT_AT
            and place % 500 != _WAITS_AT
        ]

    @property
    def job(self) -> ids.WorkloadId:
        """Who has a right to every customer's key."""
        return self._jobs[0]

    @property
    def hot(self) -> tuple[ids.OrganizationId, ids.CredentialId]:
        """The organization and the key that have a tenth of everything."""
        return self._organizations[0], self._credentials[0].id

    @staticmethod
    def slug(place: int) -> str:
        """The name of an organization; that of place 0 has a tenth of everything."""
        return f"cust-{place:06d}"

    async def pieces(self) -> AsyncIterator[tuple[type[Table], Sequence[Row]]]:
        """Everything, some thousands of rows of one table at a time."""
        for table, rows in (
            (OrganizationRow, self._organization_rows()),
            (WorkloadRow, self._workload_rows()),
            (TrustRow, self._trust_rows()),
            (CredentialRow, self._credential_rows()),
            (FingerprintRow, self._fingerprint_rows()),
            (EvidenceRow, self._evidence_rows()),
            (KeyEvidenceRow, self._key_evidence_rows()),
            (GrantRow, self._grant_rows()),
            (LeaseRow, self._lease_rows()),
            (UseRow, self._use_rows()),
            (UseDayRow, self._use_day_rows()),
            (OrganizationDayRow, self._organization_day_rows()),
            (DayRow, self._whole_day_rows()),
            (RotationRow, self._rotation_rows()),
            (NoticeRow, self._notice_rows()),
            (DeliveryRow, self._delivery_rows()),
            (QueueRow, self._queue_rows()),
            (FindingRow, self._finding_rows()),
            (CertificateRow, self._certificate_rows()),
            (ExposureRow, self._exposure_rows()),
            (ReviewRow, self._review_rows()),
            (GuardRow, self._guard_rows()),
            (QuotaRow, self._quota_rows()),
            (ThrottleRow, self._throttle_rows()),
            (UsedChallengeRow, self._challenge_rows()),
            (AssertionRow, self._assertion_rows()),
            (UsedTokenRow, self._used_token_rows()),
            (EventRow, self._event_rows()),
            (OrganizationTreeRow, self._tree_rows()),
            (OrganizationHeadRow, self._head_rows()),
            (SubjectRow, self._subject_rows()),
        ):
            piece: list[Row] = []
            for row in rows:
                piece.append(row)
                if len(piece) == _AT_ONCE:
                    yield table, piece
                    piece = []
            if piece:
                yield table, piece
        for sealed_table, sealed_rows in (
            (VersionRow, self._version_rows()),
            (IntakeRow, self._intake_rows()),
            (IdempotencyRow, self._answer_rows()),
        ):
            piece = []
            async for row in sealed_rows:
                piece.append(row)
                if len(piece) == _AT_ONCE:
                    yield sealed_table, piece
                    piece = []
            if piece:
                yield sealed_table, piece

    def _id(self, kind: Callable[[str], ids.Id], at: Millis) -> ids.Id:
        raw = bytearray(at.to_bytes(6) + self._random.randbytes(10))
        raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
        return ids.of(kind, bytes(raw))

    def _day(self, most: int) -> Millis:
        """A time within the last so many days."""
        return Millis(self._now - self._random.randrange(most * DAY_MS))

    def _issued(self, number: int) -> Millis:
        """When a lease was; those of the last hundredth may stand."""
        return Millis(self._now - (self._size.leases - number) * _RECORD_DAYS * DAY_MS // self._size.leases)

    def _mac(self, table: type[GivesRights], row: dict[str, Any]) -> dict[str, Any]:
        row["row_mac"] = row_mac(self._keys.rows, table, row)
        return row

    def _key(self, number: int) -> _Key:
        """Each organization's own; of those beyond, every other is the hot one's."""
        size, place, label = self._size, number, "default"
        if number >= size.organizations:
            label = f"site-{number:06d}"
            place = 0 if number % 2 else self._random.randrange(size.organizations)
        provider = PROVIDERS[0] if place == 0 or number % 10 < 7 else PROVIDERS[1 + number % 2]
        changed = number < size.rotations
        at = self._day(380)
        return _Key(
            self._id(ids.CredentialId, at),
            place,
            self._organizations[place],
            provider,
            label,
            (_ROTATIONS[number % 100] if number else RotationState.GRACE) if changed else None,
        )

    def _grant(self, number: int) -> _Grant:
        size = self._size
        at = self._id(ids.GrantId, self._day(300))
        if number < size.grants_of_one_job:
            return _Grant(at, 0, self._credentials[number % len(self._credentials)])
        key = self._credentials[0 if number % 10 == 0 else self._random.randrange(len(self._credentials))]
        return _Grant(at, self._random.randrange(1, size.workloads) if size.workloads > 1 else 0, key)

    def _organization_rows(self) -> Iterator[Row]:
        for place, id_ in enumerate(self._organizations):
            at = self._now - 400 * DAY_MS
            over = place % 200 == _OVER_AT
            row = {
                "id": id_,
                "slug": self.slug(place),
                "name": f"Customer {place}",
                "state": Validity.REVOKED if over else Validity.ACTIVE,
                "rotation_days": 180 if place % 500 == 7 else None,
                "created_at": at,
                "revoked_at": self._now if over else None,
            }
            yield self._mac(OrganizationRow, row)

    def _workload_rows(self) -> Iterator[Row]:
        for number, id_ in enumerate(self._jobs):
            row = {
                "id": id_,
                "name": f"job-{number:05d}",
                "jwks": self._jwks if number == 0 else {"keys": []},
                "secret_hash": None,
                "state": Validity.ACTIVE,
                "created_at": self._now - 300 * DAY_MS,
                "created_by": "bench",
                "revoked_at": None,
            }
            yield self._mac(WorkloadRow, row)

    def _trust_rows(self) -> Iterator[Row]:
        """One of each job; some were revoked."""
        for number, id_ in enumerate(self._jobs):
            at, over = Millis(self._now - 300 * DAY_MS + number), self._is_over(number)
            row: dict[str, Any] = {
                "id": self._id(ids.TrustId, at),
                "workload_id": id_,
                "issuer": "github-actions" if number % 3 else "gitlab-com",
                "claims": {"project_id": [str(number)]},
                "networks": [],
                "expires_at": None,
                "note": "",
                "state": Validity.REVOKED if over else Validity.ACTIVE,
                "created_at": at,
                "created_by": "bench",
                "revoked_at": self._now if over else None,
            }
            yield self._mac(TrustRow, row)

    def _credential_rows(self) -> Iterator[Row]:
        for number, key in enumerate(self._credentials):
            over = self._is_over(number)
            row: dict[str, Any] = {
                "id": key.id,
                "organization_id": key.organization,
                "provider": key.provider,
                "label": key.label,
                "state": Validity.REVOKED if over else Validity.ACTIVE,
                "variables": {},
                "contact": f"admin@{self.slug(key.place)}.example",
                "paused_at": self._now if number % 300 == _PAUSED_AT else None,
                "rotation_days": 90 if number % 1000 == 350 else None,
                "max_age_days": 300 if number % 1000 == 351 else None,
                "on_max_age": "warn",
                "organization_days": None,
                "provider_days": _INTERVAL_DAYS,
                "due_at": None if over else self._activated(number) + _INTERVAL_DAYS * DAY_MS,
                "used_at": None if number % 300 == _UNUSED_AT else self._now - 300 * DAY_MS,
                "created_at": self._now - 380 * DAY_MS,
                "revoked_at": self._now if over else None,
            }
            yield self._mac(CredentialRow, row)

    def _activated(self, place: int) -> int:
        """When a credential's key came into use; few are older than a year, when they have to be replaced."""
        return self._now - (place * 7919 % 367) * DAY_MS - _HOUR_MS

    def _is_over(self, number: int) -> bool:
        return number % 100 == 97 and self._credentials[number].rotation is None

    def _numbers(self) -> Iterator[tuple[int, _Key, int]]:
        """Every version: the place of its credential, the credential, its number."""
        for place, key in enumerate(self._credentials):
            yield place, key, 1
            if key.rotation not in {None, RotationState.REQUESTED, RotationState.CANCELLED}:
                yield place, key, 2

    def _text(self, key: _Key, number: int) -> str:
        digest = hashlib.sha256(f"{key.id}/{number}".encode()).hexdigest()
        return f"rc_live_{digest}"

    async def _version_rows(self) -> AsyncIterator[Row]:
        for place, key, number in self._numbers():
            text = self._text(key, number)
            secret = Secret(text.encode())
            state = self._state(place, key, number)
            used = state in {State.ACTIVE, State.RETIRING}
            activated = self._activated(place)
            checked = key.provider == PROVIDERS[0] and place % 3 == 0 and place < self._size.waiting * 5
            gone = state in {State.REVOKED, State.DESTROYED}
            binding = binding_of(key.organization, key.id, number, key.provider)
            yield {
                "credential_id": key.id,
                "organization_id": key.organization,
                "number": number,
                "provider": key.provider,
                "state": state,
                "sealed": None if state is State.DESTROYED else await self._keystore.seal(secret, binding),
                "fingerprint": self._keys.fingerprint(secret),
                "last4": text[-4:],
                "intake_id": None,
                "verdict": "active" if used else "",
                "health": self._health(place) if state is State.ACTIVE else Health.HEALTHY,
                "health_at": self._now - _HOUR_MS,
                "probes": 0,
                "next_probe_at": self._probe_at(place, state, is_due=checked),
                "staged_at": activated,
                "verified_at": None if state is State.STAGED else activated,
                "activated_at": activated if used or gone else None,
                "retired_at": self._now - DAY_MS if gone and number == 1 and key.rotation is not None else None,
                "revoked_at": self._now - DAY_MS if gone else None,
                "confirmed_at": self._now - DAY_MS if gone and place % 10 else None,
                "destroyed_at": self._now - DAY_MS if state is State.DESTROYED else None,
                "reminders": 0,
                "upstream_id": "",
                "leak_fingerprint": self._keys.leak_fingerprint(hashlib.sha256(text.encode()).hexdigest()),
            }

    def _certificate_rows(self) -> Iterator[Row]:
        """Of each key that is dead upstream, the four statements of its month; their events are nowhere."""
        at = self._now - DAY_MS
        for place, key, number in self._numbers():
            if self._state(place, key, number) is not State.REVOKED or not place % 10:
                continue
            refused = Answered(401, at, ids.new(ids.AuditEventId))
            stated = Certificate(
                statement="dead",
                serial=1,
                supersedes="",
                issued=Moment(at, ids.new(ids.AuditEventId)),
                organization=key.organization,
                credential=key.id,
                provider=key.provider,
                version=number,
                fingerprint=self._keys.fingerprint(Secret(self._text(key, number).encode())),
                commitment=bytes(48),
                ended=Ended(at, None),
                last_use="never",
                last_shown="never",
                refused=refused,
                answered=refused,
            )
            for serial in range(1, 5):
                yield {
                    "credential_id": key.id,
                    "version": number,
                    "serial": serial,
                    "organization_id": key.organization,
                    "note": self._keys.certifying.sign(stated.text()),
                }
                answered = Answered(401, at, ids.new(ids.AuditEventId))
                stated = stated.following(Moment(at, ids.new(ids.AuditEventId)), answered=answered)

    def _state(self, place: int, key: _Key, number: int) -> State:
        if self._is_over(place):
            return State.DESTROYED if place % 10 == 7 and place % 1000 else State.REVOKED
        if key.rotation in {RotationState.GRACE, RotationState.FAILING}:
            return State.RETIRING if number == 1 else State.ACTIVE
        if key.rotation is RotationState.COMPLETED:
            return State.REVOKED if number == 1 else State.ACTIVE
        if number == 1:
            return State.ACTIVE
        return {
            RotationState.VERIFYING: State.STAGED,
            RotationState.PENDING_REVIEW: State.VERIFIED,
            RotationState.ROLLED_BACK: State.REVOKED,
        }[key.rotation or RotationState.ROLLED_BACK]

    @staticmethod
    def _health(place: int) -> Health:
        rare = {11: Health.FAILING, 111: Health.UNREACHABLE, 211: Health.GONE}
        return rare.get(place % 400, Health.HEALTHY)

    def _probe_at(self, place: int, state: State, *, is_due: bool) -> Millis | None:
        if state not in {State.ACTIVE, State.STAGED, State.REVOKED}:
            return None
        if is_due:
            return Millis(self._now - place * 100 - 1)
        return Millis(self._now + _HOUR_MS * 2 + place * 79 % (20 * _HOUR_MS))

    def _fingerprint_rows(self) -> Iterator[Row]:
        for _, key, number in self._numbers():
            fingerprint = self._keys.fingerprint(Secret(self._text(key, number).encode()))
            yield {"fingerprint": fingerprint, "owner": key.organization}

    def _evidence_rows(self) -> Iterator[Row]:
        for key in self._credentials:
            yield {"provider": key.provider, "id_hash": self._hashed(key), "owner": key.organization}

    def _key_evidence_rows(self) -> Iterator[Row]:
        for _, key, number in self._numbers():
            yield {
                "credential_id": key.id,
                "organization_id": key.organization,
                "version": number,
                "id_hash": self._hashed(key),
            }

    def _hashed(self, key: _Key) -> str:
        return self._keys.evidence(key.provider, key.id)

    def _grant_rows(self) -> Iterator[Row]:
        for number, grant in enumerate(self._grants):
            over, waits = number % 50 == _NO_RIGHT_AT[0], number % 500 == _WAITS_AT
            row = {
                "id": grant.id,
                "organization_id": grant.key.organization,
                "workload_id": self._jobs[grant.job],
                "provider": grant.key.provider,
                "label": grant.key.label,
                "modes": ["reveal", "use"] if waits else ["use"],
                "max_ttl": 900,
                "purpose_required": False,
                "presets": [],
                "rules": [],
                "rate_uses": None,
                "rate_seconds": None,
                "max_uses": None,
                "implicit": True,
                "retries": True,
                "bound": None,
                "expires_at": self._now - DAY_MS if number % 50 == _NO_RIGHT_AT[1] else None,
                "state": Validity.REVOKED if over else Validity.ACTIVE,
                "created_at": self._now - 300 * DAY_MS,
                "created_by": "bench",
                "needs_approval": waits,
                "approved_by": None,
                "approved_at": None,
                "revoked_at": self._now if over else None,
            }
            yield self._mac(GrantRow, row)

    def _granted(self, number: int) -> _Grant:
        """Whose right a lease, or an event, is of: a tenth the hot key's, half the one job's."""
        if number % 10 == 0:
            return self._grants[0]
        if number % 2:
            return self._grants[number * 7 % self._size.grants_of_one_job]
        return self._grants[-1 - number * 7 % self._size.other_grants]

    def _lease_rows(self) -> Iterator[Row]:
        for number, id_ in enumerate(self.leases):
            grant, at = self._granted(number), self._issued(number)
            revoked, ended = number % 500 == 9, number % 3 == 0
            stands = number >= self._size.leases * 99 // 100
            expires = self._now + _HOUR_MS if stands else at + 900_000
            row = {
                "id": id_,
                "organization_id": grant.key.organization,
                "workload_id": self._jobs[grant.job],
                "grant_id": grant.id,
                "credential_id": grant.key.id,
                "version": 1,
                "provider": grant.key.provider,
                "label": grant.key.label,
                "mode": "reveal" if number % 20 == 5 else "use",
                "purpose": "nightly sync",
                "issued_at": at,
                "expires_at": expires,
                "until": expires,
                "ended_at": at + 60_000 if revoked or ended else None,
                "end_reason": REVOKED if revoked else "lease.ended" if ended else "",
                "via": None,
                "jkt": None,
            }
            yield self._mac(LeaseRow, row)

    def _use_rows(self) -> Iterator[Row]:
        for number in range(self._size.uses_under_way):
            place = len(self.leases) - 1 - number % len(self.leases)
            grant = self._granted(place)
            at = self._now - number - (DAY_MS if number % 10 == 0 else 0)  # some have lost their process
            yield {
                "id": self._id(ids.UseId, Millis(at)),
                "organization_id": grant.key.organization,
                "lease_id": self.leases[place],
                "credential_id": grant.key.id,
                "version": 1,
                "workload_id": self._jobs[grant.job],
                "grant_id": grant.id,
                "method": "GET",
                "authorized_at": at,
            }

    def _use_day_rows(self) -> Iterator[Row]:
        """What each lease was for, on the day of its issue; nobody has two of a key in a day."""
        today, seen = self._now // DAY_MS, set[tuple[str, str, int]]()
        for number in range(self._size.leases):
            grant, day = self._granted(number), today - number % _RECORD_DAYS
            if (where := (grant.key.id, self._jobs[grant.job], day)) in seen:
                continue
            seen.add(where)
            at = day * DAY_MS
            yield {
                "credential_id": grant.key.id,
                "version": 1,
                "workload_id": self._jobs[grant.job],
                "day": day,
                "organization_id": grant.key.organization,
                "uses": 10,
                "reveals": 0,
                "last_use": at,
                "last_reveal": 0,
                "last_lease": at,
            }

    def _organization_day_rows(self) -> Iterator[Row]:
        """What each customer's keys were used for on each day, by the same leases."""
        today, seen = self._now // DAY_MS, dict[tuple[str, int], int]()
        for number in range(self._size.leases):
            where = self._granted(number).key.organization, today - number % _RECORD_DAYS
            seen[where] = seen.get(where, 0) + 10
        for (organization, day), uses in seen.items():
            yield {"organization_id": organization, "day": day, "uses": uses, "refusals": uses // 100}

    def _whole_day_rows(self) -> Iterator[Row]:
        today, uses = self._now // DAY_MS, 10 * self._size.leases // _RECORD_DAYS
        for day in range(today - _RECORD_DAYS + 1, today + 1):
            yield {"day": day, "uses": uses, "refusals": uses // 100}

    def _rotation_rows(self) -> Iterator[Row]:
        for number, key in enumerate(self._credentials):
            state = key.rotation
            if state is None:
                continue
            opened = self._now - (number % 90) * DAY_MS - _HOUR_MS
            replaced = state in {RotationState.GRACE, RotationState.FAILING, RotationState.COMPLETED}
            yield {
                "id": self._id(ids.RotationId, Millis(opened)),
                "organization_id": key.organization,
                "credential_id": key.id,
                "provider": key.provider,
                "kind": "automatic" if number % 3 else "routine",
                "state": state,
                "reason": "",
                "requested_by": "bench",
                "intake_id": None,
                "from_version": 1,
                "to_version": None if state in {RotationState.REQUESTED, RotationState.CANCELLED} else 2,
                "seen_ids": None,
                "known_ids": None,
                "shared_ids": None,
                "grace_minutes": 1440,
                "deadline_hours": 168,
                "opened_at": opened,
                "activated_at": opened if replaced else None,
                "grace_until": self._now + (number % 48 - 12) * _HOUR_MS if replaced else None,
                "retire_by": self._now + 7 * DAY_MS if replaced else None,
                "failing_at": self._now if state is RotationState.FAILING else None,
                "tries": 0,
                "next_try_at": None,
                "ended_at": opened + DAY_MS if state in _OVER else None,
            }

    async def _intake_rows(self) -> AsyncIterator[Row]:
        private, public = intake_seal.generate()
        sealer = self._keys.keystore()
        for number in range(self._size.intakes):
            key = self._credentials[0 if number % 20 == 0 else number * 11 % len(self._credentials)]
            state = _INTAKES[number % 100]
            waits = state in {IntakeState.OPEN, IntakeState.VERIFYING}
            created = self._now - (self._size.intakes - number) * _RECORD_DAYS * DAY_MS // self._size.intakes
            row = IntakeRow(id=self._id(ids.IntakeId, Millis(created)))
            row.organization_id, row.provider = key.organization, key.provider
            link_key = Secret(link_proof.key_of(link_secret.new()))
            values = {
                "id": row.id,
                "organization_id": key.organization,
                "provider": key.provider,
                "label": key.label,
                "contact": f"admin@{self.slug(key.place)}.example",
                "purpose": "",
                "requested_by": "bench",
                "state": state,
                "proof_hash": b"",
                "link_key": await sealer.seal(link_key, row.link_binding),
                "status_key": await sealer.seal(link_key, row.status_binding) if state in _STARTED else None,
                "public_key": public,
                "private_sealed": await self._keystore.seal(Secret(private), row.binding) if waits else None,
                "rotation_id": None,
                "status_serial": 0,
                "credential_id": key.id if state in _STARTED else None,
                "version": 1 if state in _STARTED else None,
                "refusal": "",
                "created_at": created,
                "expires_at": self._now + (DAY_MS if number % 20 else -1) if waits else created + 7 * DAY_MS,
                "self_issued_at": None,
                "submitted_at": created if state in _STARTED else None,
                "settled_at": None if waits else created + _HOUR_MS,
            }
            yield self._mac(IntakeRow, values)

    def _notice_rows(self) -> Iterator[Row]:
        for number, id_ in enumerate(self._notices()):
            key = self._told(number)
            yield {
                "id": id_,
                "organization_id": key.organization,
                "kind": "key_overdue" if number % 100 == 3 else "rotation_requested",
                "credential_id": key.id,
                "version": 1,
                "provider": key.provider,
                "contact": "",
                "dedup": f"bench-{number}",
                "facts": {},
                "fanned_out_at": self._now,
                "created_at": self._now - (self._size.notices - number) * 60_000,
            }

    def _notices(self) -> list[ids.NoticeId]:
        drawn = random.Random(self._size.notices)
        first = self._now - self._size.notices * 60_000
        return [
            ids.of(ids.NoticeId, (first + number * 60_000).to_bytes(6) + b"\x70\0\x80" + drawn.randbytes(7))
            for number in range(self._size.notices)
        ]

    def _told(self, number: int) -> _Key:
        return self._credentials[0 if number % 10 == 0 else number * 13 % len(self._credentials)]

    def _delivery_rows(self) -> Iterator[Row]:
        for number, notice in enumerate(self._notices()):
            state = _DELIVERIES[number % 100]
            at = self._now - (self._size.notices - number) * 60_000
            pending = state is DeliveryState.PENDING
            yield {
                "id": self._id(ids.DeliveryId, Millis(at)),
                "organization_id": self._told(number).organization,
                "notice_id": notice,
                "channel": "email",
                "destination": _address(number),
                "queue": queue_of("email", _address(number), urgent=False),
                "audience": "operator",
                "state": state,
                "tries": 1,
                "next_try_at": self._now + DAY_MS if pending else at,
                "last_status": None,
                "last_error": "",
                "created_at": at,
                "settled_at": None if pending else at,
            }

    def _queue_rows(self) -> Iterator[Row]:
        for number in range(self._size.notices):
            yield {
                "id": queue_of("email", _address(number), urgent=False),
                "urgent": False,
                "due_at": self._now + DAY_MS,
                "rests_until": 0,
            }

    def _finding_rows(self) -> Iterator[Row]:
        for number in range(self._size.findings):
            key = self._told(number)
            at = self._day(_RECORD_DAYS)
            yield {
                "id": self._id(ids.FindingId, at),
                "organization_id": key.organization,
                "credential_id": key.id,
                "version": 1,
                "provider": key.provider,
                "location": f"repository/{number}",
                "location_hash": hashlib.sha256(str(number).encode()).hexdigest(),
                "found_by": "bench",
                "found_at": at,
            }

    def _exposure_rows(self) -> Iterator[Row]:
        for number in range(self._size.exposures):
            key = self._credentials[number]
            at = self._day(_RECORD_DAYS)
            yield {
                "id": self._id(ids.ExposureId, at),
                "organization_id": key.organization,
                "credential_id": key.id,
                "version": 1,
                "provider": key.provider,
                "found_by": "bench",
                "found_where": "",
                "note": "",
                "since": at,
                "reported_by": "bench",
                "reported_at": at,
                "rotation_id": None,
            }

    def _review_rows(self) -> Iterator[Row]:
        """One for each grant, of every state."""
        for number, grant in enumerate(self._grants):
            state = _REVIEWS[number % len(_REVIEWS)]
            planned, decided = state is ReviewState.SCHEDULED, state is ReviewState.DECIDED
            at, ahead = Millis(self._now - number % 300 * DAY_MS), 40 if planned else 10
            open_ = planned or state in {ReviewState.DUE, ReviewState.OVERDUE}
            yield {
                "id": self._id(ids.ReviewId, at),
                "organization_id": grant.key.organization,
                "subject": grant.id,
                "by_age": not planned,
                "due_at": self._now + ahead * DAY_MS if planned or state is ReviewState.DUE else at,
                "state": state,
                "created_at": at,
                "started_by": None,
                "decision": "keep" if decided else None,
                "decided_by": "bench" if decided else None,
                "closed_at": None if open_ else at,
                "event_id": None,
            }

    def _guard_rows(self) -> Iterator[Row]:
        """One for each organization, and for each lease that was ended."""
        for number, id_ in enumerate([*self._organizations, *self.leases]):
            if number < len(self._organizations) or number % 3 == 0:
                yield {"id": id_, "epoch": number + 1}

    def _tree_rows(self) -> Iterator[Row]:
        """Of each organization one event, which a head has told."""
        for id_ in self._organizations:
            yield {"organization_id": id_, "size": 1, "edge": bytes(32), "headed": 1, "headed_at": self._now}

    def _head_rows(self) -> Iterator[Row]:
        for place, id_ in enumerate(self._organizations):
            yield {
                "organization_id": id_,
                "idx": place,
                "time": self._now,
                "extent": place,
                "size": 1,
                "edge": bytes(32),
            }

    def _quota_rows(self) -> Iterator[Row]:
        for key in self._credentials:
            yield {"id": f"{key.id}/pause", "value": 0}

    def _throttle_rows(self) -> Iterator[Row]:
        for number in range(self._size.short_lived):
            yield {"key": f"{number:064x}", "window": self._now // 600_000 - number % 10, "count": 1}

    def _challenge_rows(self) -> Iterator[Row]:
        for number in range(self._size.short_lived):
            yield {"nonce": f"{number:032x}", "used_at": self._now - number % 1000}

    def _assertion_rows(self) -> Iterator[Row]:
        for number in range(self._size.short_lived):
            job = self._jobs[number % len(self._jobs)]
            yield {"workload_id": job, "jti": f"{number:032x}", "expires_at": self._now - self._aged(number)}

    def _used_token_rows(self) -> Iterator[Row]:
        for number in range(self._size.short_lived):
            at = self._now - self._aged(number)
            yield {"issuer": "github-actions", "name": f"{number:032x}", "address": "203.0.113.7", "expires_at": at}

    def _aged(self, number: int) -> int:
        """Milliseconds of up to two days, of one of those that are kept for one."""
        return 2 * DAY_MS * number // self._size.short_lived

    async def _answer_rows(self) -> AsyncIterator[Row]:
        for number in range(self._size.short_lived):
            principal = self._jobs[number % len(self._jobs)]
            hashed = f"{number:064x}"
            binding = Binding("idempotency", credential=principal, provider=hashed)
            yield {
                "principal_id": principal,
                "key": f"{number:032x}",
                "request_hash": hashed,
                "status": 201,
                "answer_sealed": await self._keystore.seal(Secret(b"{}"), binding),
                "expires_at": self._now + DAY_MS - self._aged(number),
            }

    def _event_rows(self) -> Iterator[Row]:
        for number in range(self._size.events):
            event = self._event(number)
            values = values_of(event, event.committed(), self._part_key(Whose.of(event)))
            yield {
                "idx": self._first_event + number,
                "month": month_of(self._now),
                **values._asdict(),
                "core": unpack(values.core),
            }

    def _part_key(self, whose: Whose) -> PartKey:
        actor, organization, account = (
            self._subjects.setdefault(name, os.urandom(KEY_BYTES)) if name else NOBODY for name in whose[:3]
        )
        return PartKey(actor, organization, account, whose.day)

    def _subject_rows(self) -> Iterator[Row]:
        """The keys of those whom the events are about; the broker has its own already."""
        for name, key in self._subjects.items():
            if name != BROKER.id:
                yield {"id": name, "wrapped": wrap(self._keys.subjects, name, key), "erased_at": None}

    def _event(self, number: int) -> Event:
        at = Millis(self._now - (self._size.events - number) * _RECORD_DAYS * DAY_MS // self._size.events)
        grant = self._granted(number // 100)
        kind = _KINDS[number * 37 % 100]
        if number % _RARE_EACH == _RARE_EACH // 2:
            kind = _RARE[number // _RARE_EACH % len(_RARE)]
        job = self._jobs[grant.job]
        is_use = kind.startswith("use.")
        return Event(
            id=self._id(ids.AuditEventId, at),
            kind=kind,
            time=at,
            actor=Actor("workload", job, "job", "192.0.2.7", "keybroker-client/1")
            if kind.startswith(("use.", "lease.", "auth."))
            else BROKER,
            organization=grant.key.organization,
            credential=grant.key.id,
            version=1,
            provider=grant.key.provider,
            workload=job,
            grant=grant.id,
            lease=self.leases[number * 31 % len(self.leases)] if is_use or kind.startswith("lease.") else "",
            use=self._id(ids.UseId, at) if is_use else "",
            mode="use" if is_use else "",
            decision="denied" if kind.endswith(".denied") else "allowed",
            target=AuditTarget("127.0.0.1", "GET", "/facilities/fac_0001") if kind == "use.authorized" else None,
            outcome=Outcome(200, 42, 1_000, 0, "") if kind == "use.completed" else None,
            request=self._id(ids.RequestId, at) if is_use else "",
        )


_STARTED = {IntakeState.VERIFYING, IntakeState.PENDING_REVIEW, IntakeState.ACCEPTED}


def _address(number: int) -> str:
    return f"admin@customer-{number}.example"
