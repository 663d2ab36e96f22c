"""What mail programs, chats and phones make of a link's end.

That is what follows the request's id.  ``start`` and ``end`` are the halves of the ``secret``.
"""

from __future__ import annotations

_IN_THE_FRAGMENT = (
    "#{secret}",
    "#{secret}.",
    "#{secret}%3E",
    "#{secret})",
    "#{secret},",
    "#{secret};",
    "#{secret}>",
    "#{secret}%2C",
    "#{secret}%20",
    "#{secret}%0A",
    "#{start}%0A{end}",
    "#{start}%0D%0A%3E%20{end}",
    "#{start}=%0D%0A{end}",
    "#{start} {end}",
    "#{secret}?utm_source=mail&utm_medium=email",
    "#{secret}&fbclid=IwAR0_x-y",
    "?utm_source=mail#{secret}",
    "#%23{secret}",
    "#{secret}%E2%80%8B",
    "#\u200b{start}\u200b{end}\ufeff",
    "#{start}\u00ad{end}",
)
_IN_THE_ADDRESS = (
    "%23{secret}",
    "%2523{secret}",
    "%252523{secret}",
    "%23{secret}.",
    "%23{secret}%3E",
    "%23{start}%0A{end}",
    "%23{start}%E2%80%8B{end}",
    "%23{secret}?utm_source=mail",
    "%3Futm_source=mail%23{secret}&fbclid=x",
    "?%23{secret}",
)


def kept(secret: str) -> list[str]:
    """Ends whose secret no server sees."""
    return [_end(form, secret) for form in _IN_THE_FRAGMENT]


def sent(secret: str) -> list[str]:
    """Ends whose secret is sent to servers."""
    return [_end(form, secret) for form in _IN_THE_ADDRESS]


def _end(form: str, secret: str) -> str:
    return form.format(secret=secret, start=secret[:13], end=secret[13:])
