"""A traced workload over one axis more: the same wir that vmap of the function gives."""

from typing import Any

import pytest

from interop.workloads import double, doubled, halved
from passes.check import check_pass
from pto_wsp import (
    Channel,
    Deps,
    DispatchPolicy,
    DType,
    P,
    Ragged,
    Tensor,
    TensorSpec,
    consume,
    empty_like,
    item,
    send,
    vmap,
    workload,
)
from pto_wsp.api.workload import WorkloadFunction
from pto_wsp.ir.verify import verify
from pto_wsp.passes.batch import batch

F32, I32 = DType.F32, DType.I32


@workload
def ragged(x, lengths):
    out = empty_like(x)
    seq = Ragged(4, lengths, name="seq")
    for i in P(4):
        t = empty_like(x[0, 0:1])
        for j in P.seq(seq[i]):
            doubled[i, j](x=x[i, j : j + 1], out=t)
            doubled[i, j](x=t, out=out[i, j : j + 1])
    return out


@workload
def piped(x, y):
    tiles = Channel[Tensor](depth=2, name="tiles")
    with P.pipe():
        for i in P.seq(5):
            send(tiles, doubled[i](x=x[i], out=y[i]))
        with consume(tiles) as tile:
            halved(x=tile)


@workload
def in_turn(x):
    out = empty_like(x)
    for i in P.seq(4):
        t = empty_like(x[i])
        doubled(x=x[i], out=t)
        for j in P(2):
            u = empty_like(t[j : j + 1])
            doubled(x=t[j : j + 1], out=u)
            doubled(x=u, out=out[i, j : j + 1])
    return out


@workload
def picked(x, at, y):
    doubled(x=x[item(at[0])], out=y[item(at[1])])


def spec(*shape: int, dtype: DType = F32) -> TensorSpec:
    return TensorSpec(shape, dtype)


@pytest.mark.parametrize(
    ("f", "specs", "dims"),
    [
        (ragged, (spec(4, 2, 8), spec(4, dtype=I32)), {"x": 0, "lengths": 0}),
        (ragged, (spec(4, 2, 8), spec(4, dtype=I32)), {"x": 2}),
        (ragged, (spec(4, 2, 8), spec(4, dtype=I32)), {"lengths": 1}),
        (ragged.dispatch(DispatchPolicy.round_robin(4)), (spec(4, 2, 8), spec(4, dtype=I32)), {"x": 3}),
        (piped, (spec(5, 2, 8), spec(5, 2, 8)), {"x": 0, "y": 1}),
        (in_turn, (spec(4, 2, 8),), {"x": 1}),
        (double.split(loop="i", size=2), (spec(5, 2, 8),), {"x": 1}),
        (double.unroll(loop="i", factor=2), (spec(5, 2, 8),), {"x": 0}),
        (picked, (spec(4, 2, 8), spec(2, dtype=I32), spec(4, 2, 8)), {"at": 0, "y": 0}),
    ],
)
def test_it_is_vmap_of_the_function(f: WorkloadFunction, specs: tuple[TensorSpec, ...], dims: dict[str, int]) -> None:
    def longer(name: str, x: TensorSpec) -> TensorSpec:
        at = dims.get(name)
        shape: tuple[Any, ...] = x.shape if at is None else (*x.shape[:at], 3, *x.shape[at:])
        return TensorSpec(shape, x.dtype)

    mapped = vmap(f, dims).trace(tuple(longer(n, x) for n, x in zip(f.signature.parameters, specs, strict=True)), {})
    found = batch(f.trace(specs, {}).wir, dims, 3)
    verify(found)
    assert str(found) == str(mapped.wir)


def test_scopes_of_the_whole_stay_around_it() -> None:
    traced = in_turn.task_graph(deps=Deps.hybrid).trace((spec(4, 2, 8),), {})
    (deps,) = batch(traced.wir, {"x": 0}, 3).body.eqns
    assert deps.prim == "deps"
    assert [e.prim for e in deps.regions[0].eqns] == ["parallel_for"]


def test_names_that_are_taken() -> None:
    check_pass(
        lambda wir: batch(wir, {"x": 1, "y": 0}, 3),
        """
        workload w {
          tensor x: f32[4,8]
          tensor y: f32[4,8]
          kernel k "k" (x: in f32<1x8>, y: out f32<1x8>) {
            a: f32<1x8 of x.rows x x.cols> = load x
            store y a
          }
          parallel_for vmap in vmap: Dense(4) {
            task[mapped=[0]] k[vmap](x=x[vmap :+ 1, 0 :+ 8], y=y[vmap :+ 1, 0 :+ 8])
          }
        }
        """,
        """
        workload "vmap(w)" {
          tensor x: f32[4,3,8]
          tensor y: f32[3,4,8]
          kernel k "k" (x: in f32<1x8>, y: out f32<1x8>) {
            a: f32<1x8 of x.rows x x.cols> = load x
            store y a
          }
          parallel_for vmap.1 "vmap" in vmap: Dense(3) {
            parallel_for vmap in vmap: Dense(4) {
              task[mapped=[0 1]] k[vmap.1, vmap](x=x[vmap :+ 1, vmap.1, 0 :+ 8], y=y[vmap.1, vmap :+ 1, 0 :+ 8])
            }
          }
        }
        """,
    )
