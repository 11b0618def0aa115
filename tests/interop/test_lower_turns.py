"""Loops in operations of JAX whose iterations are not all computed at once: those that decide how often loops inside of them run."""

from __future__ import annotations

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
