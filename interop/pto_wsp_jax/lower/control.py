"""Loops and branches over JAX values, which may stand inside of `vmap`.

Inside of a batched loop both branches are computed, and iterations that one example has and another has not: what does not count
computes on ones, so that neither it nor its derivative is infinite, and is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from pto_wsp_jax.lower import numbers
from pto_wsp_jax.lower.most import most_of_batch
from pto_wsp_jax.lower.numbers import Int

Arrays = list[Any]


def both(a: Any, b: Any) -> Any:
    """Whether both hold; None stands for what always does."""
    return b if a is None else a if b is None else jnp.logical_and(a, b)


def ones_unless(active: Any, x: Any) -> Any:
    """x where it counts, else 1."""
    return x if active is None else jnp.where(active, x, jnp.ones((), jnp.result_type(x)))


def chosen(c: Any, a: Sequence[Any], b: Sequence[Any]) -> Arrays:
    return [x if x is y else jnp.where(c, x, y) for x, y in zip(a, b, strict=True)]


def branch(
    c: Any, then: Callable[[Any], Arrays], otherwise: Callable[[Any], Arrays], active: Any, batched: bool
) -> Arrays:
    """What one of two gives, by a traced bool. Both are told when they count."""
    if not batched:
        return list(lax.cond(c, lambda: then(active), lambda: otherwise(active)))
    return chosen(c, then(both(active, c)), otherwise(both(active, ~c)))


def trips_of(first: int | Int, last: int | Int, active: Any) -> int | Int:
    n = numbers.maximum(numbers.sub(last, first), 0)
    if isinstance(n, int) or active is None:
        return n
    return Int(jnp.where(active, n.value, 0), 0, n.high)  # what does not count may say any number


def index_of(first: int | Int, t: Any, count: float) -> int | Int:
    """The index of trip t of at most so many."""
    return numbers.add(first, Int(t, 0, count - 1))


def alike(new: Sequence[Any], old: Sequence[Any]) -> Arrays:
    """What a loop gives, as it takes it."""
    return [jnp.asarray(x).astype(y.dtype).reshape(y.shape) for x, y in zip(new, old, strict=True)]


Turn = Callable[[int | Int, Arrays, Any], Arrays]
"""One iteration: of an index, what is carried, and whether it counts."""


def known_times(body: Turn, init: Arrays, first: int | Int, count: int, active: Any) -> Arrays:
    if count == 1:
        return alike(body(first, init, active), init)

    def turn(c: Arrays, t: Any) -> tuple[Arrays, None]:
        return alike(body(index_of(first, t, count), c, active), c), None

    return list(lax.scan(turn, init, jnp.arange(count))[0])


def as_long_as(
    body: Turn, init: Arrays, first: int | Int, trips: Int, most: float, active: Any, *, batched: bool
) -> Arrays:
    """As often as it is; inside of a `vmap` as often as the most of the batch, with one index for all of it: what each loads there is one slice."""

    def turn(t: Any, c: Arrays) -> Arrays:
        new = alike(body(index_of(first, t, most), c, active), c)
        return chosen(t < trips.value, new, c) if batched else new

    return list(lax.fori_loop(0, most_of_batch(trips.value) if batched else trips.value, turn, init))


def at_most(body: Turn, init: Arrays, first: int | Int, trips: Int, most: int, active: Any, *, batched: bool) -> Arrays:
    """`most` times, of which those behind `trips` do not count: what has a derivative."""

    def turn(c: Arrays, t: Any) -> tuple[Arrays, None]:
        on, i = t < trips.value, index_of(first, t, most)
        if not batched:
            return list(lax.cond(on, lambda: alike(body(i, c, active), c), lambda: c)), None
        inside = both(active, on)
        return chosen(on, alike(body(i, [ones_unless(inside, x) for x in c], inside), c), c), None

    return list(lax.scan(turn, init, jnp.arange(most))[0])


def settled(x: Any, trips: Int) -> Any:
    """x, under any `vmap` with the batched dimension in front, and batched where trips are. A function with a derivative of its own and
    what that derivative computes must agree in both: JAX takes one for the other."""
    x = jnp.where(trips.value >= 0, x, x)
    return lax.reshape(lax.reshape(x, (1, *x.shape)), x.shape)
