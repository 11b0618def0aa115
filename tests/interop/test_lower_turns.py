"""Loops in operations of JAX whose iterations are not all computed at once: those that decide how often loops inside of them run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from interop.workloads import added
from pto_wsp import Dense, DType, In, Out, P, Ragged, Scalar, Tensor, Tile, item, kernel, pto, workload
from pto_wsp_jax import lower_to_jax
from pto_wsp_jax.lower import turns

X = np.random.default_rng(1).standard_normal((5, 3, 9, 4), dtype=np.float32)
COUNTS = np.array([9, 4, 0, 1, 7], np.int32)
COLUMNS = np.where(np.arange(9)[:, None] < COUNTS[:, None, None, None], X, 0).sum(axis=2)


@kernel
def first_rows(x: In[Tensor[None, 4, DType.F32]], n: Scalar[DType.I32], out: Out[Tile[1, 4, DType.F32]]):
    pto.store(out, pto.fori_loop(0, n, lambda k, c: c + pto.load(x, (k, 0), (1, 4)), pto.full((1, 4), 0.0)))


@kernel
def all_rows(x: In[Tensor[None, 4, DType.F32]], out: Out[Tile[1, 4, DType.F32]]):
    pto.store(out, pto.fori_loop(0, x.shape[0], lambda k, c: c + pto.load(x, (k, 0), (1, 4)), pto.full((1, 4), 0.0)))


@workload
def by_number(x, counts, out):
    for b in P(5):
        for h in P(3):
            first_rows[b, h](x=x[b, h], n=item(counts[b]), out=out[b, h : h + 1])


@workload
def by_extent(x, counts, out):
    length = Ragged(Dense[5](name="batch"), counts, name="length")
    for b in P(5):
        for h in P(3):
            all_rows[b, h](x=x[b, h, : length[b]], out=out[b, h : h + 1])


@workload
def one_after_another(x, counts, out):
    length = Ragged(Dense[5](name="batch"), counts, name="length")
    for b in P(5):
        for h in P(3):
            for k in P.seq(length[b]):
                added[b, h, k](x=x[b, h, k : k + 1], scale=1.0, to=out[b, h : h + 1])


@workload
def equal(x, counts, out):
    for b in P(5):
        for h in P(3):
            all_rows[b, h](x=x[b, h], out=out[b, h : h + 1])


def sizes(f: Any, monkeypatch: pytest.MonkeyPatch, want: Any) -> list[int]:
    """How many iterations of b and of h are computed at once, of a workload that computes what it should."""
    seen: dict[str, int] = {}

    def at_once(body: Any, loop: str, *rest: Any) -> int:
        return seen.setdefault(loop, original(body, loop, *rest))

    original = turns.at_once
    with monkeypatch.context() as m:
        m.setattr(turns, "at_once", at_once)
        got = lower_to_jax(f)(X, COUNTS, jax.ShapeDtypeStruct((5, 3, 4), np.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    return list(seen.values())


@pytest.mark.parametrize("f", [by_number, by_extent, one_after_another])
def test_as_many_at_once_as_the_cache_holds(f: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_held", lambda *_: 1)
    for size in (1, 2):
        monkeypatch.setattr(turns, "CACHE", size)
        assert sizes(f, monkeypatch, COLUMNS) == [size, 3]


def test_what_decides_nothing_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "CACHE", 1)
    assert sizes(equal, monkeypatch, X.sum(axis=2)) == [5, 3]


def test_other_devices_compute_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "CACHE", 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sizes(by_number, monkeypatch, COLUMNS) == [5, 3]


def test_a_cache_holds_what_iterations_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tiles of four numbers for each of three h: nothing yet, what is loaded, the sum, and what the loop gives."""
    monkeypatch.setattr(turns, "CACHE", 2 * 3 * 4 * 16)
    assert sizes(by_number, monkeypatch, COLUMNS) == [2, 3]


# Regions stay where they are


@kernel
def tiles_of_rows(x: In[Tensor[None, 4, DType.F32]], out: Out[Tile[1, 4, DType.F32]]):
    def tile(k: Any, c: Any) -> Any:
        return c + pto.colsum(pto.load(x, (k * 2, 0), (2, 4)))

    pto.store(out, pto.fori_loop(0, (x.shape[0] + 1) // 2, tile, pto.full((1, 4), 0.0)))


@workload
def by_tiles(x, counts, out):
    for b in P(5):
        for h in P(3):
            tiles_of_rows[b, h](x=x[b, h, : item(counts[b])], out=out[b, h : h + 1])


@workload
def in_one_dimension(x, counts, out):
    for b in P(5):
        for h in P(3):
            tiles_of_rows[b, h](x=x[3 * b + h, : item(counts[b])], out=out[b, h : h + 1])


@workload
def backwards(x, counts, out):
    for b in P(5):
        for h in P(3):
            tiles_of_rows[b, h](x=x[b, 2 - h, : item(counts[b])], out=out[b, 2 - h : 3 - h])


def computed(jaxpr: Any) -> Iterator[Any]:
    """What equations give that hand on nothing."""
    for eqn in jaxpr.eqns:
        inside = [getattr(x, "jaxpr", x) for p in eqn.params.values() for x in (p if isinstance(p, tuple) else (p,))]
        inside = [x for x in inside if hasattr(x, "eqns")]
        for j in inside:
            yield from computed(j)
        if not inside:
            yield from (v.aval for v in eqn.outvars)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("f", [by_number, by_extent])
def test_no_part_of_what_is_only_read_is_copied(f: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_held", lambda *_: 1)
    monkeypatch.setattr(turns, "CACHE", size)
    out = jax.ShapeDtypeStruct((5, 3, 4), np.float32)
    jaxpr = jax.make_jaxpr(lambda x, n: lower_to_jax(f)(x, n, out))(X, COUNTS)
    tiles = [a.size for a in computed(jaxpr.jaxpr) if getattr(a, "shape", ())[-1:] == (4,)]
    assert max(tiles) <= 5 * 3 * 4 < X[0].size  # rows and results of all iterations; of one b, X has more


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("f", [by_tiles, in_one_dimension, backwards])
def test_tiles_of_regions_and_their_derivatives(f: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_held", lambda *_: 1)
    monkeypatch.setattr(turns, "CACHE", size)
    x = X.reshape(15, 9, 4) if f is in_one_dimension else X
    weights = np.random.default_rng(2).standard_normal((5, 3, 4), dtype=np.float32)

    def sums(x: Any) -> Any:
        return lower_to_jax(f)(x, COUNTS, jax.ShapeDtypeStruct((5, 3, 4), np.float32))

    np.testing.assert_allclose(jax.jit(sums)(x), COLUMNS, rtol=1e-5, atol=1e-6)
    got = jax.grad(lambda x: (sums(x) * weights).sum())(x)
    there = np.arange(9)[:, None] < COUNTS[:, None, None, None]
    np.testing.assert_allclose(got.reshape(X.shape), np.where(there, weights[:, :, None], 0), rtol=1e-6)
    many = jax.vmap(sums)(np.stack([x, 2 * x]))
    np.testing.assert_allclose(many, [COLUMNS, 2 * COLUMNS], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("count", "most", "want"), [(8, 3, 2), (6, 4, 3), (7, 3, 3), (5, 5, 5), (9, 1, 1), (16, 5, 4)])
def test_turns_are_alike_where_they_can_be(count: int, most: int, want: int) -> None:
    assert turns._even(count, most) == want
