"""Transformations as text: before, and after."""

from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    DispatchPolicy,
    DType,
    Out,
    P,
    TaskWindow,
    Tensor,
    Tile,
    TraceError,
    Workload,
    combine,
    dispatch,
    kernel,
    pto,
    sequential,
    task_graph,
    workload,
)

SHARED = Tensor(np.zeros((4, 2, 2), np.float32), name="S")


@kernel
def one(y: Out[Tile[2, 2, DType.F32]]):
    pto.store(y, 1.0)


@kernel(name="one")
def two(y: Out[Tile[2, 2, DType.F32]]):
    pto.store(y, 2.0)


@workload
def first():
    for b in P(4):
        one(y=SHARED[b])


@workload
def second(y):
    for b in P(2):
        two(y=y[b])
        one(y=SHARED[b])


def body(w: Workload) -> str:
    """The statements of a workload."""
    rows = str(w).splitlines()
    begin = next(k for k, r in enumerate(rows) if k and r.startswith("  ") and r.split()[0] not in KEYWORDS)
    return "\n".join(r[2:] for r in rows[begin:-1])


KEYWORDS = ("symbol", "tensor", "kernel", "a:", "store", "}")


def y() -> Any:
    return np.zeros((2, 2, 2), np.float32)


def test_dispatch() -> None:
    w = dispatch(DispatchPolicy.round_robin(3))(first())
    assert w == first().dispatch(DispatchPolicy.round_robin(3))
    assert (
        body(w)
        == dedent("""
        dispatch[policy=round_robin(3)] {
          parallel_for b in b: Range(4) {
            task one[b](y=S[b, 0 :+ 2, 0 :+ 2])
          }
        }""").strip()
    )


def test_window() -> None:
    w = task_graph(window=TaskWindow(5, "tasks"))(first())
    assert w == first().task_graph(window=TaskWindow(5))
    assert body(w).splitlines()[0] == 'window[mode="STALL", tasks=5] {'


def test_the_workload_before_stays_as_it_is() -> None:
    w = first()
    text = str(w)
    w.dispatch(DispatchPolicy.round_robin(2)).task_graph(window=TaskWindow(1))
    combine(w, w)
    assert str(w) == text


@pytest.mark.parametrize("join", [combine, sequential])
def test_parts_keep_order_and_get_names_of_their_own(join: Any) -> None:
    w = join(first(), second(y()).dispatch(DispatchPolicy.round_robin(2)), second(y()))
    assert [v.name for v in w.wir.tensors] == ["S", "y", "y.1"]
    assert [k.name for k in w.wir.kernels] == ["one", "one.1"]
    assert [k.label for k in w.wir.kernels] == ["one", "one"]
    assert (
        body(w)
        == dedent(f"""
        {join.__name__} {{
          part {{
            parallel_for b in b: Range(4) {{
              task one[b](y=S[b, 0 :+ 2, 0 :+ 2])
            }}
          }}
          part {{
            dispatch[policy=round_robin(2)] {{
              parallel_for b.1 "b" in b: Range(2) {{
                task one.1[b.1](y=y[b.1, 0 :+ 2, 0 :+ 2])
                task one[b.1](y=S[b.1, 0 :+ 2, 0 :+ 2])
              }}
            }}
          }}
          part {{
            parallel_for b.2 "b" in b: Range(2) {{
              task one.1[b.2](y=y.1[b.2, 0 :+ 2, 0 :+ 2])
              task one[b.2](y=S[b.2, 0 :+ 2, 0 :+ 2])
            }}
          }}
        }}""").strip()
    )


def test_one_workload_may_be_a_part_twice() -> None:
    w = first()
    both = combine(w, sequential(w, w))
    assert [
        e.regions[0].params[0].name for top in both.wir.body.eqns for e in top.walk() if e.prim == "parallel_for"
    ] == [
        "b",
        "b.1",
        "b.1.1",
    ]
    p = both.compile()
    p.run()
    assert p.stats.task_count == 12


@pytest.mark.parametrize("parts", [(), (1,), (first,)])
def test_parts_that_are_no_workloads(parts: tuple[Any, ...]) -> None:
    with pytest.raises(TraceError, match="PTO155"):
        combine(*parts)
