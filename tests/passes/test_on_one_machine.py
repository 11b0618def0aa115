"""Workloads on meshes as workloads of one machine: text in, text out; and that they compute what all devices do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshes import draw, draw_local, on_devices
from passes.check import check_pass
from pto_wsp import (
    DType,
    In,
    InOut,
    Mesh,
    Out,
    P,
    Tensor,
    TensorLayout,
    TensorReplicate,
    TensorShard,
    allgather,
    allreduce,
    empty,
    fuse,
    kernel,
    pipeline_loop,
    pto,
    relayout,
    split,
    unroll,
    workload,
)
from pto_wsp.ir.core import Eqn
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse
from pto_wsp.ir.verify import verify
from pto_wsp.passes.on_one_machine import on_one_machine
from pto_wsp.passes.segments import segments

K = """kernel k "k" (x: in f32<1x8>, y: out f32<1x8>) {
    a: f32<1x8 of x.rows x x.cols> = load x
    store y a
  }"""


def test_a_sum_over_devices() -> None:
    check_pass(
        on_one_machine,
        f"""
workload w {{
  mesh x=2
  tensor x: f32[4,8] @ [S(x), R]
  tensor b: f32[4,8] @ [R, R]
  temporary y: f32[4,8] @ [R, R] + sum(x)
  result z: f32[4,8] @ [R, R]
  {K}
  dispatch[lane=mod(position(), lanes()), lanes=4, policy="round_robin"] {{
    parallel_for i in i: Dense(4) {{
      task k[i](x=x[i :+ 1, 0 :+ 8], y=y[i :+ 1, 0 :+ 8])
    }}
    allreduce[axes=["x"]] y z
  }}
  return z
}}
""".strip(),
        f"""
workload w {{
  tensor x: f32[8,8]
  tensor b: f32[4,8]
  temporary y: f32[2,4,8]
  result z: f32[4,8]
  temporary z.parts: f32[2,4,8]
  {K}
  kernel add "add" (a: in f32<4x8>, b: in f32<4x8>, out: out f32<4x8>) {{
    c: f32<4x8 of a.rows x a.cols> = load a
    d: f32<4x8 of b.rows x b.cols> = load b
    e: f32<4x8 of a.rows x a.cols> = add c d
    store out e
  }}
  kernel copy "copy" (x: in f32<4x8>, out: out f32<4x8>) {{
    a: f32<4x8 of x.rows x x.cols> = load x
    store out a
  }}
  dispatch[lane=mod(position(), lanes()), lanes=4, policy="round_robin"] {{
    parallel_for device.x in device.x: Dense(2) {{
      parallel_for i in i: Dense(4) {{
        task[mapped=[0]] k[device.x, i](x=x[4*device.x + i :+ 1, 0 :+ 8], y=y[device.x, i :+ 1, 0 :+ 8])
      }}
    }}
  }}
  parallel_for device.x.1 in device.x: Dense(2) {{
    parallel_for tile.0 in tile.0: Tiles(4, 4) {{
      parallel_for tile.1 in tile.1: Tiles(8, 8) {{
        task[mapped=[0 1 2]] add[device.x.1, tile.0, tile.1](a=y[0, tile(tile.0, 4, 4), tile(tile.1, 8, 8)], b=y[1, tile(tile.0, 4, 4), tile(tile.1, 8, 8)], out=z.parts[device.x.1, tile(tile.0, 4, 4), tile(tile.1, 8, 8)])
      }}
    }}
  }}
  parallel_for tile.0.1 in tile.0.1: Tiles(4, 4) {{
    parallel_for tile.1.1 in tile.1.1: Tiles(8, 8) {{
      task[mapped=[0 1]] copy[tile.0.1, tile.1.1](x=z.parts[0, tile(tile.0.1, 4, 4), tile(tile.1.1, 8, 8)], out=z[tile(tile.0.1, 4, 4), tile(tile.1.1, 8, 8)])
    }}
  }}
  return z
}}
""",
    )


def test_a_gather_goes_through_a_device_s_own_elements() -> None:
    """`t` is gathered along the dimension that x divides: devices' parts of it are copied first. A schedule of the whole stays around all."""
    wir = parse(
        f"""
workload w {{
  mesh x=2
  tensor t: f32[4,8] @ [S(x), R]
  tensor at: i32[1] @ [S(x)]
  tensor y: f32[1,8] @ [S(x), R]
  {K}
  deps[mode="hybrid"] {{
    task k[](x=t[gather(at[0 :+ 1]), 0 :+ 8], y=y[0 :+ 1, 0 :+ 8])
  }}
}}
""".strip()
    )
    out = on_one_machine(wir)
    verify(out)
    (whole,) = out.body.eqns
    assert whole.prim == "deps"
    copies, tasks = whole.regions[0].eqns
    assert [e.prim for e in copies.walk()].count("task") == 1
    assert "x=t.parts[device.x.1, gather(at[device.x.1 :+ 1]), 0 :+ 8], y=y[device.x.1 :+ 1, 0 :+ 8]" in str(out)
    arrays = {
        "t": np.arange(64, dtype=np.float32).reshape(8, 8),
        "at": np.array([3, 1], np.int32),
        "y": np.zeros((2, 8), np.float32),
    }
    evaluate(out, arrays)
    np.testing.assert_array_equal(arrays["y"], arrays["t"][[3, 5]])
    assert tasks.prim == "parallel_for"


