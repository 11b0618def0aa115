"""Checks of what simulations are given, and the errors they share."""

from __future__ import annotations

import operator

import numpy as np

from pto_wsp.errors import BindError, ScheduleError, here

END_OF_TIME = 2**62


def beyond_time() -> BindError:
    """Cycles that no clock holds."""
    return BindError(
        "PTO804",
        "the simulation goes beyond 2**62 cycles",
        loc=here(),
        fix="take a larger unit of time for all costs",
    )


def wrong_option(name: str, value: object, what: str) -> ScheduleError:
    """`what` says what the option is."""
    return ScheduleError(
        "PTO805",
        f"{name} is {what}",
        values={name: repr(value)[:80]},
        loc=here(),
        fix=f"write one, or leave {name} out",
    )


def number(name: str, value: object, least: int = 0) -> int:
    """An integer from `least` to 2**62 - 1. Raises ScheduleError."""
    n = integer(value)
    if n is None or not least <= n < END_OF_TIME:
        raise wrong_option(name, value, f"an integer from {least} to 2**62 - 1")
    return n


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of several names. Raises ScheduleError."""
    if not isinstance(value, str) or value not in choices:
        raise wrong_option(name, value, " or ".join(f'"{c}"' for c in choices))
    return value


def integer(value: object) -> int | None:
    """An integer of Python's or numpy's, not a bool."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None
