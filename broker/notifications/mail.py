"""Tell by e-mail: plain text, from one address, over SMTP (RFC 5321)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal, NoReturn

import aiosmtplib

from broker.base.mailbox import NotAMailbox, mailbox
from broker.base.secret import Secret
from broker.notifications.tables import NoticeRow
from broker.notifications.webhooks import words_of
from broker.notifications.words import filled, seen

_TIMEOUT_S = 20


class Rejected(Exception):
    """It will never be taken.

    ``status`` is the mail server's reply code, None if it wasn't asked.
    """

    def __init__(self, status: int | None, why: str = "rejected") -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Deferred(Exception):
    """The mail server said "later", or nothing."""


@dataclass(frozen=True, slots=True)
class Mail:
    """Where mail is handed over, and who it is from.

    ``security`` is TLS from the start, STARTTLS, or none.  ``titles`` are what providers are called, by their ids.
    """

    host: str
    port: int
    security: Literal["tls", "starttls", "none"]
    username: str
    password: Secret | None
    sender: str
    vendor: str
    vendor_contact: str
    operators: tuple[str, ...]
    titles: Mapping[str, str]

    async def send(self, notice: NoticeRow, to: str, audience: str) -> None:
        """Hand one message over.

        Raises:
            Rejected: it will never be taken. Deferred: try again later.
        """
        try:
            recipient = mailbox(to)
        except NotAMailbox:  # stored before addresses were checked: other software might read several in it
            raise Rejected(None, "not_a_mailbox") from None
        try:
            await aiosmtplib.send(
                self.message(notice, recipient, audience),
                recipients=[recipient],
                hostname=self.host,
                port=self.port,
                use_tls=self.security == "tls",
                start_tls=self.security == "starttls",
                username=self.username or None,
                password=self.password.reveal_text() if self.password else None,
                timeout=_TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as refused:
            _judge(refused.recipients[0].code)
        except aiosmtplib.SMTPDataError as refused:
            _judge(refused.code)
        except aiosmtplib.SMTPResponseException as refused:
            # About the sign-in, the sender or the connection: once that is fixed, the message is as good as it was.
            raise Deferred(str(refused.code)) from None
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Deferred(type(error).__name__) from None

    def message(self, notice: NoticeRow, to: str, audience: str) -> EmailMessage:
        """What is sent.  A repeat has the same Message-ID, so mail programs can tell."""
        words = words_of(notice)
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = to
        message["Date"] = format_datetime(datetime.fromtimestamp(notice.created_at // 1000, UTC))
        message["Message-ID"] = f"<{notice.id}.{audience}@{self.sender.rpartition('@')[2].rstrip('>')}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        message["Subject"] = ("[URGENT] " if words.severity == "urgent" else "") + words.title
        if audience == "customer":
            contact = f"Questions? {self.vendor}: {self.vendor_contact}\n" if self.vendor_contact else ""
            about = f"This is about your key for {self.titles.get(notice.provider, notice.provider)}{_label(notice)}."
            message.set_content(f"{filled(words.customer, notice.facts)}\n\n{about}\n\n{contact}{self.vendor}\n")
        else:
            concerned = {
                "Organization": notice.organization_id,
                "Provider": notice.provider,
                "Key": notice.credential_id,
                "Version": notice.version,
            }
            lines = "".join(f"{name} {value}\n" for name, value in concerned.items() if value)
            message.set_content(f"{filled(words.operator, notice.facts)}\n\n{lines}")
        return message


def _label(notice: NoticeRow) -> str:
    """Which of several keys it is, if the customer has several."""
    label = seen(notice.facts).get("label", "default")
    return "" if label == "default" else f" ({label})"


def _judge(code: int) -> NoReturn:
    """What a reply about this recipient or message means.

    Permanent refusals begin with 5 (RFC 5321 §4.2.1).
    """
    if 500 <= code < 600:
        raise Rejected(code) from None
    raise Deferred(str(code)) from None
