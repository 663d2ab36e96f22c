"""What pydantic finds wrong, in words for whoever wrote it: what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

_THEIRS: Final = frozenset(get_args(ErrorType))
_TIME: Final = "write a time with its zone, such as 2027-01-01T00:00:00Z"
_WHOLE: Final = "write a whole number, such as 30"
_LIST: Final = 'write a list in brackets, such as ["acme"]'
_OBJECT: Final = "write an object in braces, {…}"
_UNFORESEEN: Final = "can't be taken so; the documentation says what can"
_TRUTH: Final = "write true or false"
_BY_KIND: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "there is no such field; leave it out",
    "json_invalid": "is not JSON; send valid JSON",
    "string_type": 'write a text in quotes, such as "acme"',
    "string_unicode": "write a text in UTF-8",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "write a smaller number",
    "int_from_float": _WHOLE,
    "float_type": "write a number, such as 0.5",
    "float_parsing": "write a number, such as 0.5",
    "finite_number": "write a number",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "path_type": "write a path",
}
_BY_BOUND: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than_equal": lambda bound: f"write {bound['ge']:,} or more",
    "greater_than": lambda bound: f"write more than {bound['gt']:,}",
    "less_than_equal": lambda bound: f"write {bound['le']:,} or less",
    "less_than": lambda bound: f"write less than {bound['lt']:,}",
    "string_too_short": lambda bound: f"write {_characters(bound['min_length'])} or more",
    "string_too_long": lambda bound: f"write {_characters(bound['max_length'])} at most",
    "too_short": lambda bound: f"{_so_many(bound, bound['min_length'])} or more",
    "too_long": lambda bound: f"{_so_many(bound, bound['max_length'])} at most",
    **dict.fromkeys(("literal_error", "enum"), lambda bound: f"write {str(bound['expected']).replace(chr(39), '')}"),
}


def wording(item: ErrorDetails) -> str:
    """What to write instead; it repeats nothing of the input.

    Our own validators have such words already, and they stay.
    """
    kind = item["type"]
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind.startswith(("datetime_", "date_", "time_", "timezone_")):
        return _TIME
    if kind in _BY_BOUND:
        return _BY_BOUND[kind](item["ctx"])
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    return _UNFORESEEN if kind in _THEIRS else item["msg"]


def _so_many(bound: Mapping[str, Any], count: int) -> str:
    is_secret = bound["field_type"] == "Value"  # pydantic's name for a SecretStr here; the others are lists
    return f"write {_characters(count)}" if is_secret else f"name {count:,}"


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count:,} characters"
