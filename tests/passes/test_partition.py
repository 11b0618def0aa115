"""Shares of workloads: what can be divided, what the workload of a share is, and that shares together do what the whole does."""

from textwrap import dedent

import numpy as np
import pytest

from pto_wsp import (
    DenseDyn,
    DType,
    In,
    InOut,
    Out,
    P,
    Ragged,
    Scalar,
    Tensor,
    TensorSpec,
    Workload,
    empty_like,
    item,
    kernel,
    pto,
    slot_f64,
    slot_set_f64,
    vmap,
    workload,
)
from pto_wsp.api.workload import WorkloadFunction
from pto_wsp.ir.core import Wir
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify
from pto_wsp.passes.partition import Level, levels, share, with_sizes

F32, I32 = DType.F32, DType.I32
KERNEL = """kernel k "k" (x: in f32<1x8>, y: out f32<1x8>) {
    a: f32<1x8 of x.rows x x.cols> = load x
    store y a
  }"""


def work(body: str, tensors: str = "tensor x: f32[16,8]\n  tensor y: f32[16,8]") -> str:
    return f"workload w {{\n  {tensors}\n  {KERNEL}\n{dedent(body).strip()}\n}}"


def test_loops_and_dimensions_are_divided() -> None:
    before = """
  dispatch[lane=mod(position(), lanes()), lanes=4, policy="round_robin"] {{
    parallel_for i in i: Range({n}) {{
      task k[i](x=x[i :+ 1, 0 :+ 8], y=y[i :+ 1, 0 :+ 8])
    }}
  }}
  parallel_for j in j: Tiles({n}, 2) {{
    parallel_for r in r: Range(2) {{
      task k[j, r](x=y[tile(j, 2, {n}), 0 :+ 8], y=z[tile(j, 2, {n}), 0 :+ 8])
    }}
  }}
"""
    tensors = "tensor x: f32[{n},8]\n  tensor y: f32[{n},8]\n  tensor z: f32[{n},8]"
    kernel = KERNEL.replace("1x8", "2x8")

    def text(n: int) -> str:
        whole = work(before.format(n=n), tensors.format(n=n))
        second = whole.rindex("task k[")
        return whole[:second].replace("  kernel", f"  {kernel.replace('kernel k', 'kernel k.1')}\n  kernel", 1) + whole[
            second:
        ].replace("task k[", "task k.1[")

    def step(wir: Wir) -> Wir:
        assert levels(wir) == (Level(16, 2, {"x": 0, "y": 0, "z": 0}),)
        return share(wir, levels(wir), (4,))

    verified = parse(text(16))
    verify(verified)
    assert str(step(verified)) == str(parse(text(4)))


TWO_ORDERS = """
parallel_for i in i: Range(16) {
  task k[i](x=x[i :+ 1, 0 :+ 8], y=y[i :+ 1, 0 :+ 8])
}
parallel_for j in j: Range(16) {
  task k[j](x=y[-j + 15 :+ 1, 0 :+ 8], y=x[j :+ 1, 0 :+ 8])
}
"""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("parallel_for i in i: Range(16) {\n task k[i](x=x[-i + 15 :+ 1, 0 :+ 8], y=y[i :+ 1, 0 :+ 8])\n}", "order"),
        ("parallel_for i in i: Range(8) {\n task k[i](x=x[i :+ 1, 0 :+ 8], y=y[i :+ 1, 0 :+ 8])\n}", "half of it"),
        ("task k[](x=x[0 :+ 1, 0 :+ 8], y=y[0 :+ 1, 0 :+ 8])", "no loop"),
        (TWO_ORDERS, "another order in another loop"),
        ("seq_for i in i: Range(16) {\n task k[i](x=x[i :+ 1, 0 :+ 8], y=y[0 :+ 1, 0 :+ 8])\n}", "one result"),
    ],
)
def test_what_is_no_level(body: str, why: str) -> None:
    wir = parse(work(body))
    verify(wir)
    assert levels(wir) == (), why


