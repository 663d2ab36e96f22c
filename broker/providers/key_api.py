"""How a provider's own API makes and deletes keys, so that no people are needed.  Pure.

Every call is made with the key in force.  A new key is made under a name of its own.  So if the answer was lost, the
key is found again by that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from broker.providers.answers import ids_at, keepable, objects_at, value_at
from broker.providers.schema import Fault, Flag, Part, Path, Statuses, form

NAME = "{name}"
ID = "{id}"
_NEXT_MAX = 2_000

Member = Annotated[str, form(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", 'is not a path to a member; write for example "key.id"')]
Items = Annotated[str, form(r"[A-Za-z_.]{0,99}\[\]", 'is not a path to a list; write for example "[]" or "result[]"')]
Parameter = Annotated[
    str, form(r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,49}", 'is not the name of a parameter; write for example "cursor"')
]
IdPath = Annotated[str, form(r"(?:/[A-Za-z0-9._~{}-]*)+", 'write a path with {id} in it, for example "/api-keys/{id}"')]


class Made(NamedTuple):
    """A key that the upstream made: its text, and the upstream's id of it.

    The id is empty if it can't be kept.
    """

    key: str
    id: str


class Create(Part):
    """Makes a key.

    ``body`` is sent as JSON, with ``{name}`` in it filled in.  ``key`` and ``id`` lead into the answer.
    """

    method: Literal["POST", "PUT"] = "POST"
    path: Path
    body: dict[str, str | list[str]]
    good: Statuses = (200, 201)
    key: Member = "key"
    id: Member = "id"

    def faults(self) -> Iterator[Fault]:
        if NAME not in self.body.values():
            yield Fault("body", 'names the key nowhere; write for example body = { name = "{name}" }')

    def filled(self, name: str) -> dict[str, Any]:
        """The body for a key of that name."""
        return {field: name if value == NAME else value for field, value in self.body.items()}

    def read(self, body: bytes) -> Made | None:
        """The key in an answer; None if there is none."""
        key, id_ = ids_at(body, self.key, longest=4_096), ids_at(body, self.id)
        return Made(key[0], keepable(id_[0])) if key and id_ else None


class Pages(Part):
    """How a list goes on.

    ``next`` leads to what names the following answer; that is sent as ``parameter``.  At the end it is absent, null,
    false or empty.
    """

    parameter: Parameter
    next: Member


class Listed(NamedTuple):
    """One answer of a list.

    It has the ids of the keys that were sought, and the path of the next answer, "" at the end.
    """

    ids: list[str]
    following: str


class Listing(Part):
    """Lists keys: ``items`` leads to the list, ``id`` and ``name`` into each.

    ``pages`` says how it goes on; ``one_answer`` says that it never does.  One of them has to be said, so that a part
    is not taken for the whole.
    """

    path: Path
    good: Statuses = (200,)
    items: Items
    id: Member = "id"
    name: Member = "name"
    pages: Pages | None = None
    one_answer: Flag = False

    def faults(self) -> Iterator[Fault]:
        if self.one_answer == (self.pages is not None):
            yield Fault(
                "pages",
                'says not how the list goes on; write [rotate.list.pages] with parameter = "cursor" and next = "next", '
                "or one_answer = true where one answer holds every key",
            )

    def read(self, body: bytes, name: str) -> Listed | None:
        """The keys of that name in one answer; None if it is no list.

        An id is empty if it can't be kept.
        """
        items = self.items.removesuffix("[]")
        if not isinstance(value_at(body, items), list):
            return None
        ids = [
            keepable(str(item[self.id]))
            for item in objects_at(body, items)
            if item.get(self.name) == name and isinstance(item.get(self.id), (str, int))
        ]
        following = value_at(body, self.pages.next) if self.pages else None
        if self.pages is None or following in (None, False, ""):
            return Listed(ids, "")
        if isinstance(following, bool) or not isinstance(following, (str, int)) or len(str(following)) > _NEXT_MAX:
            return None
        more = urlencode({self.pages.parameter: following}, errors="replace")
        return Listed(ids, f"{self.path}{'&' if '?' in self.path else '?'}{more}")


class Delete(Part):
    """Deletes a key; to delete one that is gone already is ``good`` too."""

    method: Literal["DELETE", "POST"] = "DELETE"
    path: IdPath
    good: Statuses = (200, 204, 404)

    def faults(self) -> Iterator[Fault]:
        if self.path.count(ID) != 1:
            yield Fault("path", 'needs {id} once; write for example "/api-keys/{id}"')

    def filled(self, id_: str) -> str:
        """The path for one key; the id can't lead elsewhere."""
        return self.path.replace(ID, quote(id_, safe="")) if id_ not in {".", ".."} else ""


class Own(Part):
    """Tells what the upstream calls the key that is used.

    That is needed for a first key, which people gave.
    """

    path: Path
    good: Statuses = (200,)
    id: Member = "id"

    def read(self, body: bytes) -> str:
        """The id in an answer; empty if there is none that can be kept."""
        found = ids_at(body, self.id)
        return keepable(found[0]) if found else ""


class Rotate(Part):
    """Rotation by the provider's API."""

    create: Create
    list: Listing
    delete: Delete
    own: Own | None = None