def test_a_wir_without_a_mesh_stays() -> None:
    wir = parse(f"workload w {{\n  tensor x: f32[4,8]\n  {K}\n}}")
    assert on_one_machine(wir) is wir


def test_segments() -> None:
    wir = parse(
        f"""
workload w {{
  mesh x=2
  tensor x: f32[4,8] @ [S(x), R]
  temporary t: f32[4,8]
  temporary y: f32[4,8] @ [R, R] + sum(x)
  temporary z: f32[4,8] @ [R, R]
  result r: f32[4,8] @ [R, R]
  {K}
  combine {{
    part {{
      streams[count=2] {{
        a: task = task k[](x=x[0 :+ 1, 0 :+ 8], y=t[0 :+ 1, 0 :+ 8])
        b: task = task[after=["a"]] k[](x=t[0 :+ 1, 0 :+ 8], y=y[0 :+ 1, 0 :+ 8])
        allreduce[axes=["x"]] y z
        task[after=["b"]] k[](x=z[0 :+ 1, 0 :+ 8], y=r[0 :+ 1, 0 :+ 8])
      }}
    }}
    part {{
      task k[](x=z[1 :+ 1, 0 :+ 8], y=r[1 :+ 1, 0 :+ 8])
    }}
  }}
  return r
}}
""".strip()
    )
    verify(wir)
    first, met, second, third = segments(wir)
    assert isinstance(met, Eqn)
    assert met.prim == "allreduce"
    tensors = [
        [str(v.type) + " " + v.type.role.value for v in s.tensors]
        for s in (first, second, third)
        if not isinstance(s, Eqn)
    ]  # type: ignore[union-attr]
    assert [[v.name for v in s.tensors] for s in (first, second, third) if not isinstance(s, Eqn)] == [
        ["x", "t", "y"],
        ["z", "r"],
        ["z", "r"],
    ]
    assert tensors[0] == ["f32[4,8] tensor", "f32[4,8] temporary", "f32[4,8] tensor"]
    for s in (first, second, third):
        assert not isinstance(s, Eqn)
        verify(s)
        assert s.mesh is None
    assert "streams" in str(second)
    assert "after" not in str(second)
    assert 'after=["a"]' in str(first)
    assert "streams" not in str(third)


X = np.arange(64, dtype=np.float32).reshape(8, 8)
LINE = Mesh(x=2)
ROWS = TensorLayout(LINE, TensorShard("x"), TensorReplicate())


@kernel
def copied(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)


@kernel
def grown(x: In[Tensor], y: InOut[Tensor]):
    pto.store(y, y + x)


@workload
def sums(x):
    y = empty((4, 8), DType.F32, layout=TensorLayout(LINE, TensorReplicate(), TensorReplicate(), pending={"x": "sum"}))
    for i in P(x.tiles(2)):
        copied[i](x=x[i], out=y[i])
        grown[i](x=x[i], y=y[i])
    return allreduce(y)


REWRITES = {
    "split": split(loop="i", size=1),
    "unroll": unroll(loop="i"),
    "fuse": fuse(loop="i"),
    "pipeline_loop": pipeline_loop(loop="i", depth=2),
}


