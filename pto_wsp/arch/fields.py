"""Reading JSON objects field by field, with errors that name the place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, cast

from pto_wsp.errors import CompileError, here

LARGEST = 2**40
"""The largest number of an arch file: every cost of a tile stays far inside 64 bits."""

T = TypeVar("T")


def fail(source: str, where: str, what: str, fix: str) -> NoReturn:
    raise CompileError("PTO402", f"arch {source}: {where} {what}", loc=here(), fix=fix)


class Fields:
    """An object of the file: fields are taken one by one, and `close` refuses what is left over."""

    def __init__(self, value: Any, source: str, where: str) -> None:
        self._source, self._where = source, where
        if not isinstance(value, dict):
            self.fail("", "is not an object", "write the fields in { }")
        self._fields = cast(dict[str, Any], value).copy()

    def fail(self, field: str, what: str, fix: str) -> NoReturn:
        fail(self._source, f"{self._where}.{field}" if field else self._where, what, fix)

    def take(self, field: str) -> Any:
        if field not in self._fields:
            self.fail(field, "is missing", "add the field")
        return self._fields.pop(field)

    def has(self, field: str) -> bool:
        return field in self._fields

    def left(self) -> list[str]:
        """The fields not taken yet."""
        return list(self._fields)

    def text(self, field: str) -> str:
        value = self.take(field)
        if not isinstance(value, str) or not value.strip():
            self.fail(field, "is not a text", "write a string that is not empty")
        return value

    def integer(self, field: str, least: int, most: int = LARGEST) -> int:
        value = self.take(field)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.fail(field, f"is not an integer from {least} to {most}", "write such a number")
        return value

    def number(self, field: str, *, positive: bool = False) -> Fraction:
        value = self.take(field)
        ok = isinstance(value, (int, Fraction)) and not isinstance(value, bool) and 0 <= value <= LARGEST
        if not ok or (positive and not value):
            self.fail(field, f"is not a {'positive ' if positive else ''}number up to {LARGEST}", "write such a number")
        return Fraction(value)

    def array(self, field: str) -> list[Any]:
        value = self.take(field)
        if not isinstance(value, list):
            self.fail(field, "is not an array", "write it in [ ]")
        return cast(list[Any], value)

    def strings(self, field: str) -> tuple[str, ...]:
        value = self.array(field)
        if not all(isinstance(v, str) for v in value):
            self.fail(field, "is not an array of texts", "write strings in [ ]")
        return tuple(value)

    def object(self, field: str) -> Fields:
        return Fields(self.take(field), self._source, f"{self._where}.{field}")

    def objects(self, field: str) -> Iterator[Fields]:
        for i, value in enumerate(self.array(field)):
            yield Fields(value, self._source, f"{self._where}.{field}[{i}]")

    def table(self, field: str, entry: Callable[[str, Fields], T]) -> Mapping[str, T]:
        """The object `field`, each of whose fields is an object that `entry` reads."""
        inner = self.object(field)
        out: dict[str, T] = {}
        for key in inner.left():
            child = inner.object(key)
            out[key] = entry(key, child)
            child.close()
        return MappingProxyType(out)

    def close(self) -> None:
        for field in self._fields:
            self.fail(field, "is not a field of the schema", "remove it, or correct its name")
