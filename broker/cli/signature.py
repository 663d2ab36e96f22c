"""Options that several commands share: typer reads them from a function's signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

# A name, the option (as typer reads it from an annotation), and its default.
Options = Mapping[str, tuple[Any, Any]]


def take_options(
    command: Callable[..., None], of: Callable[..., Any], *, before: Options | None = None, after: Options | None = None
) -> None:
    """Give ``command`` the options of ``of``, between those of ``before`` and ``after``.

    A parameter of ``of`` that begins with an underscore is no option: ``command`` decides on it.
    """
    hints = get_type_hints(of, include_extras=True)
    own = [
        option.replace(annotation=hints[option.name])
        for option in inspect.signature(of).parameters.values()
        if not option.name.startswith("_")
    ]
    options = [*_parameters(before or {}), *own, *_parameters(after or {})]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect looks for first
        [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    )
    command.__annotations__ = {option.name: option.annotation for option in options} | {"return": None}


def _parameters(options: Options) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in options.items()
    ]
