"""Lowering: wir in, plan out, both as text."""

from __future__ import annotations

import textwrap

from pto_wsp import arch
from pto_wsp.ir.core import RegionType, ScalarType, Wir
from pto_wsp.ir.scopes import deps_mode
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify
from pto_wsp.targets.cpu_sim.kernels import write_kernel
from pto_wsp.targets.cpu_sim.lower import lower
from pto_wsp.targets.cpu_sim.nodes import Body
from pto_wsp.targets.cpu_sim.schedule import Machine
from pto_wsp.targets.cpu_sim.stream import Stream
from targets.listing import Reader

KERNEL = """
  kernel k "k" (x: in f32<4x4>, s: f32, y: out f32<4x4>) {
    a: f32<4x4 of x.rows x x.cols> = load x
    b: f32<4x4 of x.rows x x.cols> = mul a s
    store y b
  }
"""
XY = "tensor X: f32[9,4,4]\ntensor Y: f32[9,4,4]"


def workload(head: str, body: str) -> Wir:
    wir = parse("workload w {\n" + head + KERNEL + textwrap.dedent(body) + "\n}")
    verify(wir, "traced")
    return wir


def kind(t: object) -> str:
    if isinstance(t, ScalarType):
        return str(t.dtype)
    return "region" if isinstance(t, RegionType) else "tile"


def listing(wir: Wir) -> tuple[list[str], list[str]]:
    """The plan's tables and its tree."""
    data = lower(wir, Machine.of(wir, arch.get()), deps_mode(wir)).data
    reader = Reader(data)
    head = reader.head([[kind(p.type) for p in k.params] for k in wir.kernels])
    for k in wir.kernels:
        s = Stream()
        write_kernel(s, k, arch.get())
        assert reader.bytes(len(s.out)) == s.out
    return head, reader.body()


def rows(text: str) -> list[str]:
    return textwrap.dedent(text).strip().splitlines()


def check(body: str, want: str, head: str = XY) -> None:
    """The tree of a workload, without its first rows: how dependences are found, and the number of handles."""
    assert listing(workload(head, body))[1][2:] == rows(want)


def test_loops_tasks_and_tables() -> None:
    wir = workload(
        "symbol $n\ntensor X: f32[$n,4,4]\ntensor Y: f32[$n,4,4]\ntensor idle: i64[3]",
        """
        parallel_for b in batch: DenseDyn($n) {
          task k[b](x=X[b, 0 :+ 4, 0 :+ 4], s=2.0:f32, y=Y[b, 0 :+ 4, 0 :+ 4])
        }
        """,
    )
    head, tree = listing(wir)
    assert head == rows(
        """
        symbol r0 n
        registers 2
        tensor X: f32[r0,4,4] read
        tensor Y: f32[r0,4,4] written
        tensor idle: i64[3]
        """
    )
    assert tree == rows(
        """
        deps 0
        handles 0
        block
          @0 par r1 < r0 (loop 0)
          block
            task 0 k0[r1](X[r1, 0 :+ _, 0 :+ _], 2.0, Y[r1, 0 :+ _, 0 :+ _])
        """
    )


def test_a_ragged_loop_reads_its_length_and_tiles_it() -> None:
    check(
        """
        parallel_for b in seq.outer: Dense(9) {
          n: i64 = item seq.lengths[b]
          parallel_for t in seq: Tiles(n, 4) {
            task k[b, t](x=X[b, tile(t, 4, n), 0 :+ 4], s=(2*n + t), y=Y[b, tile(t, 4, n + 1, 1), 0 :+ 4])
          }
        }
        """,
        """
        block
          @0 par r0 < 9 (loop 0)
          block
            @1 r1 = item seq.lengths[r0]
            @2 r2 = floordiv (r1 + 3) (4)
            @2 par r3 < r2 (loop 1)
            block
              task 0 k0[r0, r3](X[r0, tile 4*r3 to r1 of _, 0 :+ _], (2*r1 + r3), Y[r0, tile 4*r3 + 1 to r1 + 1 of _, 0 :+ _])
        """,
        f'ragged seq: outer=9 lengths="seq.lengths"\n{XY}\ntensor seq.lengths: i64[9]',
    )


def test_scalars_conditions_and_reads_of_what_tasks_write() -> None:
    check(
        """
        task k[](x=X[0, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[0, 0 :+ 4, 0 :+ 4])
        m: f64 = reduce_max Y[0, 1 :+ 3, span(0, 4)]
        c: bool = s.lt m 3.5:f64
        n: i64 = s.cast[to=i64] m
        d: i64 = s.mul[checked=true] n (3)
        cond c {
          then {
            task k[d](x=X[d, 0 :+ 4, 0 :+ 4], s=m, y=Y[1, 0 :+ 4, 0 :+ 4])
          }
          else {
            e: i64 = s.where c n -1:i64
            task k[e](x=X[1, 0 :+ 4, 0 :+ 4], s=(e), y=Y[1, 0 :+ 4, 0 :+ 4])
          }
        }
        """,
        """
        block
          task 0 k0[](X[0, 0 :+ _, 0 :+ _], 1.0, Y[0, 0 :+ _, 0 :+ _])
          @1 r0 = max !Y[0, 1 :+ 3, span 0 :+ 4]
          @2 r1 = lt f64 r0 #400c000000000000
          @3 r2 = cast f64 to i64 r0
          @4 r3 = mul i64 checked r2 (3)
          @5 cond r1
          block
            task 1 k0[r3](X[r3, 0 :+ _, 0 :+ _], r0: f64, Y[1, 0 :+ _, 0 :+ _])
          block
            @7 r4 = where i64 r1 r2 #ffffffffffffffff
            task 2 k0[r4](X[1, 0 :+ _, 0 :+ _], (r4), Y[1, 0 :+ _, 0 :+ _])
        """,
    )


