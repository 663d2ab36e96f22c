"""How receivers read the names of a query's parameters.  Pure.

This is the one reading for all who judge or replace a parameter.

The URL standard has ``&`` between parameters and one round of percent-decoding.  Receivers do otherwise.  Some separate
at ``;`` as well (older Rack, CGI.pm), decode again, read ``%u005F`` (.NET), cut a name at NUL or at ``[`` (PHP, Rack,
qs), drop blanks around it, or write ``_`` for what their variables' names can't hold (PHP).  So a parameter has every
name that one of them may read.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from broker.base.errors import Invalid

_ROUNDS = 5
_SEPARATORS = re.compile("([&;]+)")
_PLAIN = re.compile("[A-Za-z0-9_]*")
# Halves of surrogate pairs are no characters.
_WIDE_ESCAPE = re.compile("%[uU]((?![dD][89a-fA-F])[0-9A-Fa-f]{4})")
_BLANKS = "".join(map(chr, range(0x21))) + "+\x7f\x85\xa0\ufeff"
_TO_UNDERSCORE = str.maketrans(dict.fromkeys(".[ +-", "_"))


class QueryRefused(Invalid):
    """A parameter's name can't be told."""

    code = "query_refused"
    title = "The query is not accepted"


class Parameter(NamedTuple):
    """One parameter.

    ``separators`` stand before it, ``text`` is its bytes as sent.  ``name`` is decoded.  ``readings`` are the names
    that a receiver may take it for, as :func:`folded` gives them.
    """

    separators: str
    text: str
    name: str
    readings: frozenset[str]


def read(query: str) -> list[Parameter]:
    """The parameters of ``query`` in its order.

    All separators and texts, put together, are ``&`` and the query.

    Args:
        query: what stands after ``?``, percent-encoded.  Time is linear in its length.

    Raises:
        QueryRefused: a name is percent-encoded over and over.
    """
    if not query:
        return []
    _, *pieces = _SEPARATORS.split("&" + query)
    known: dict[str, tuple[str, frozenset[str]]] = {}
    found = []
    for separators, text in zip(pieces[::2], pieces[1::2], strict=True):
        sent = text.partition("=")[0]
        if sent not in known:
            known[sent] = _read_name(sent)
        found.append(Parameter(separators, text, *known[sent]))
    return found


def folded(name: str) -> str:
    """``name`` as names are compared: case folded, and without blanks around it.

    Each of ``. [ space + -`` becomes ``_``.
    """
    return name.strip(_BLANKS).translate(_TO_UNDERSCORE).casefold()


def _read_name(sent: str) -> tuple[str, frozenset[str]]:
    if _PLAIN.fullmatch(sent):  # by far the most: there is one reading
        return sent, frozenset((sent.lower(),))
    name = _decoded(sent.replace("+", " "))
    return name, _readings(name)


def _decoded(name: str) -> str:
    for _ in range(_ROUNDS):
        decoded = unquote(_WIDE_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), name), errors="replace")
        if decoded == name:
            return name
        name = decoded
    raise QueryRefused("A parameter's name is percent-encoded over and over; send it encoded once.")


def _readings(name: str) -> frozenset[str]:
    name = name.strip(_BLANKS).partition("\0")[0].partition("=")[0]  # who decodes before splitting ends it there
    before, bracket, inside = name.partition("[")
    if not bracket:
        return frozenset((folded(name),))
    # "a[b" is a_b to PHP, "a[]" is a to most, "[a]" is a to qs.
    cut = before or inside.lstrip("[").partition("]")[0]
    return frozenset((folded(name), folded(cut)))
