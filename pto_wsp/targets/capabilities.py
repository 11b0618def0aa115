"""What a target declares of each schedule directive and feature there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pto_wsp.errors import InternalError
from pto_wsp.ir.declarable import DECLARABLE

STATUSES = ("enforced", "recorded", "unsupported")


def declared(status: str, family: str, names: str = "") -> dict[str, str]:
    """`{"window.STALL": status, ...}` for the names, separated by blanks, of a family; without any for the family itself."""
    return {f"{family}.{n}": status for n in names.split()} if names else {family: status}


class Capabilities(Mapping[str, str]):
    """What a target does with each directive and feature, by name; `str` of it is a table. Raises InternalError where one is left out."""

    def __init__(self, target: str, of_each: Mapping[str, str]) -> None:
        missing, unknown = DECLARABLE.keys() - of_each.keys(), of_each.keys() - DECLARABLE.keys()
        if missing or unknown or not set(of_each.values()) <= set(STATUSES):
            raise InternalError(f"{target} declares not {sorted(missing)}, but {sorted(unknown)}")
        self.target = target
        self._of_each = {name: of_each[name] for name in DECLARABLE}

    def __getitem__(self, name: str) -> str:
        return self._of_each[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of_each)

    def __len__(self) -> int:
        return len(self._of_each)

    def __str__(self) -> str:
        width = max(map(len, self))
        rows = (f"{name:<{width}}  {status:<12} {DECLARABLE[name]}" for name, status in self.items())
        return "\n".join((f"{self.target:<{width}}  does", *rows))

    def __repr__(self) -> str:
        return f"<capabilities of {self.target}: {len(self)}>"