def test_a_loop_with_a_condition_and_slots() -> None:
    wir = workload(
        XY,
        """
        slot_set[slot=2] 5:i64
        seq_for i in i: Range(100) {
          task k[i](x=X[0, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[0, 0 :+ 4, 0 :+ 4])
          slot_set[slot=0] true:bool
        } while {
          a: i64 = slot_get[slot=2]
          c: bool = s.gt a (3)
          yield c
        }
        """,
    )
    head, tree = listing(wir)
    assert head[-3:] == ["slot 0: bool", "slot 1: i64", "slot 2: i64"]
    assert tree[2:] == rows(
        """
        block
          @0 slot 2 = #5
          @1 while r0 < 100 (loop 0)
          block
            @4 r1 = slot 2
            @5 r2 = gt i64 r1 (3)
            while r2
          block
            task 0 k0[r0](X[0, 0 :+ _, 0 :+ _], 1.0, Y[0, 0 :+ _, 0 :+ _])
            @3 slot 0 = #1
        """
    )


def test_gathers_say_whether_they_wait() -> None:
    body = """
        parallel_for t in t: Dense(2) {
          task k[t](x=X[0, gather(idx[4*t :+ 4]), 0 :+ 4], s=0.0:f32, y=Y[0, 0 :+ 4, gather(jdx[t, tile(t, 4, 7)])])
        }
        """
    head = f"{XY}\ntensor idx: i32[8]\ntensor jdx: i64[2,8]"
    check(
        body,
        """
        block
          @0 par r0 < 2 (loop 0)
          block
            task 0 k0[r0](X[0, gather idx[4*r0 :+ 4], 0 :+ _], 0.0, Y[0, 0 :+ _, gather jdx[r0, tile 4*r0 to 7 of 4]])
        """,
        head,
    )


def test_tokens_become_handles_that_begin_anew_where_both_tasks_are() -> None:
    check(
        """
        seq_for i in i: Range(3) {
          parallel_for b in b: Dense(4) {
            a: task = task k[](x=X[b, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[b, 0 :+ 4, 0 :+ 4])
            unnamed: task = task[after=["a"]] k[](x=X[b, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[b, 0 :+ 4, 0 :+ 4])
            c: task = task k[](x=X[b, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[b, 0 :+ 4, 0 :+ 4])
          }
          d: task = task[after=["c"]] k[](x=X[i, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[i, 0 :+ 4, 0 :+ 4])
        }
        """,
        """
        block
          @0 seq r0 < 3 (loop 0)
          block
            reset h1
            @1 par r1 < 4 (loop 1)
            block
              reset h0
              task 0 k0[](X[r1, 0 :+ _, 0 :+ _], 1.0, Y[r1, 0 :+ _, 0 :+ _]) joins h0
              task 1 k0[](X[r1, 0 :+ _, 0 :+ _], 1.0, Y[r1, 0 :+ _, 0 :+ _]) after h0
              task 2 k0[](X[r1, 0 :+ _, 0 :+ _], 1.0, Y[r1, 0 :+ _, 0 :+ _]) joins h1
            task 3 k0[](X[r0, 0 :+ _, 0 :+ _], 1.0, Y[r0, 0 :+ _, 0 :+ _]) after h1
        """,
    )


def test_scopes_and_parts() -> None:
    wir = workload(
        XY,
        """
        deps[mode="hybrid"] {
          sequential {
            part {
              task k[](x=X[0, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[0, 0 :+ 4, 0 :+ 4])
            }
            part {
            }
          }
        }
        """,
    )
    tree = listing(wir)[1]
    assert tree[0] == "deps 3"
    assert tree[2:] == rows(
        """
        block
          block
            seq
              block
                task 0 k0[](X[0, 0 :+ _, 0 :+ _], 1.0, Y[0, 0 :+ _, 0 :+ _])
              block
        """
    )


def test_what_registers_hold_at_a_task() -> None:
    wir = workload(
        f"symbol $n\n{XY}\ntensor table: i64[9]",
        """
        parallel_for b in b: Dense(4) {
          e: i64 = item table[b]
          task k[e](x=X[e, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[b, 0 :+ 4, 0 :+ 4])
        }
        task k[](x=X[0, 0 :+ 4, 0 :+ 4], s=1.0:f32, y=Y[8, 0 :+ 4, 0 :+ 4])
        """,
    )
    body = Body(wir, Machine.of(wir, arch.get()), keep_registers=True)
    body.block(wir.body)
    assert body.registers == [{"$n": 0, "b": 1, "e": 2}, {"$n": 0}]
