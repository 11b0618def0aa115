"""Ragged and sparse axes, and tensors of records."""

import numpy as np

from bodies import copy, ints, same, zeros
from pto_wsp import (
    Dense,
    DenseDyn,
    DType,
    InOut,
    P,
    Ragged,
    Sparse,
    Symbol,
    Tensor,
    TensorSpec,
    Tile,
    Workload,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.ir.core import DataAxis, Role, View
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.expr import const, symbol


def test_a_ragged_loop_its_tiles_and_its_scalar() -> None:
    seq = Ragged(Dense[2](name="batch"), [5, 0])

    @workload
    def w(x, z, y):
        for b in P(seq.outer):
            for t in P.seq(seq[b].tiles(4)):
                copy(z[b, : seq[b]][t], y[b])
            for k in P.seq(seq[b]):
                copy(x[k], y[b])
            n = seq[b]
            copy(x[n + 1], y[b])

    made = w(zeros(8, 4, 4), zeros(2, 8, 4), zeros(2, 4, 4))
    same(
        made,
        """
        parallel_for b in batch: Dense(2) {
          n: i64 = item seq.lengths[b]
          seq_for t in seq: Tiles(n, 4) {
            task copy[b, t](x=z[b, tile(t, 4, n), 0 :+ 4], y=y[b, 0 :+ 4, 0 :+ 4])
          }
          seq_for k in seq: Ragged(n) {
            task copy[b, k](x=x[k, 0 :+ 4, 0 :+ 4], y=y[b, 0 :+ 4, 0 :+ 4])
          }
          task copy[b](x=x[n + 1, 0 :+ 4, 0 :+ 4], y=y[b, 0 :+ 4, 0 :+ 4])
        }
        """,
    )
    assert made.wir.axes == (DataAxis("Ragged", "seq", const(2), ("seq.lengths",)),)
    held = made.tensors["seq.lengths"]
    assert isinstance(held, Tensor)
    assert held.data.dtype == np.int64
    assert held.data.tolist() == [5, 0]


def test_lengths_of_each_kind() -> None:
    batch, n = DenseDyn(2, name="batch"), Symbol("n")
    axes = {
        "a": Ragged(batch, np.array([1, 2], np.uint8), name="a"),
        "b": Ragged(n, Symbol("of_b"), name="b"),
        "c": Ragged(2, Tensor(ints(2), name="mine"), name="c"),
        "d": Ragged(batch, TensorSpec((batch,), DType.I64, name="later"), name="d"),
    }

    @workload
    def w(x, y):
        for axis in axes.values():
            for k in P.seq(axis[0]):
                copy(x[k], y)

    made = w(zeros(8, 4, 4), zeros(4, 4))
    shapes = {v.name: str(v.type) for v in made.wir.tensors if v.name not in ("x", "y")}
    assert shapes == {"a.lengths": "i64[$batch]", "of_b": "i64[$n]", "mine": "i32[2]", "later": "i64[$batch]"}
    assert all(made.wir.tensor_type(n).role is Role.GIVEN for n in shapes)
    assert [a.outer for a in made.wir.axes] == [symbol("batch"), symbol("n"), const(2), symbol("batch")]
    assert isinstance(made.tensors["of_b"], TensorSpec)
    assert not isinstance(made.tensors["of_b"], Tensor)


def test_selection_tiles_of_it_and_gathers() -> None:
    routing = Sparse(Dense[2](name="tokens"), [0, 2, 3], [5, 1, 3], inner=Dense[8]())

    @workload
    def w(x, z, y):
        for i in P(routing.outer):
            for e in P.sel(routing[i]):
                copy(x[e], y[i, e])
            for t in P.sel(routing[i].tiles(4)):
                copy(z[routing[i][t], :], y[i, 0])
            for k in P.seq(routing[i].size):
                copy(x[routing[i][k]], y[i, k])

    made = w(zeros(8, 4, 4), zeros(8, 4), zeros(2, 8, 4, 4))
    same(
        made,
        """
        parallel_for i in tokens: Dense(2) {
          lo: i64 = item routing.indptr[i]
          hi: i64 = item routing.indptr[i + 1]
          parallel_for e.k "e" in routing: Sparse(hi - lo) {
            e: i64 = item routing.indices[e.k + lo]
            task copy[i, e](x=x[e, 0 :+ 4, 0 :+ 4], y=y[i, e, 0 :+ 4, 0 :+ 4])
          }
          parallel_for t in routing: Tiles(hi - lo, 4) {
            task copy[i, t](x=z[gather(routing.indices[tile(t, 4, hi, lo)]), 0 :+ 4], y=y[i, 0, 0 :+ 4, 0 :+ 4])
          }
          seq_for k in k: Range(hi - lo) {
            routing.indices.1: i64 = item routing.indices[k + lo]
            task copy[i, k](x=x[routing.indices.1, 0 :+ 4, 0 :+ 4], y=y[i, k, 0 :+ 4, 0 :+ 4])
          }
        }
        """,
    )
    (axis,) = made.wir.axes
    assert (axis.kind, axis.outer, axis.inner) == ("Sparse", const(2), const(8))
    assert made.sizes == {"routing.nnz": 3}


def reads(w: Workload, tensor: str) -> int:
    views = [x for top in w.wir.body.eqns for e in top.walk() for x in e.ins if e.prim == "item"]
    return sum(isinstance(v, View) and v.tensor == tensor for v in views)


def test_what_tasks_write_is_read_anew() -> None:
    @kernel
    def bump(n: InOut[Tile[1, 4, DType.I32]]):
        pto.store(n, n + 1)

    @workload
    def w(x, y, n, *, grow):
        for b in P.seq(item(n[0, 0])):
            copy(x[item(n[0, 0])], y[b])
            if grow:
                bump(n)
        copy(x[item(n[0, 0])], y[0])

    given = zeros(8, 4, 4), zeros(4, 4, 4), ints(1, 4)
    assert reads(w(*given, grow=False), "n") == 1
    assert reads(w(*given, grow=True), "n") == 3  # for the loop, in each iteration, after the loop


def test_a_row_of_a_users_tensor_is_read_once_where_nothing_writes_it() -> None:
    lens = Ragged(4, Tensor(ints(4), name="mine"))

    @workload
    def w(x, y, z):
        for b in P(4):
            for t in P.seq(lens[b].tiles(4)):
                for k in P.seq(lens[b]):
                    copy(x[k], y[b])
                copy(z[b, : lens[b]][t], y[b])

    made = w(zeros(8, 4, 4), zeros(4, 4, 4), zeros(4, 8, 4))
    assert reads(made, "mine") == 1
    assert "z[b, tile(t, 4, n), 0 :+ 4]" in str(made)


def test_records() -> None:
    work = np.zeros(3, np.dtype([("request", np.int32), ("start", np.int32)]))
    work["request"], work["start"] = [2, 0, 1], [4, 5, 6]
    tensor = Tensor(work, name="work")
    assert tensor.fields == ("request", "start")
    assert tensor.data.tolist() == [[2, 4], [0, 5], [1, 6]]
    assert np.shares_memory(tensor.data, work)

    @workload
    def w(x, y):
        for r in P(tensor):
            copy(x[r.request], y[r.index, 0])
        for r in P.sel(Tensor(ints(2, 1), fields=("at",), name="more")):
            copy(x[r.at + tensor[2].start], y[r.index, 1])

    same(
        w(zeros(8, 4, 4), zeros(3, 2, 4, 4)),
        """
        parallel_for r in work: Records(3) {
          request: i64 = item work[r, 0]
          task copy[r](x=x[request, 0 :+ 4, 0 :+ 4], y=y[r, 0, 0 :+ 4, 0 :+ 4])
        }
        parallel_for r.1 "r" in more: Records(2) {
          at: i64 = item more[r.1, 0]
          start: i64 = item work[2, 1]
          task copy[r.1](x=x[at + start, 0 :+ 4, 0 :+ 4], y=y[r.1, 1, 0 :+ 4, 0 :+ 4])
        }
        """,
    )


def test_a_dynamic_outer_axis_takes_the_number_of_rows() -> None:
    tokens = DenseDyn(name="tokens")
    routing = Sparse(tokens, [0, 2, 3], [5, 1, 3])

    @workload
    def w(x, y):
        for i in P(tokens):
            for e in P.sel(routing[i]):
                copy(x[e], y[i, e])

    made = w(zeros(8, 4, 4), zeros(2, 8, 4, 4))
    assert str(made.wir.tensor_type("routing.indptr")) == "i64[$tokens + 1]"


def test_what_is_traced_computes_what_it_says() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 8, 4), np.float32), rng.standard_normal((8, 4, 4), np.float32)
    tiles, chosen = zeros(2, 8, 4), zeros(2, 8, 4, 4)
    seq = Ragged(2, [5, 0], name="seq")
    routing = Sparse(2, [0, 2, 3], [5, 1, 3], name="routing")

    @workload
    def w(x, z, tiles, chosen):
        for b in P(2):
            for t in P(seq[b].tiles(4)):
                copy(x[b][t], tiles[b, : seq[b]][t])
            for e in P.sel(routing[b]):
                copy(z[e], chosen[b, e])

    made = w(x, z, tiles, chosen)
    arrays = {n: t.data for n, t in made.tensors.items() if isinstance(t, Tensor)}
    evaluate(made.wir, arrays, made.sizes)
    want_tiles, want_chosen = np.zeros_like(tiles), np.zeros_like(chosen)
    want_tiles[0, :5] = x[0, :5]
    for b, e in ((0, 5), (0, 1), (1, 3)):
        want_chosen[b, e] = z[e]
    assert np.array_equal(tiles, want_tiles)
    assert np.array_equal(chosen, want_chosen)
