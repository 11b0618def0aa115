"""New lengths, sparsity, slots and result arrays are new values of one program; wrong ones are errors with nothing run."""

import array
from typing import Any

import numpy as np
import pytest

from pto_wsp import BindError, Program, PtoError, arch
from pto_wsp.artifact.artifact import Artifact
from pto_wsp.ir.text import parse
from pto_wsp.targets.cpu_sim.target import CpuSim

Array = np.ndarray[Any, Any]

# Y[b] counts the elements of row b of `seq`; W[e] is 1 for the indices of row 0 of `routing`, 2 for those of row 1
TEXT = """workload w {
  symbol $batch
  symbol $routing.nnz
  ragged seq: outer=$batch lengths="seq.lengths"
  sparse routing: outer=2 indptr="ptr" indices="routing.indices" inner=6
  tensor X: f32[4,8,1,1]
  tensor Y: f32[$batch,1,1]
  result W: f32[6,1,1]
  result Z: f32[1,$batch]
  tensor seq.lengths: i64[$batch]
  tensor ptr: i64[3]
  tensor routing.indices: i64[$routing.nnz]
  kernel count "count" (x: in f32<1x1>, y: inout f32<1x1>) {
    a: f32<1x1 of x.rows x x.cols> = load x
    b: f32<1x1 of y.rows x y.cols> = load y
    c: f32<1x1 of x.rows x x.cols> = add a b
    store y c
  }
  kernel put "put" (s: f32, y: out f32<1x1>) {
    a: f32<1x1> = full[cols=1, rows=1] s
    store y a
  }
  parallel_for b in seq.outer: DenseDyn($batch) {
    n: i64 = item seq.lengths[b]
    seq_for t in seq: Ragged(n) {
      task count[b, t](x=X[b, t, 0 :+ 1, 0 :+ 1], y=Y[b, 0 :+ 1, 0 :+ 1])
    }
  }
  seq_for r in routing.outer: Dense(2) {
    lo: i64 = item ptr[r]
    hi: i64 = item ptr[r + 1]
    parallel_for k "e" in routing: Sparse(hi - lo) {
      e: i64 = item routing.indices[k + lo]
      task put[r, e](s=(r + 1), y=W[e, 0 :+ 1, 0 :+ 1])
    }
  }
  s: i64 = slot_get[slot=5]
  f: f64 = slot_get[slot=1]
  c: bool = slot_get[slot=0]
  g: f64 = s.where c f 0.5:f64
  parallel_for b2 "b" in i: Range(s) {
    task put[b2](s=g, y=Z[0 :+ 1, b2 :+ 1])
  }
  return [Z, W]
}"""


def program(**options: Any) -> Program:
    p = Program(CpuSim().compile(parse(TEXT), arch.get(), {"batch": 3}), **options)
    p.bind({"X": np.ones((4, 8, 1, 1), np.float32), "Y": np.zeros((3, 1, 1), np.float32)})
    return p.set_axis_sizes({"seq": [3, 5, 0], "routing": ([0, 2, 3], [1, 4, 5])})


def counts(p: Program) -> list[float]:
    """What one run adds to Y."""
    p.tensors["Y"][:] = 0
    p.run()
    return p.tensors["Y"].ravel().tolist()


def chosen(p: Program) -> list[float]:
    p.run()
    return p.results[1].ravel().tolist()


def refused(change: Any, p: Program) -> PtoError:
    """The error of `change` or of the run after it; no task has run, and what was bound before can be bound again."""
    p.tensors["Y"][:] = 7
    with pytest.raises(PtoError) as caught:
        change(p).run()
    assert (p.tensors["Y"] == 7).all()
    p.bind({"Y": np.zeros((3, 1, 1), np.float32)})
    p.set_axis_sizes({"batch": 3, "seq": [3, 5, 0], "routing": ([0, 2, 3], [1, 4, 5])})
    assert counts(p) == [3, 5, 0]
    return caught.value


def test_new_lengths_and_indices_are_new_values_of_one_program() -> None:
    p = program()
    plan, before = p._plan, p.hash
    assert counts(p) == [3, 5, 0]
    assert counts(p.set_axis_sizes({"seq": [0, 0, 8]})) == [0, 0, 8]
    assert counts(p.set_axis_sizes({"seq": np.array([1, 2, 3], np.uint8)})) == [1, 2, 3]
    assert chosen(p) == [0, 1, 0, 0, 1, 2]
    assert chosen(p.set_axis_sizes({"routing": ([0, 0, 4], (3, 2, 1, 0))})) == [2, 2, 2, 2, 0, 0]
    assert chosen(p.set_axis_sizes({"routing": ([0, 0, 0], [])})) == [0] * 6
    p.set_axis_sizes({"batch": 2, "seq": [8, 1]}).bind({"Y": np.zeros((2, 1, 1), np.float32)})
    assert counts(p) == [8, 1]
    assert p.results[0].shape == (1, 2)
    assert (p._plan, p.hash) == (plan, before)


