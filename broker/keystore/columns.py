"""Columns of sealed bytes: each declares itself where its row is.

So none is left with an old master key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute, MappedColumn, mapped_column

from broker.base.db import Table
from broker.formats.envelope import Binding

_INFO = "sealed"


@dataclass(frozen=True, slots=True)
class _Declared:
    binding: Callable[[Any], Binding]
    own: bool


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed bytes, the row's key, and where the column's values belong.

    ``own`` says that master keys don't touch them.
    """

    table: type[Table]
    sealed: InstrumentedAttribute[Any]
    key: tuple[InstrumentedAttribute[Any], ...]
    binding: Callable[[Any], Binding]
    own: bool

    @property
    def purpose(self) -> str:
        """What its values are for, which is the same of every row."""
        return self.binding(self.table()).purpose


def sealed_column(binding: Callable[[Any], Binding], *, own: bool = False) -> MappedColumn[Any]:
    """Declare a column of sealed bytes.

    Args:
        binding: where a row's value belongs.
        own: the value is sealed under the internal root (:meth:`~broker.keystore.internal.InternalKeys.keystore`).
    """
    return mapped_column(info={_INFO: _Declared(binding, own)})


def sealed_columns() -> Iterator[SealedColumn]:
    """Every declared column of the tables that were imported, in the order of their names."""
    for mapper in sorted(Table.registry.mappers, key=lambda mapper: mapper.local_table.description):
        key = tuple(mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key)
        for column in mapper.columns:
            declared = column.info.get(_INFO)
            if isinstance(declared, _Declared):
                sealed = mapper.get_property_by_column(column).class_attribute
                yield SealedColumn(mapper.class_, sealed, key, declared.binding, declared.own)


def under_master_keys() -> list[SealedColumn]:
    """The columns that master keys hold; what is under the internal root moves with it."""
    return [column for column in sealed_columns() if not column.own]