def test_a_number_of_an_iteration_that_is_read_is_no_level() -> None:
    @kernel
    def scaled(x: In[Tensor], s: Scalar[F32], out: Out[Tensor]):
        pto.store(out, x * s)

    @workload
    def positions(x, out):
        for i in P(8):
            scaled[i](x=x[i], s=i, out=out[i])

    wir = positions.trace((TensorSpec((8, 2, 8), F32), TensorSpec((8, 2, 8), F32)), {}).wir
    assert levels(wir) == ()


def test_slots_hand_on_values_from_iteration_to_iteration() -> None:
    @kernel
    def numbered(x: In[Tensor], s: Scalar[F32], out: Out[Tensor]):
        pto.store(out, x * s)

    @workload
    def numbers(x, out):
        for i in P.seq(8):
            slot_set_f64(0, slot_f64(0) + 1.0)
            numbered[i](x=x[i], s=slot_f64(0), out=out[i])

    wir = numbers.trace((TensorSpec((8, 2, 8), F32), TensorSpec((8, 2, 8), F32)), {}).wir
    assert levels(wir) == ()


@kernel
def doubled(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + x)


@kernel
def added(x: In[Tensor], to: InOut[Tensor]):
    pto.store(to, to + x)


@workload
def ragged(x, lengths, bias):
    out = empty_like(x)
    seq = Ragged(8, lengths, name="seq")
    for i in P(8):
        t = empty_like(x[i])
        doubled[i](x=x[i], out=t)
        added[i](x=bias, to=t)
        for j in P.seq(seq[i]):
            added[i, j](x=x[i, j : j + 1], to=t[j : j + 1])
        doubled[i](x=t, out=out[i])
    return out


@workload
def in_two_loops(x, lengths, bias):
    out = empty_like(x)
    n = DenseDyn(8, name="n")
    for i in P(n):
        doubled[i](x=x[i], out=out[i])
    for i in P(8):
        with P.when(item(lengths[i]) > 1):
            added[i](x=bias, to=out[i])
    return out


def parts_of(wir: Wir, arrays: dict[str, np.ndarray], parts: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What the shares compute, put together."""
    found = levels(wir)
    mine = share(wir, found, parts)
    verify(mine)
    out = {n: np.zeros([d.value({}) for d in wir.tensor_type(n).shape], np.float32) for n in _returned(wir)}
    for at in np.ndindex(*parts):

        def piece(n: str, a: np.ndarray, at: tuple[int, ...] = at) -> np.ndarray:
            for level, k, count in zip(found, at, parts, strict=True):
                if n in level.dims:
                    a = np.split(a, count, axis=level.dims[n])[k]
            return a

        tensors = {n: Tensor(np.ascontiguousarray(piece(n, a)), name=n) for n, a in arrays.items()}
        results = Workload(mine, tensors, {}).compile(threads=1).run().results
        for n, r in zip(_returned(wir), results if isinstance(results, tuple) else (results,), strict=True):
            piece(n, out[n])[...] = r
    return out


def _returned(wir: Wir) -> tuple[str, ...]:
    assert wir.returns is not None
    return wir.returns if isinstance(wir.returns, tuple) else (wir.returns,)


@pytest.mark.parametrize(
    ("f", "n_levels", "shares"),
    [
        (ragged, 1, [(2,), (8,), (1,)]),
        (in_two_loops, 1, [(2,)]),
        (vmap(ragged, {"x": 0, "lengths": 0}), 2, [(2, 1), (1, 4), (4, 8)]),
    ],
)
def test_shares_do_what_the_whole_does(f: WorkloadFunction, n_levels: int, shares: list[tuple[int, ...]]) -> None:
    random = np.random.default_rng(0)
    lead = (4,) * (n_levels - 1)
    arrays = {
        "x": random.random((*lead, 8, 3, 8), dtype=np.float32),
        "lengths": random.integers(0, 4, (*lead, 8)).astype(np.int32),
        "bias": random.random((3, 8), dtype=np.float32),
    }
    w = f(**arrays)
    want = w.compile(threads=1).run().results
    wir = with_sizes(w.wir, w.sizes)
    assert len(levels(wir)) == n_levels
    for parts in shares:
        (got,) = parts_of(wir, arrays, parts).values()
        np.testing.assert_array_equal(got, want)
