"""What loops carry and branches give: values in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any


@dataclass(frozen=True)
class Tree:
    """The structure around values: `kind` is tuple, list, dict, a named tuple, None's type; or None where a value itself stands."""

    kind: type | None
    parts: tuple[Tree, ...] = ()
    keys: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.kind is None:
            return "a value"
        if self.kind is NoneType:
            return "None"
        inner = [f"{k!r}: {t}" for k, t in zip(self.keys, self.parts, strict=True)] if self.keys else self.parts
        return f"{self.kind.__name__}({', '.join(map(str, inner))})"

    def build(self, leaves: Sequence[Any]) -> Any:
        """The structure with these values."""
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        if self.kind is NoneType:
            return None
        values = [t._build(leaves) for t in self.parts]
        if self.kind is dict:
            return dict(zip(self.keys, values, strict=True))
        return self.kind(*values) if hasattr(self.kind, "_fields") else self.kind(values)


def flatten(x: Any) -> tuple[list[Any], Tree]:
    """The values in x, in order, and the structure around them; None has none."""
    if x is None:
        return [], Tree(NoneType)
    if isinstance(x, dict):
        keys, values = tuple(x), list(x.values())
    elif isinstance(x, (tuple, list)):
        keys, values = (), list(x)
    else:
        return [x], Tree(None)
    parts = [flatten(v) for v in values]
    kind = dict if isinstance(x, dict) else type(x)
    return [leaf for leaves, _ in parts for leaf in leaves], Tree(kind, tuple(t for _, t in parts), keys)
