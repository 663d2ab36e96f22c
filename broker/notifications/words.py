"""What each notice says, to operators and to the customer's Organization Admin.  Pure.

A customer is notified only if it concerns them.  Operators read what to do with which command.  A customer reads plain
words and needs no knowledge of this product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from broker.base.shown import shown

Kind = Literal[
    "key_failing",
    "key_recovered",
    "key_unreachable",
    "rotation_requested",
    "rotation_held",
    "rotation_started",
    "rotation_failing",
    "rotation_completed",
    "rotation_rolled_back",
    "rotation_cancelled",
    "mint_failed",
    "key_left_upstream",
    "revocation_wanted",
    "revocation_reminder",
    "revocation_unchecked",
    "revocation_overdue",
    "revocation_confirmed",
    "key_accepted_again",
    "key_unopenable",
    "key_gone",
    "right_altered",
    "database_restored",
    "grant_waits",
    "account_waits",
    "account_ends",
    "recovery_offered",
    "trust_made",
    "token_elsewhere",
    "issuer_unreachable",
    "issuer_well",
    "reviews_due",
    "reviews_overdue",
    "key_exposed",
    "key_overdue",
    "key_too_old",
    "key_paused",
    "key_resumed",
    "key_withdrawn",
    "leak_found",
    "dead_key_found",
    "link_logged",
    "status_link_logged",
    "webhook_disabled",
    "webhook_failing",
    "log_contradicted",
    "log_unwitnessed",
    "sink_behind",
    "sink_well",
]
Severity = Literal["info", "warning", "urgent"]

# What words may be filled with; a closed set, so that no secret can slip in under a new name.
FACTS = frozenset(
    {
        "last4",
        "deadline",
        "days",
        "rotation",
        "intake",
        "exposure",
        "revoke_steps",
        "status",
        "uses",
        "webhook",
        "label",
        "place",
        "places",
        "table",
        "row",
        "rows",
        "grant",
        "account",
        "since",
        "lost",
        "witness",
        "events",
        "sink",
        "why",
        "issuer",
        "trust",
        "workload",
    }
)


@dataclass(frozen=True, slots=True)
class Words:
    """One kind of notice.  ``customer`` empty means that customers aren't notified."""

    severity: Severity
    title: str
    operator: str
    customer: str = ""


_STATUS_PAGE = (
    "Open the status page with the code (or link) that you got when you submitted the key, and submit the new one "
    "there; if you have neither, ask us for a code."
)

