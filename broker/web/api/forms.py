"""Forms that texts of requests have: a pattern for machines, and words for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from broker.formats import ids


@dataclass(frozen=True, slots=True)
class Form:
    """A form of a text, within ``Annotated``.

    Attributes:
        pattern: a regular expression, which the API's document shows.
        words: what to write, with an example; they stand after the field's name and a colon.
        longest: how many characters there may be; None if the pattern says it.
    """

    pattern: str
    words: str
    longest: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - any type
        text = core_schema.str_schema(pattern=self.pattern, max_length=self.longest)
        return core_schema.custom_error_schema(
            text, custom_error_type="form", custom_error_message=self._words_for(source)
        )

    def _words_for(self, _source: object) -> str:
        return self.words


class FormOfId(Form):
    """The form of an id; its words name the command that lists the ids of the kind."""

    def _words_for(self, source: Any) -> str:  # noqa: ANN401 - any type
        return f"{self.words}; take it from {_LISTED[source]}, where it begins with {ids.PREFIXES[source]}_"


_LISTED: Final = {
    ids.CredentialId: "`broker key list`",
    ids.IntakeId: "`broker key list`",
    ids.RotationId: "`broker rotation list`",
    ids.ExposureId: "`broker incident list`",
    ids.GrantId: "`broker grant list`",
    ids.LeaseId: "`broker lease list`",
    ids.TrustId: "`broker trust list`",
    ids.OperatorId: "`broker operator list`",
    ids.WebhookId: "`broker webhook list`",
    ids.DeliveryId: "`broker notice deliveries`",
    ids.RequestId: "an answer's X-Request-Id",
    ids.SessionId: "`broker session list`",
    ids.PasskeyId: "`broker passkey list`",
    ids.IdentityId: "`broker operator identities`",
    ids.ReviewId: "`broker review list`",
    ids.AuditEventId: "`broker audit search --json`",
}
