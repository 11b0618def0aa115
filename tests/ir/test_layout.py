"""Layouts: what a device has, joins, and the steps from one to another."""

from itertools import permutations, product

import numpy as np
import pytest

from meshes import Array, part
from pto_wsp import (
    LayoutIncompatibleError,
    Mesh,
    Replicate,
    Shard,
    TensorLayout,
    TensorReplicate,
    TensorShard,
    TypeCheckError,
    tensor_layout_join,
)
from pto_wsp.ir.layout import moves

MESH = Mesh(x=2, y=3)
R = TensorReplicate()


S = TensorShard


def lay(*dims: TensorShard | TensorReplicate, **pending: str) -> TensorLayout:
    return TensorLayout(MESH, *dims, pending=pending)


def every(mesh: Mesh, rank: int) -> list[TensorLayout]:
    """All layouts of a rank without reductions."""
    found: dict[TensorLayout, None] = {}
    for order in permutations(mesh.shape):
        for places in product((None, *range(rank)), repeat=len(order)):
            dims = [tuple(a for a, p in zip(order, places, strict=True) if p == d) for d in range(rank)]
            found[TensorLayout(mesh, *(TensorShard(*d) if d else R for d in dims))] = None
    return list(found)


def test_what_a_layout_says() -> None:
    layout = lay(S("x"), R, y="sum")
    assert repr(layout) == "[S(x), R] + sum(y)"
    assert layout.varies == {"x", "y"}
    assert layout.local_shape((8, 5)) == (4, 5)
    assert layout.global_shape((4, 5)) == (8, 5)
    assert layout.without("y") == lay(S("x"), R)
    assert layout.with_dim(1, R) == layout
    assert (layout.dim_of("x"), layout.dim_of("y")) == (0, None)
    assert layout != lay(S("x"), R) != lay(R, S("x"))
    assert hash(layout) == hash(lay(S("x"), R, y="sum"))
    assert (Shard, Replicate) == (TensorShard, TensorReplicate)
    assert lay(S("y", "x"), R).local_shape((12, 1)) == (2, 1)
    assert lay(R, R).local_shape((0, 7)) == (0, 7)
    assert lay(S("x"), R).local_shape((0, 7)) == (0, 7)


def test_meshes_are_their_axes_in_order() -> None:
    assert Mesh(x=2, y=3) == MESH != Mesh(y=3, x=2)
    assert (MESH.size, dict(MESH.shape), repr(MESH)) == (6, {"x": 2, "y": 3}, "Mesh(x=2, y=3)")


JOINS = [
    (R, R, R),
    (R, S("x"), S("x")),
    (S("x"), R, S("x")),
    (S("x"), S("x"), S("x")),
    (S("x"), S("y"), None),
    (S("x", "y"), S("x"), None),
    (S("x", "y"), S("x", "y"), S("x", "y")),
]


@pytest.mark.parametrize(("a", "b", "want"), JOINS)
def test_the_join_of_a_dimension(
    a: TensorShard | TensorReplicate, b: TensorShard | TensorReplicate, want: TensorShard | TensorReplicate | None
) -> None:
    if want is None:
        with pytest.raises(LayoutIncompatibleError, match="PTO891"):
            tensor_layout_join(lay(a), lay(b))
    else:
        assert tensor_layout_join(lay(a), lay(b)) == lay(want)


def test_joins_commute_and_associate_and_have_a_unit() -> None:
    def join(*layouts: TensorLayout) -> TensorLayout | None:
        try:
            return tensor_layout_join(*layouts)
        except LayoutIncompatibleError:
            return None

    all_of_them = every(MESH, 2)
    for a, b in product(all_of_them, repeat=2):
        ab = join(a, b)
        assert ab == join(b, a)
        assert join(a, a) == a == join(a, lay(R, R))
        assert ab is None or join(ab, a) == ab
    for a, b, c in product(all_of_them[::3], repeat=3):
        ab, bc = join(a, b), join(b, c)
        if ab is not None and bc is not None:
            assert join(ab, c) == join(a, bc)


def test_what_is_pending_has_no_join() -> None:
    with pytest.raises(TypeCheckError, match="PTO892"):
        tensor_layout_join(lay(R, x="max"))


def test_moves_lead_from_any_layout_to_any() -> None:
    """Each step done on the parts of all devices, as collectives do them."""
    mesh = Mesh(x=2, y=2)
    whole = np.arange(64).reshape(8, 8)
    devices = [dict(zip(mesh.shape, c, strict=True)) for c in product(range(2), repeat=2)]
    for a, b in product(every(mesh, 2), repeat=2):
        parts: list[Array] = [part(whole, a, d) for d in devices]
        for kind, axis, dim, to in moves(a, b):
            new: list[Array] = []
            for x, d in zip(parts, devices, strict=True):
                others = [parts[devices.index({**d, axis: j})] for j in range(2)]
                if kind == "slice":
                    new.append(np.split(x, 2, to)[d[axis]])
                elif kind == "allgather":
                    new.append(np.concatenate(others, dim))
                else:
                    new.append(np.concatenate([np.split(o, 2, to)[d[axis]] for o in others], dim))
            parts = new
        for x, d in zip(parts, devices, strict=True):
            np.testing.assert_array_equal(x, part(whole, b, d))


def test_moves_exchange_rather_than_gather() -> None:
    assert moves(lay(S("x"), R), lay(R, S("x"))) == [("alltoall", "x", 0, 1)]
    assert moves(lay(R, R), lay(S("x", "y"), R)) == [("slice", "x", 0, 0), ("slice", "y", 0, 0)]
    assert moves(lay(S("x", "y"), R), lay(S("x"), S("y"))) == [("alltoall", "y", 0, 1)]
    assert moves(lay(S("x"), R), lay(S("x"), R)) == []