WORDS: Mapping[Kind, Words] = {
    "key_failing": Words(
        "urgent",
        "The upstream refuses a key",
        "The upstream refuses the key ending {last4}: it was revoked there, or has expired. Jobs are refused too. Ask "
        "the customer for a new one (`broker key rotate`). The broker keeps asking, in case it comes back.",
        "The key ending {last4} that you gave us no longer works. If you revoked it on purpose, nothing needs to be "
        "done; if not, please create a new one. " + _STATUS_PAGE,
    ),
    "key_recovered": Words(
        "info",
        "The upstream accepts a key again",
        "The upstream accepts the key ending {last4} again: jobs may use it.",
    ),
    "key_unreachable": Words(
        "warning",
        "An upstream doesn't answer",
        "The upstream could not be asked about the key ending {last4}. Of others that meet the same outage nobody is "
        "told: `broker key list --only unreachable` shows them. Jobs may go on; the broker asks again.",
    ),
    "key_unopenable": Words(
        "urgent",
        "A stored key was altered",
        "What is stored as the key ending {last4} is not what was put there: its row, or its value in Vault, was "
        "changed. Jobs are refused. Find out who did it; restore it, or ask the customer for a new key "
        "(`broker key rotate`).",
    ),
    "key_gone": Words(
        "urgent",
        "A key is gone from Vault",
        "The key ending {last4} is not in Vault any more: somebody deleted it there, or the time is over that is set "
        "there for what is kept (delete_version_after). Jobs that need it are refused, and whether the upstream still "
        "takes it can't be asked. Undelete it there, or ask the customer for a new one (`broker key rotate`).",
    ),
    "right_altered": Words(
        "urgent",
        "A right was changed outside of the broker",
        "The row {row} of {table} is not as the broker wrote it: somebody who can write the database inserted or "
        "changed it. It gives nobody anything. Find out who did it (`broker doctor --rights` lists all such rows); "
        "revoke it, and make it anew if it is wanted.",
    ),
    "database_restored": Words(
        "urgent",
        "The database was restored from a backup",
        "It is as it was at {since}; {lost} events since are lost. Jobs, trusts, grants, keys and accounts that were "
        "revoked since are in force again, and keys that were given since are unknown: look through "
        "`broker restored --list`, end what has to be ended, then run `broker restored --confirm`. Until then nobody "
        "is shown a key.",
    ),
    "grant_waits": Words(
        "warning",
        "A grant to see keys waits for a second person",
        "A job is to see a key. Look at it (`broker grant list --waiting`), then approve it (`broker grant approve "
        "{grant}`) or refuse it (`broker grant revoke {grant}`). It ends unanswered after 72 hours.",
    ),
    "account_waits": Words(
        "warning",
        "An admin's account waits for a second person",
        "Look at it (`broker operator list`), then approve it (`broker operator approve {account}`) or refuse it "
        "(`broker operator revoke {account}`). It ends unanswered after 72 hours.",
    ),
    "account_ends": Words(
        "warning",
        "An operator's token ends soon",
        "The token of {account} ends at {deadline}. `broker operator renew`, run with it, makes a new one; after that "
        "an admin has to make a new account.",
    ),
    "recovery_offered": Words(
        "urgent",
        "A one-time token for an admin was made on the server",
        "Somebody who has the database and the master key ran `broker operator recover` (or `broker migrate "
        "--new-token`): within a day, whoever holds what it printed becomes an admin. If none of you did, look at "
        "`broker operator list`, revoke what nobody knows, and find out who reaches the server.",
    ),
    "trust_made": Words(
        "warning",
        "A job can prove itself by a platform's tokens",
        "An admin trusts tokens of the issuer {issuer} to be the job {workload}. If nobody of you meant that, "
        "`broker trust revoke {trust}` ends it.",
    ),
    "token_elsewhere": Words(
        "warning",
        "A platform's token came from two addresses",
        "One token of the issuer {issuer} was used for the job {workload} from two addresses. If the job doesn't call "
        "from both, the token was copied: find out where, and `broker trust revoke {trust}` if it goes on. The record "
        "has both addresses.",
    ),
    "issuer_unreachable": Words(
        "warning",
        "An issuer of platforms' tokens doesn't answer",
        "The issuer {issuer} has given no usable answer for ten minutes. Its keys are kept for a day, so jobs go on "
        "until then; after that they get no access token. The broker's log (`issuer.unreachable`) says why.",
    ),
    "issuer_well": Words("info", "An issuer answers again", "The issuer {issuer} answers again."),
    "reviews_due": Words(
        "warning",
        "Rights have to be reviewed",
        "Within 30 days somebody has to decide whether grants or accounts are still needed. `broker review list "
        "--state due` shows which, and `broker review decide` decides.",
    ),
    "reviews_overdue": Words(
        "urgent",
        "Rights should have been reviewed",
        "Nobody has decided in time whether grants or accounts are still needed; they go on giving what they give. "
        "`broker review list --state overdue` shows which, and `broker review decide` decides.",
    ),
    "rotation_requested": Words(
        "info",
        "A new key is asked for",
        "The customer is asked for a new key. Send them the link, or make a new one: `broker key link {intake}`.",
        "It is time for a new key. The present one keeps working until the new one is in use. " + _STATUS_PAGE,
    ),
    "rotation_held": Words(
        "warning",
        "A new key waits for a decision",
        "The new key works, but nothing shows that it is of the same organization. Compare the facts "
        "(`broker rotation show {rotation}`), then `broker rotation promote` or `broker rotation cancel`.",
    ),
    "rotation_started": Words(
        "info",
        "A new key is in use",
        "The new key is in use. The old one retires once nobody holds it, at the latest at {deadline}; "
        "`broker key holders` shows who does.",
    ),
    "rotation_failing": Words(
        "urgent",
        "The upstream refuses the new key",
        "The upstream refuses the new key; calls fell back to the old one. Go back to it "
        "(`broker rotation rollback {rotation}`), or wait for the upstream to accept the new one.",
    ),
    "rotation_completed": Words(
        "info",
        "A rotation is complete",
        "The old key is out of use here. It counts as revoked once the upstream refuses it.",
    ),
    "rotation_rolled_back": Words(
        "warning",
        "A rotation was rolled back",
        "The old key is in use again, the new one is not. Ask for another with `broker key rotate`.",
        "The new key that you submitted is not used; the one before it is. You will be asked to revoke the new one.",
    ),
    "rotation_cancelled": Words(
        "info",
        "A rotation was cancelled",
        "The request for a new key was given up; the present key stays in use.",
        "A new key is no longer needed for now; the present one stays in use. If you created one already, revoke it.",
    ),
    "mint_failed": Words(
        "warning",
        "A key could not be made",
        "The upstream made no new key (it answered {status}). The old one stays in use and the broker tries again; "
        "`broker rotation show {rotation}` shows how often it has.",
    ),
    "key_left_upstream": Words(
        "urgent",
        "A key may be left upstream",
        "The broker began to make a key named keybroker-{rotation} upstream, and holds none any more with which it "
        "could find or delete it. Ask the customer to delete the key of that name, if there is one.",
        "When we renewed your key, another one named keybroker-{rotation} may have been left with the provider. We "
        "don't use it. If it is listed among your keys there, please revoke it.",
    ),
    "revocation_wanted": Words(
        "warning",
        "An old key has to be revoked upstream",
        "The key ending {last4} is out of use here; the upstream still accepts it. The customer is asked to revoke it.",
        "We no longer use your key ending {last4}. Please revoke it now, so that nobody can:\n{revoke_steps}",
    ),
    "revocation_reminder": Words(
        "warning",
        "An old key still works upstream",
        "The key ending {last4} is out of use here for {days} days; the upstream still accepts it. The customer was "
        "reminded.",
        "Your key ending {last4}, which we have not used for {days} days, still works. Please revoke it:\n"
        "{revoke_steps}",
    ),
    "revocation_unchecked": Words(
        "warning",
        "Nobody knows whether an old key still works upstream",
        "The key ending {last4} is out of use here for {days} days; the upstream could not be asked whether it still "
        "accepts it. The customer is asked to revoke it, and the broker asks the upstream again.",
        "We no longer use your key ending {last4}. We could not check whether it still works. If you have not revoked "
        "it, please do so now, so that nobody can use it:\n{revoke_steps}",
    ),
    "revocation_overdue": Words(
        "urgent",
        "An old key was never revoked upstream",
        "The key ending {last4} is out of use here for {days} days. After several reminders the upstream still accepts "
        "it, or still could not be asked. Call the customer.",
    ),
    "revocation_confirmed": Words(
        "info",
        "An old key is dead",
        "The upstream refuses the key ending {last4}: its revocation is confirmed. `broker key certificate` saves the "
        "proof. The key is kept sealed for a month, to ask again whether it stays dead, and then destroyed.",
        "Your key ending {last4} is revoked. Nothing more needs to be done. We keep it sealed for a month, only to "
        "check that it stays revoked, and then destroy it. The status page has a signed certificate of this.",
    ),
    "key_accepted_again": Words(
        "urgent",
        "A dead key works again",
        "The upstream accepts the key ending {last4}, which it had refused: what the broker certified holds no more, "
        "and `broker key certificate` saves the new statement. Nobody can use the key here. Call the customer, who is "
        "asked to revoke it again; find out why it came back.",
        "Your key ending {last4}, which was revoked, works again. We don't use it. Please revoke it now, so that "
        "nobody can:\n{revoke_steps}",
    ),
    "key_exposed": Words(
        "urgent",
        "A key was exposed",
        "The key ending {last4} was exposed. No lease or use of it is possible any more. "
        "`broker incident timeline {exposure}` exports who could have used it, and who did.",
        "Your key ending {last4} was seen where it should not be. We stopped using it at once. Please revoke it now:\n"
        "{revoke_steps}\nThen create a new one. " + _STATUS_PAGE,
    ),
    "key_overdue": Words(
        "warning",
        "A key is older than it should be",
        "The key ending {last4} is {days} days old, more than its policy wants. `broker key list --only overdue` "
        "lists such keys.",
        "Your key ending {last4} is {days} days old. Please create a new one. " + _STATUS_PAGE,
    ),
    "key_too_old": Words(
        "urgent",
        "A key is too old to be used",
        "The key ending {last4} is {days} days old, and its policy refuses keys of that age: jobs are refused until a "
        "new one is in use. `broker rotation list` shows whether the customer was asked; `broker key rotate` asks.",
        "Your key ending {last4} is {days} days old, too old to be used. Please create a new one now. " + _STATUS_PAGE,
    ),
    "key_paused": Words(
        "warning", "A customer paused a key", "The customer paused the use of their key: jobs are refused."
    ),
    "key_resumed": Words("info", "A customer resumed a key", "The customer allows the use of their key again."),
    "key_withdrawn": Words(
        "urgent",
        "A customer withdrew a key",
        "The customer withdrew their key for good: jobs are refused. Talk to them before asking for another.",
    ),
    "leak_found": Words(
        "urgent",
        "One of our keys was found outside",
        "The key ending {last4} was found where it should not be, first at {place} (places: {places}). If it is not "
        "cut off yet, do so: `broker key exposed`. `broker leak list` shows every place.",
    ),
    "dead_key_found": Words(
        "info",
        "A dead key was found outside",
        "The key ending {last4}, which the upstream refuses, was found at {place}. Nothing has to be cut off; "
        "`broker leak list` shows every place.",
    ),
    "link_logged": Words(
        "warning",
        "A one-time link was sent to servers on the way",
        "The link of request {intake} was opened with its secret in the part of the address that servers and proxies "
        "log: a mail program wrote it so. The customer can go on with it, and so could who reads those logs. Send a "
        "new one, which ends it: `broker key link {intake}`.",
    ),
    "status_link_logged": Words(
        "warning",
        "A status link was sent to servers on the way",
        "The status link of the key ending {last4} was opened with a secret in the part of the address that servers "
        "and proxies log: a mail program wrote it so. Who reads those logs could pause or withdraw the key. Send a "
        "status code, which ends it: `broker key status-link`.",
    ),
    "webhook_disabled": Words(
        "warning",
        "A webhook is switched off",
        "The receiver of the webhook {webhook} answered that it is gone (410): nothing more is posted there. Add it "
        "again with `broker webhook add` if it is still wanted.",
    ),
    "webhook_failing": Words(
        "warning",
        "A webhook takes nothing",
        "The receiver of the webhook {webhook} took nothing for a day; each notice is tried for three days. "
        "`broker webhook test {webhook}` shows what it answers, `broker notice deliveries --state dead` what was given "
        "up.",
    ),
    "log_contradicted": Words(
        "urgent",
        "A witness has another history of the log",
        "The witness {witness} has something else of the record's log, at {events} events. No checkpoint is signed any "
        "more. If the database was restored from a backup, or another copy of it runs, end every broker and run "
        "`broker restored --since TIME`: the log goes on under a new name. If neither is so, the record was altered: "
        "find out who did it. A witness that is wrong is taken out of BROKER_WITNESSES_FILE.",
    ),
    "log_unwitnessed": Words(
        "warning",
        "Too few witnesses cosign the log",
        "Since {since} too few witnesses have cosigned what the log became. Everything else goes on. The metric "
        "keybroker_log_witness_seconds and the worker's log (`witness.silent`) say which ones don't answer. Tell who "
        "runs them.",
    ),
    "sink_behind": Words(
        "warning",
        "A sink takes no events",
        "The sink {sink} has taken nothing of the record for an hour: {why}. Nothing is lost: it gets everything once "
        "it takes it again. Until then no month is archived. Look at the receiver, and at the file that BROKER_SINKS "
        "names.",
    ),
    "sink_well": Words("info", "A sink takes events again", "The sink {sink} takes the record again, and catches up."),
}

URGENT = frozenset(kind for kind, words in WORDS.items() if words.severity == "urgent")

assert set(WORDS) == set(get_args(Kind))


def filled(text: str, facts: Mapping[str, str | int]) -> str:
    """``text`` with its facts in; a fact that is not known shows as a dash."""
    return text.format_map(dict.fromkeys(FACTS, "–") | seen(facts))


def seen(facts: Mapping[str, str | int]) -> dict[str, str | int]:
    """The facts as a reader may see them: some are other people's text."""
    return {name: _seen(name, fact) if isinstance(fact, str) else fact for name, fact in facts.items()}


def _seen(name: str, fact: str) -> str:
    # Steps are a provider file's own lines; a line break in anything else would pass for a line of ours.
    return "\n".join(map(shown, fact.split("\n"))) if name == "revoke_steps" else shown(fact)


def check(facts: Mapping[str, str | int]) -> None:
    """Refuse what no notice may hold; raises ValueError."""
    if unknown := sorted(set(facts) - FACTS):
        raise ValueError(f"{unknown[0]!r} is no fact that a notice may hold")