@pytest.mark.parametrize("rewrite", REWRITES)
def test_what_rewrites_made(rewrite: str) -> None:
    """Coordinates keep their names behind those of the device, and what a collective reads is no temporary of the loop alone."""
    w = REWRITES[rewrite](sums)(Tensor(X, layout=ROWS))
    np.testing.assert_array_equal(w.compile().run().results, 2 * (X[:4] + X[4:]))
    same = REWRITES[rewrite](sums(Tensor(X, layout=ROWS)))
    np.testing.assert_array_equal(same.compile().run().results, 2 * (X[:4] + X[4:]))


def test_tensors_of_one_dimension() -> None:
    """Longer than a tile: devices' parts of an argument, of what is gathered, and of a result."""

    @workload
    def w(x):
        return allgather(x, "x"), relayout(x, TensorLayout(LINE, TensorReplicate()))

    x = np.arange(2600, dtype=np.float32)
    for result in w(Tensor(x, layout=TensorLayout(LINE, TensorShard("x")))).compile().run().results:
        np.testing.assert_array_equal(result, x)


@given(st.integers(0, 2**32))
def test_what_types_allow_is_the_same_on_all_devices(seed: int) -> None:
    """Of random tasks, loops and branches: replicas agree, which `on_devices` asserts, and one machine has the same elements."""
    drawn = draw_local(seed)
    if drawn is None:
        return
    w, arrays = drawn
    bound = {n: a.copy() for n, a in arrays.items()}
    program = w.compile(threads=2).bind(bound).run()
    results = dict(zip(map(str, w.wir.returns or ()), program.results or (), strict=True))
    parts = on_devices(w.wir, arrays)
    for name, got in {**bound, **results}.items():
        np.testing.assert_array_equal(got, parts[name])


@given(st.integers(0, 2**32))
def test_random_workloads(seed: int) -> None:
    """The program on threads, the reference evaluator on the parts of each device, and numpy on whole arrays hold the same integers."""
    drawn = draw(seed)
    wir = drawn.workload.wir
    assert parse(str(wir)) == wir
    program = drawn.workload.compile(threads=2).run()
    names = wir.returns if isinstance(wir.returns, tuple) else (wir.returns,)
    results = program.results if isinstance(program.results, tuple) else (program.results,)
    parts = on_devices(wir, drawn.arrays)
    for name, result, want in zip(names, results, drawn.results, strict=True):
        np.testing.assert_array_equal(result, want)
        np.testing.assert_array_equal(parts[str(name)], want)


@pytest.mark.parametrize(
    "text",
    [
        "mesh x=0",
        "mesh",
        "mesh x=2\n  tensor y: f32[4] @ [S(z)]",
        "mesh x=2\n  tensor y: f32[4] @ [R, R]",
        "tensor y: f32[4] @ [R]",
        "mesh x=2\n  tensor y: f32[4] @ [Q]",
    ],
)
def test_text_that_is_no_mesh(text: str) -> None:
    with pytest.raises(Exception, match="PTO301") as e:
        parse(f"workload w {{\n  {text}\n}}")
    assert type(e.value).__name__ == "IRConversionError"


WRONG = [
    ('allreduce[axes=["x"]] y y', "names two tensors"),
    ('allreduce[axes=["x"]] x z', "nothing pending"),
    ("allreduce y z", "lacks parameters"),
    ('allgather[axis="x"] x z', "gives"),
    ("relayout y z", "other reductions"),
    ('parallel_for i in i: Dense(4) {\n    allreduce[axes=["x"]] y z\n  }', "stands in a loop"),
]


@pytest.mark.parametrize(("eqn", "why"), WRONG)
def test_collectives_that_break_a_rule(eqn: str, why: str) -> None:
    wir = parse(
        f"workload w {{\n  mesh x=2\n  tensor x: f32[4,8] @ [S(x), R]\n  temporary y: f32[4,8] @ [R, R] + sum(x)\n  temporary z: f32[4,8] @ [R, R]\n  {eqn}\n}}"
    )
    with pytest.raises(Exception, match="PTO302") as e:
        verify(wir)
    assert why in str(e.value)
