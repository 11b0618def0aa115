"""What results hold under names: dictionaries that nobody changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")


class ReadOnly(Mapping[str, V]):
    """A mapping that cannot be changed and equals every mapping with the same items. It can be pickled and copied, which what Python has
    for this (`types.MappingProxyType`) cannot."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V] = {}) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> V:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)