def test_values_are_copied() -> None:
    p = program()
    lengths = np.array([1, 1, 1])
    p.set_axis_sizes({"seq": lengths})
    lengths[:] = 8
    assert counts(p) == [1, 1, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a,
        lambda a: a.astype(np.int16),
        lambda a: a.tolist(),
        lambda a: tuple(a.tolist()),
        lambda a: array.array("q", a.tolist()),
        memoryview,
        lambda a: np.repeat(a, 2)[::2],
    ],
)
def test_a_symbol_takes_any_array_of_integers(make: Any) -> None:
    p = program()
    p.set_symbol_ptr("ptr", make(np.array([0, 1, 3])))
    assert chosen(p) == [0, 1, 0, 0, 2, 2]


def test_a_symbol_takes_an_address_where_the_caller_says_what_is_there() -> None:
    p = program()
    ptr = np.array([0, 1, 3], np.int64)
    p.set_symbol_ptr("ptr", ptr.ctypes.data, size=3, unsafe=True)
    assert chosen(p) == [0, 1, 0, 0, 2, 2]
    for options in ({}, {"size": 3}, {"unsafe": True}, {"size": -1, "unsafe": True}, {"size": 3, "unsafe": 1}):
        with pytest.raises(BindError, match="PTO518"):
            p.set_symbol_ptr("ptr", ptr.ctypes.data, **options)


def test_hidden_tensors_are_bound_by_name() -> None:
    p = program()
    p.bind({"seq.lengths": [2, 2, 2], "routing.indices": np.array([0, 0, 3], np.int32)})
    assert counts(p) == [2, 2, 2]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p.set_axis_sizes({"seq": [1, -1, 1]}), "PTO513"),
        (lambda p: p.set_axis_sizes({"seq": [1, 1]}), "PTO513"),
        (lambda p: p.set_axis_sizes({"batch": 4}).bind({"Y": np.full((4, 1, 1), 7, np.float32)}), "PTO513"),
        (lambda p: p.set_axis_sizes({"seq": [[1, 1, 1]]}), "PTO513"),
        (lambda p: p.set_axis_sizes({"seq": [9, 1, 1]}), "PTO163"),
        (lambda p: p.set_axis_sizes({"seq": "abc"}), "PTO501"),
        (lambda p: p.set_axis_sizes({"seq": 3}), "PTO501"),
        (lambda p: p.set_axis_sizes({"routing": ([0, 2, 1], [1, 1, 1])}), "PTO514"),
        (lambda p: p.set_axis_sizes({"routing": ([-1, 2, 3], [1, 1, 1])}), "PTO514"),
        (lambda p: p.set_axis_sizes({"routing": ([0, 2, 4], [1, 1, 1])}), "PTO514"),
        (lambda p: p.set_axis_sizes({"routing": ([0, 3], [1, 1, 1])}), "PTO514"),
        (lambda p: p.set_axis_sizes({"routing": ([0, 2, 3], [1, 6, 1])}), "PTO514"),
        (lambda p: p.set_axis_sizes({"routing": ([0, 2, 3], [1, -1, 1])}), "PTO514"),
        (lambda p: p.set_symbol_ptr("ptr", [0, 2, 9]), "PTO514"),
        (lambda p: p.set_axis_sizes({"routing": [0, 2, 3]}), "PTO705"),
        (lambda p: p.set_symbol_u64("ptr", 3), "PTO516"),
        (lambda p: p.set_symbol_ptr("batch", [3]), "PTO516"),
        (lambda p: p.set_symbol_ptr("X", [3]), "PTO510"),
    ],
)
def test_wrong_values_are_errors_with_nothing_run(change: Any, code: str) -> None:
    p = program()
    p.run()
    assert refused(change, p).code == code


def test_pointers_and_indices_may_come_one_after_the_other() -> None:
    p = program()
    p.set_symbol_ptr("ptr", [0, 2, 5])
    p.bind({"routing.indices": [0, 1, 2, 3, 4]})
    assert chosen(p) == [1, 1, 2, 2, 2, 0]


