"""Type rules: result types, valid shapes, and one error for each mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pto_wsp import Constexpr, Out, Tile, kernel, workload
from pto_wsp import ops as pto
from pto_wsp.errors import CompileError, PtoError, TraceError, TypeCheckError
from pto_wsp.ir.build import KernelBuilder, tracing_kernel
from pto_wsp.ir.core import Check, Direction, DType, Literal, TileType, Typed
from pto_wsp.ops.table import rows
from pto_wsp.ops.value import Value

F32, F16, BF16, I32, BOOL = DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum"]
UNARY = [
    "neg",
    "abs",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "tanh",
    "erf",
    "sin",
    "cos",
    "floor",
    "ceil",
    "rint",
]
UNARY += ["trunc", "sigmoid", "relu", "gelu", "silu", "softmax", "rmsnorm", "layernorm"]


def shows(v: Value, text: str) -> bool:
    return str(v.type) == text


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(PtoError) as e:
        call()
    assert e.value.loc is not None
    assert e.value.loc.file == __file__
    assert e.value.fix
    return e.value.code


@pytest.mark.parametrize("name", BINARY)
def test_binary(k: Any, name: str) -> None:
    f = getattr(pto, name)
    x, row, col = k.tile("x", 16, 128), k.tile("row", 1, 128), k.tile("col", 16, 1)
    assert shows(f(x, x), "f32<16x128 of x.rows x x.cols>")
    assert shows(f(x, row), "f32<16x128 of x.rows x x.cols>")
    assert shows(f(col, x), "f32<16x128 of col.rows x x.cols>")
    assert shows(f(col, row), "f32<16x128 of col.rows x row.cols>")
    assert shows(f(2, x), "f32<16x128 of x.rows x x.cols>")
    assert k.last.ins[0] == Literal(2.0, F32)
    assert shows(f(x, k.scalar("s")), "f32<16x128 of x.rows x x.cols>")
    assert shows(f(k.tile("h", 5, 7, BF16), 0.1), "bf16<5x7 of h.rows x h.cols>")
    assert code_of(lambda: f(x, k.tile("y", 16, 64))) == "PTO103"
    assert code_of(lambda: f(x, k.tile("z", 16, 128, F16))) == "PTO102"
    assert code_of(lambda: f(x, k.scalar("t", I32))) == "PTO102"
    assert code_of(lambda: f(k.tile("m", 4, 4, BOOL), k.tile("n", 4, 4, BOOL))) == "PTO104"
    assert code_of(lambda: f(x, "1")) == "PTO105"
    assert code_of(lambda: f(x, None)) == "PTO105"
    assert code_of(lambda: f(1.0, 2.0)) == "PTO105"
    assert shows(f(k.scalar("u"), 2.0), "f64")
    assert code_of(lambda: f(x, 1e40)) == "PTO109"


@pytest.mark.parametrize("name", UNARY)
def test_unary(k: Any, name: str) -> None:
    f = getattr(pto, name)
    assert shows(f(k.tile("x", 5, 7)), "f32<5x7 of x.rows x x.cols>")
    assert shows(f(k.tile("h", 5, 7, F16)), "f16<5x7 of h.rows x h.cols>")
    assert code_of(lambda: f(k.tile("b", 5, 7, BOOL))) == "PTO104"
    assert code_of(lambda: f(1.0)) == "PTO105"
    if name in ("neg", "abs"):
        assert shows(f(k.scalar("s")), "f64")
    else:
        assert code_of(lambda: f(k.scalar("s"))) == "PTO105"
    assert code_of(lambda: f([1.0])) == "PTO105"


def test_numbers_must_fit(k: Any) -> None:
    i = k.tile("i", 4, 4, I32)
    assert code_of(lambda: i + 1.5) == "PTO109"
    assert code_of(lambda: i + 2**31) == "PTO109"
    assert code_of(lambda: i + True) == "PTO109"
    assert code_of(lambda: k.tile("h", 4, 4, F16) * 70000.0) == "PTO109"
    for bad in (500, 470.0, -1e6, 10**30, math.inf):  # it has no infinity
        assert code_of(lambda bad=bad: pto.full((1, 1), bad, DType.F8E4M3)) == "PTO109"
    assert pto.full((1, 1), 460, DType.F8E4M3).shape == (1, 1)  # to the nearest, 448
    pto.full((1, 1), math.nan, DType.F8E4M3)
    pto.full((1, 1), math.inf, DType.F8E5M2)
    for long in (10**400, -(10**5000)):
        with pytest.raises(TypeCheckError, match=r"full: an integer of \d+ bits does not fit f32\n"):
            pto.full((1, 1), long)
    assert shows(k.tile("g", 4, 4, F16) * float("inf"), "f16<4x4 of g.rows x g.cols>")
    assert shows(i + (-(2**31)), "i32<4x4 of i.rows x i.cols>")


def test_operators_are_the_operations(k: Any) -> None:
    x, m = k.tile("x", 4, 4), k.tile("m", 4, 4, BOOL)
    for value, name in (
        *(
            (x + 1, "add"),
            (1 + x, "add"),
            (x - 1, "sub"),
            (1 - x, "sub"),
            (x * 2, "mul"),
            (x / 2, "div"),
            (2 / x, "div"),
        ),
        *(
            (-x, "neg"),
            (abs(x), "abs"),
            (x @ x, "matmul"),
            (x < 1, "lt"),
            (x <= 1, "le"),
            (x > 1, "gt"),
            (x >= 1, "ge"),
        ),
        *((x == 1, "eq"), (x != 1, "ne"), (m & m, "logical_and"), (m | m, "logical_or"), (~m, "logical_not")),
    ):
        assert next(e.prim for e in k.builder.eqns if value.read() in e.outs) == name


def test_valid_shapes_that_may_differ_are_left_to_the_task(k: Any) -> None:
    x, y, r = k.tile("x", 16, 128).read(), k.tile("y", 16, 128).read(), k.tile("r", 16, 1).read()
    from pto_wsp.ir.core import PRIMITIVES

    rule = PRIMITIVES["add"].type
    assert rule is not None
    assert rule({}, x.type, y.type).checks == (Check("eq", "x.rows", "y.rows"), Check("eq", "x.cols", "y.cols"))
    assert rule({}, x.type, r.type).checks == (Check("eq", "x.rows", "r.rows"),)
    assert rule({}, x.type, TileType(F32, 16, 128)) == Typed(x.type)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons(k: Any, name: str) -> None:
    f = getattr(pto, name)
    assert shows(f(k.tile("x", 4, 8), 0), "bool<4x8 of x.rows x x.cols>")
    assert shows(f(k.tile("i", 4, 8, I32), k.tile("c", 4, 1, I32)), "bool<4x8 of i.rows x i.cols>")
    m = k.tile("m", 4, 8, BOOL)
    if name in ("eq", "ne"):
        assert shows(f(m, True), "bool<4x8 of m.rows x m.cols>")
    else:
        assert code_of(lambda: f(m, m)) == "PTO104"


def test_logic(k: Any) -> None:
    m = k.tile("m", 4, 8, BOOL)
    assert shows(pto.logical_and(m, k.tile("c", 4, 1, BOOL)), "bool<4x8 of m.rows x m.cols>")
    assert shows(pto.logical_or(m, False), "bool<4x8 of m.rows x m.cols>")
    assert code_of(lambda: pto.logical_and(k.tile("x", 4, 8), k.tile("y", 4, 8))) == "PTO104"
    assert code_of(lambda: pto.logical_not(k.tile("z", 4, 8, I32))) == "PTO104"
    assert code_of(lambda: pto.logical_and(m, 1)) == "PTO109"


def test_where(k: Any) -> None:
    m, x = k.tile("m", 4, 8, BOOL), k.tile("x", 4, 8, F16)
    assert shows(pto.where(m, x, 0.0), "f16<4x8 of m.rows x m.cols>")
    assert shows(pto.where(m, 1.0, 2), "f32<4x8 of m.rows x m.cols>")
    assert shows(pto.where(m, m, False), "bool<4x8 of m.rows x m.cols>")
    assert shows(pto.where(k.tile("c", 4, 1, BOOL), k.tile("r", 1, 8), k.scalar("s")), "f32<4x8 of c.rows x r.cols>")
    assert code_of(lambda: pto.where(x, x, x)) == "PTO104"
    assert code_of(lambda: pto.where(True, x, x)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.where(m, x, k.tile("y", 4, 8))) == "PTO102"
    assert code_of(lambda: pto.where(m, x, k.tile("w", 4, 4, F16))) == "PTO103"
    assert code_of(lambda: pto.where(k.scalar("b", BOOL), x, x)) == "PTO105"


def test_cast(k: Any) -> None:
    x = k.tile("x", 4, 8)
    for dtype in DType:
        assert shows(pto.cast(x, dtype), f"{dtype}<4x8 of x.rows x x.cols>")
    before = len(k.builder.eqns)
    pto.cast(x, F32)
    assert len(k.builder.eqns) == before
    assert code_of(lambda: pto.cast(x, "f16")) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.cast(1.0, F16)) == "PTO105"  # type: ignore[arg-type]
    assert shows(pto.cast(k.scalar("s"), F16), "f16")


@pytest.mark.parametrize("op", ["sum", "max", "min", "prod", "mean"])
def test_reductions(k: Any, op: str) -> None:
    rows_of, cols_of = getattr(pto, f"row{op}"), getattr(pto, f"col{op}")
    assert shows(rows_of(k.tile("x", 16, 128)), "f32<16x1 of x.rows x 1>")
    assert shows(cols_of(k.tile("h", 16, 128, BF16)), "bf16<1x128 of 1 x h.cols>")
    i = k.tile("i", 16, 128, I32)
    if op == "mean":
        assert code_of(lambda: rows_of(i)) == "PTO104"
    else:
        assert shows(rows_of(i), "i32<16x1 of i.rows x 1>")
    assert code_of(lambda: rows_of(k.tile("m", 4, 4, BOOL))) == "PTO104"
    assert code_of(lambda: cols_of(3.0)) == "PTO105"


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_row_and_column_vectors(k: Any, op: str) -> None:
    by_row, by_col = getattr(pto, f"row{op}"), getattr(pto, f"col{op}")
    x, row, col = k.tile("x", 16, 128), k.tile("row", 1, 128), k.tile("col", 16, 1)
    assert shows(by_row(x, col), "f32<16x128 of x.rows x x.cols>")
    assert k.last.prim == op
    assert shows(by_col(x, row), "f32<16x128 of x.rows x x.cols>")
    assert code_of(lambda: by_row(x, row)) == "PTO108"
    assert code_of(lambda: by_col(x, col)) == "PTO108"
    assert code_of(lambda: by_row(x, x)) == "PTO108"
    assert code_of(lambda: by_row(x, 1.0)) == "PTO105"
    assert code_of(lambda: by_row(x, k.tile("h", 16, 1, F16))) == "PTO102"


def test_broadcast(k: Any) -> None:
    assert shows(pto.broadcast(k.tile("c", 16, 1), (16, 8)), "f32<16x8 of c.rows x 8>")
    assert shows(pto.broadcast(k.tile("r", 1, 8, I32), (16, 8)), "i32<16x8 of 16 x r.cols>")
    assert shows(pto.broadcast(k.tile("s", 1, 1, BOOL), [2, 3]), "bool<2x3>")
    x = k.tile("x", 16, 8)
    assert shows(pto.broadcast(x, (16, 8)), "f32<16x8 of x.rows x x.cols>")
    assert k.last.prim == "load"
    assert code_of(lambda: pto.broadcast(x, (32, 8))) == "PTO103"
    assert code_of(lambda: pto.broadcast(x, 8)) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.broadcast(2.0, (2, 2))) == "PTO105"  # type: ignore[arg-type]


def test_matmul(k: Any) -> None:
    a, b = k.tile("a", 16, 64, F16), k.tile("b", 64, 32, F16)
    assert shows(pto.matmul(a, b), "f32<16x32 of a.rows x b.cols>")
    at, bt = k.tile("at", 64, 16, F16), k.tile("bt", 32, 64, F16)
    assert shows(pto.matmul(at, bt, transpose_a=True, transpose_b=True), "f32<16x32 of at.cols x bt.rows>")
    assert shows(pto.matmul(a, bt, transpose_b=True), "f32<16x32 of a.rows x bt.rows>")
    c = k.tile("c", 16, 32)
    assert shows(pto.matmul(a, b, c), "f32<16x32 of a.rows x b.cols>")
    assert shows(pto.matmul(a, b, pto.full((16, 32), 0.0)), "f32<16x32 of a.rows x b.cols>")
    i = k.tile("i", 8, 8, I32)
    assert shows(pto.matmul(i, i), "i32<8x8 of i.rows x i.cols>")
    assert code_of(lambda: pto.matmul(a, bt)) == "PTO101"
    assert code_of(lambda: a @ a) == "PTO101"
    assert code_of(lambda: pto.matmul(a, k.tile("f", 64, 32))) == "PTO102"
    assert code_of(lambda: pto.matmul(k.tile("m", 4, 4, BOOL), k.tile("n", 4, 4, BOOL))) == "PTO104"
    assert code_of(lambda: pto.matmul(a, 2.0)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: a @ 2.0) == "PTO105"
    assert code_of(lambda: pto.matmul(a, b, 0.0)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.matmul(a, b, transpose_b=1)) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.matmul(a, b, k.tile("h", 16, 32, F16))) == "PTO107"
    assert code_of(lambda: pto.matmul(a, b, k.tile("w", 16, 16))) == "PTO107"


def test_matmul_says_how_to_fix_it(k: Any) -> None:
    a = k.tile("a", 16, 64)
    with pytest.raises(TypeCheckError, match="but 64 is not 32") as e:
        pto.matmul(a, k.tile("b", 32, 64))
    assert "transpose_b=True" in e.value.fix
    with pytest.raises(TypeCheckError) as e:
        pto.matmul(a, k.tile("c", 64, 32), transpose_b=True)
    assert "transpose_b=False" in e.value.fix


def test_matmul_checks_the_valid_inner_dimension(k: Any) -> None:
    from pto_wsp.ir.core import PRIMITIVES

    rule = PRIMITIVES["matmul"].type
    assert rule is not None
    a, b, c = (
        TileType(F32, 4, 8, "a.rows", "a.cols"),
        TileType(F32, 8, 2, "b.rows", "b.cols"),
        TileType(F32, 4, 2, "c.rows", "c.cols"),
    )
    flags = {"transpose_a": False, "transpose_b": False}
    assert rule(flags, a, b).checks == (Check("eq", "a.cols", "b.rows"),)
    assert rule(flags, a, b, c).checks == (
        Check("eq", "a.cols", "b.rows"),
        Check("eq", "a.rows", "c.rows"),
        Check("eq", "b.cols", "c.cols"),
    )
    assert rule(flags, TileType(F32, 4, 8), b).checks == ()


def test_normalisation(k: Any) -> None:
    x, g, b = k.tile("x", 16, 128, F16), k.tile("g", 1, 128, F16), k.tile("b", 1, 128, F16)
    for y in (
        pto.rmsnorm(x, g),
        pto.rmsnorm(x, g, 1e-3),
        pto.layernorm(x, g, b),
        pto.layernorm(x, beta=b),
        pto.rmsnorm(x, eps=0),
    ):
        assert shows(y, "f16<16x128 of x.rows x x.cols>")
    assert code_of(lambda: pto.rmsnorm(x, k.tile("c", 16, 1, F16))) == "PTO108"
    assert code_of(lambda: pto.layernorm(x, g, k.tile("s", 1, 64, F16))) == "PTO108"
    assert code_of(lambda: pto.rmsnorm(x, k.tile("f", 1, 128))) == "PTO102"
    assert code_of(lambda: pto.rmsnorm(x, 1.0)) == "PTO105"  # type: ignore[arg-type]
    assert code_of(lambda: pto.rmsnorm(x, eps=-1.0)) == "PTO106"
    assert code_of(lambda: pto.layernorm(x, eps=float("nan"))) == "PTO106"
    assert code_of(lambda: pto.rmsnorm(x, eps="small")) == "PTO106"  # type: ignore[arg-type]


def test_gelu_names_its_approximations(k: Any) -> None:
    x = k.tile("x", 4, 4)
    assert shows(pto.gelu(x, approximate="tanh"), "f32<4x4 of x.rows x x.cols>")
    assert code_of(lambda: pto.gelu(x, approximate="fast")) == "PTO106"


def test_memory(k: Any) -> None:
    x, y = k.tile("x", 4, 8), k.tile("y", 4, 8, direction=Direction.OUT)
    assert shows(pto.load(x), "f32<4x8 of x.rows x x.cols>")
    assert code_of(lambda: pto.load(y)) == "PTO123"
    pto.store(y, x)
    assert shows(pto.load(y), "f32<4x8 of y.rows x y.cols>")
    pto.store(y, 0.5)
    assert code_of(lambda: pto.store(x, y)) == "PTO124"
    assert code_of(lambda: pto.store(y, k.tile("z", 4, 4))) == "PTO125"
    assert code_of(lambda: pto.store(y, k.tile("h", 4, 8, F16))) == "PTO125"
    assert code_of(lambda: pto.store(pto.neg(x), x)) == "PTO105"
    assert code_of(lambda: pto.load(pto.neg(x))) == "PTO105"


def test_constants(k: Any) -> None:
    assert shows(pto.full((5, 7), float("nan")), "f32<5x7>")
    assert shows(pto.constant((5, 7), 1, BF16), "bf16<5x7>")
    assert shows(pto.full((5, 7), k.scalar("s", I32)), "i32<5x7>")
    assert shows(pto.full_like(k.tile("x", 3, 4, F16), 0), "f16<3x4>")
    assert shows(pto.iota((5, 7)), "i32<5x7>")
    assert code_of(lambda: pto.full((5,), 0.0)) == "PTO106"
    assert code_of(lambda: pto.full((0, 5), 0.0)) == "PTO106"
    assert code_of(lambda: pto.full((5, 5), 0.0, "f32")) == "PTO106"  # type: ignore[arg-type]
    assert code_of(lambda: pto.iota((5, 7), 2)) == "PTO106"


def test_a_value_of_another_kernel(k: Any) -> None:
    x = k.tile("x", 4, 4)
    with tracing_kernel(KernelBuilder("other")):
        assert code_of(lambda: x + 1) == "PTO130"
    assert issubclass(TypeCheckError, TraceError)


@pytest.mark.parametrize("row", list(rows()), ids=lambda r: r.name)
def test_the_table_lists_the_dtypes_that_work(k: Any, row: Any) -> None:
    if row.name in ("load", "store", "full", "full_like", "iota", "cast", "where", "item", "valid_shape", "restrict"):
        return
    if row.name in ("debug_print", "fori_loop", "cond", "tri", "random_bits", "sort32", "merge_sort"):
        return
    f = getattr(pto, row.name)
    more = {
        "broadcast": ((8, 8),),
        "slice": ((0, 2),),
        "reshape": ((4, 16),),
        "bincount": (3,),
        "topk": (3,),
        "lrelu": (3,),
        "extract_topk_indices": (3,),
    }.get(row.name, ())
    operands = row.shapes.split(" (,")[0].split(" -> ")[0].replace("[1, 1] or ", "").split("], ")
    for dtype in DType:
        tiles = []
        if row.name == "fill_pad":
            more = (dtype is DType.BOOL or 1,)
        for i, text in enumerate(operands):
            if text == "number":
                continue
            own = {"i32": I32, "f32": F32}.get(text.split(" ")[0]) if i else None
            m, n = (
                1 if part in ("1", "1]") else 8
                for part in text.removeprefix("i32 ")
                .removeprefix("f32 ")
                .strip("[] ")
                .split(" or ")[0]
                .strip("[]")
                .split(", ")
            )
            tiles.append(k.tile(f"{dtype}{i}", m, n, own or dtype))

        def call(tiles: list[Value] = tiles, more: tuple[Any, ...] = more) -> Any:
            return f(*tiles, *more)

        if dtype in row.dtypes:
            assert isinstance(call(), (Value, tuple))
        else:
            assert code_of(call) == "PTO104"


def test_options_of_any_kind_are_refused_by_code(k: Any) -> None:
    x, i = k.tile("x", 4, 4), k.tile("i", 4, 4, I32)
    for axis in (True, np.True_, np.array([0, 1]), np.zeros((2, 2)), x, 2, -1, 0.0, None, "0"):
        for f in (
            lambda a: pto.iota((2, 2), a),
            lambda a: pto.concat(x, x, a),
            lambda a: pto.gather(x, i, a),
            lambda a: pto.scatter(x, i, x, a),
            lambda a: pto.cumsum(x, a),
        ):
            with pytest.raises(TypeCheckError, match="needs axis 0 or 1") as e:
                f(axis)
            assert e.value.code == "PTO106"
    assert pto.iota((2, 2), np.int64(0)).shape == (2, 2)
    for option in (np.array(["rint", "floor"]), x, 1, ["rint"]):
        assert code_of(lambda option=option: pto.cast(x, I32, option)) == "PTO106"
        assert code_of(lambda option=option: pto.cast(x, I32, saturate=option)) == "PTO106"
        assert code_of(lambda option=option: pto.gelu(x, approximate=option)) == "PTO106"
    for nothing in (None, 1.0, np.zeros((4, 4)), k.scalar("s")):
        assert code_of(lambda nothing=nothing: pto.full_like(nothing, 1.0)) == "PTO105"


def test_errors_of_operations_made_of_others_name_what_the_user_wrote(k: Any) -> None:
    x, h, m, i = k.tile("x", 4, 4), k.tile("h", 4, 4, F16), k.tile("m", 4, 4, BOOL), k.tile("i", 4, 4, I32)
    for what, make in (
        ("clamp: maximum of different dtypes", lambda: pto.clamp(x, h, 1.0)),
        ("clamp: minimum of str", lambda: pto.clamp(x, 0.0, "1")),
        ("lrelu: mul of str", lambda: pto.lrelu(x, "0")),
        ("prelu: mul of different dtypes", lambda: pto.prelu(x, h)),
        ("part_add: add of different dtypes", lambda: pto.part_add(x, h)),
        ("part_mul does not exist for bool", lambda: pto.part_mul(m, m)),
        ("colargmax: transpose of float", lambda: pto.colargmax(1.0)),
        ("colargmin: rowargmin does not exist for bool", lambda: pto.colargmin(m)),
        ("full_like: full: 1.5 does not fit i32", lambda: pto.full_like(i, 1.5)),
        ("topk of 4 columns", lambda: pto.topk(x, 5)),
        ("extract_topk_indices of 4 columns", lambda: pto.extract_topk_indices(x, 5)),
        ("extract_topk_indices does not exist for bool", lambda: pto.extract_topk_indices(m, 2)),
        ("take: gather by an index does not exist for f32", lambda: pto.take(x, x)),
        ("put: scatter of different dtypes", lambda: pto.put(x, i, h)),
        ("slice_odd of float", lambda: pto.slice_odd(1.0)),
        ("rowadd: add of different dtypes", lambda: pto.rowadd(x, k.tile("c", 4, 1, F16))),
        (
            "merge_sort: concat: rows differ",
            lambda: pto.merge_sort((x, k.tile("y", 2, 4)), (i, k.tile("j", 2, 4, I32))),
        ),
        ("quantize: div of different dtypes", lambda: pto.quantize(x, k.scalar("s", I32))),
    ):
        with pytest.raises(PtoError) as e:
            make()  # type: ignore[no-untyped-call]
        assert e.value.what == what
        assert e.value.loc is not None and e.value.loc.file == __file__
        assert str(e.value).startswith(f"[{e.value.code}] {what}\n")


def test_every_operation_made_of_others_names_itself() -> None:
    made = [getattr(pto, r.name) for r in rows() if r.kind == "of others" and r.name != "valid_shape"]
    assert made
    assert all(hasattr(f, "__wrapped__") for f in made)


def test_the_largest_tile_is_the_runtimes() -> None:
    """2^28 elements of the widest dtype compile; one row more is refused where it is made."""

    @kernel
    def k(n: Constexpr[int], y: Out[Tile[1, 1, DType.F64]]):
        pto.store(y, pto.rowmax(pto.full((1, 2**28 + n), 1.0, DType.F64)))

    @workload
    def w(y: Any, n: Any) -> None:
        k(n=n, y=y)

    y = np.zeros((1, 1))
    w(y, 0).compile(threads=1)
    with pytest.raises(CompileError, match="full makes a tile of more than 2\\^28 elements\n  tile: f64<1x268435457>"):
        w(y, 1)
