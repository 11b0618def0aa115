"""Workload functions that are being traced: one at the top, and those called inside of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Call:
    """A call of a workload function under trace."""

    function: Any  # the Python function that the user wrote
    label: str
    arguments: dict[str, Any]  # by name, those in tuples, lists and dicts too
    runs: object  # what is run: the user's function, or one that a transformation made of it
    depth: int  # regions open when it began
    owned: list[Any] = field(default_factory=list[Any])  # what `empty` gave to it, itself or through calls

    def owns(self, x: object) -> bool:
        """Whether `empty` made exactly this."""
        return any(o is x for o in self.owned)