def test_values_that_are_missing_are_named() -> None:
    p = Program.from_bytes(program().to_bytes())
    p.bind({"X": np.ones((4, 8, 1, 1), np.float32), "Y": np.zeros((3, 1, 1), np.float32)})
    with pytest.raises(BindError, match=r"PTO509.*axis seq has no values: seq.lengths, ptr, routing.indices"):
        p.run()


def test_a_tensor_of_lengths_is_read_when_a_run_starts() -> None:
    p = Program(CpuSim().compile(parse(TEXT.replace("seq.lengths", "lens")), arch.get(), {"batch": 3}))
    lens = np.array([1, 2, 3])
    p.bind({"X": np.ones((4, 8, 1, 1), np.float32), "Y": np.zeros((3, 1, 1), np.float32), "lens": lens})
    p.set_axis_sizes({"routing": ([0, 0, 0], [])})
    assert counts(p) == [1, 2, 3]
    lens[:] = (0, 8, 4)
    assert counts(p) == [0, 8, 4]
    lens[1] = -1
    with pytest.raises(BindError, match="PTO513"):
        p.run()
    lens[1] = 1
    assert counts(p) == [0, 1, 4]
    with pytest.raises(BindError, match="PTO502"):
        p.bind({"lens": lens.astype(np.int32)})


def test_slots_hold_what_they_are_given_when_a_run_starts() -> None:
    p = program()
    assert not p.run().results[0].any()
    p.set_slot(5, 2)
    assert p.run().results[0].tolist() == [[0.5, 0.5, 0]]
    p.set_slot(1, -2.25).set_slot(0, True).set_slot(5, np.int32(3))
    for _ in range(2):
        assert p.run().results[0].tolist() == [[-2.25] * 3]
    assert p.copy().run().results[0].tolist() == [[-2.25] * 3]
    for slot, value in [
        (5, 0.5),
        (5, True),
        (5, 2**63),
        (0, 1),
        (1, "x"),
        (2, 0),
        (64, 0),
        (-1, 0),
        ("a", 1),
        (True, 1),
    ]:
        with pytest.raises(BindError, match="PTO517"):
            p.set_slot(slot, value)  # type: ignore[arg-type]
    p.set_slot(5, -1)
    with pytest.raises(PtoError, match="PTO511"):
        p.run()


def test_every_run_gives_new_results_unless_an_array_is_bound() -> None:
    p = program()
    first = p.run().results
    assert isinstance(first, tuple)
    assert [r.shape for r in first] == [(1, 3), (6, 1, 1)]
    kept = first[1].copy()
    second = p.set_axis_sizes({"routing": ([0, 0, 1], [0])}).run().results
    assert not np.shares_memory(first[1], second[1])
    assert (first[1] == kept).all()
    mine = np.full((6, 1, 1), 9, np.float32)
    p.bind({"W": mine}).run()
    assert p.results[1] is mine
    assert mine.ravel().tolist() == [2, 9, 9, 9, 9, 9]
    with pytest.raises(BindError, match="PTO503"):
        p.bind({"W": np.zeros((5, 1, 1), np.float32)})


def test_a_copy_has_values_of_its_own() -> None:
    p = program()
    other = p.copy().bind({"Y": np.zeros((3, 1, 1), np.float32)}).set_axis_sizes({"seq": [1, 1, 1]})
    assert counts(p) == [3, 5, 0]
    assert counts(other) == [1, 1, 1]
    assert counts(p) == [3, 5, 0]


def test_saved_programs_know_axes_slots_and_results() -> None:
    data = program().to_bytes()
    manifest = Artifact.from_bytes(data).manifest
    assert manifest["data_axes"] == {
        "seq": ["Ragged", "$batch", ["seq.lengths"], None],
        "routing": ["Sparse", "2", ["ptr", "routing.indices"], "6"],
    }
    assert manifest["slots"] == {"0": "bool", "1": "f64", "5": "i64"}
    assert manifest["returns"] == ["Z", "W"]
    p = Program.from_bytes(data)
    p.bind({"X": np.ones((4, 8, 1, 1), np.float32), "Y": np.zeros((3, 1, 1), np.float32)})
    p.set_axis_sizes({"seq": [1, 2, 3], "routing": ([0, 1, 1], [5])}).set_slot(5, 1)
    assert counts(p) == [1, 2, 3]
    assert p.results[0].tolist() == [[0.5, 0, 0]]
    assert p.to_bytes() == data


@pytest.mark.parametrize("threads", [1, 4])
def test_runs_agree_whatever_the_threads(threads: int) -> None:
    p = program(threads=threads)
    assert counts(p) == [3, 5, 0]
    assert p.stats.task_count == 8 + 3
    assert p.stats.scalar_waits == 0
    assert p.stats.arena_bytes == 0
