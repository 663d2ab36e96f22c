"""A type for secrets.

They can't print, pickle, compare in variable time or end up in JSON by accident.
"""

from __future__ import annotations

import hmac
from typing import Any, NoReturn


class Secret:
    """Bytes that only :meth:`reveal` gives back.

    ``grep reveal()`` finds every place where a secret comes out.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        # A codec's error would carry the value it failed on.
        try:
            self._value = value.encode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError:
            raise ValueError("a secret text holds a lone surrogate") from None

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def reveal_text(self) -> str:
        """The secret itself, as text.

        Raises:
            ValueError: it is not UTF-8; the error doesn't hold it.
        """
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            raise ValueError("a secret is not text") from None

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> NoReturn:
        raise TypeError("a Secret is not hashable: use a keyed fingerprint")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialisable")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self
