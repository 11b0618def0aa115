"""Kernels that are C++: what their parameters are there, where it comes from, and what goes with artifacts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pto_wsp import (
    CompileError,
    Constexpr,
    DType,
    In,
    InOut,
    KernelError,
    Out,
    P,
    Program,
    Scalar,
    ScheduleError,
    Tensor,
    Tile,
    TraceError,
    fuse,
    kernel,
    workload,
)
from pto_wsp.cxx import compiler
from pto_wsp.errors import IRConversionError
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify

F32, F16, BF16, I32, BOOL = DType.F32, DType.F16, DType.BF16, DType.I32, DType.BOOL
HERE = Path(__file__)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path / "cache"))


@kernel(
    cpp_src="""
    for (int i = 0; i < x.rows(); ++i)
      for (int j = 0; j < x.cols(); ++j) y(i, j) = x(i, j) > 0.5f ? s * x(i, j) + n : -x.row(i)[j];
""",
    cost=lambda x, y: 7 + x.rows * x.cols // 4 + y.shape[1],
)
def scale(x: In[Tile[4, 20, F32]], s: Scalar[F32], n: Constexpr[int], y: Out[Tile[4, 20, F32]]): ...


@workload
def scaled(x, y, s, n):
    for i in P(x.tiles(4)):
        scale[i](x=x[i], s=s, n=n, y=y[i])


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).random(shape).astype(dtype)


def test_tails_scalars_and_constants() -> None:
    x = numbers(10, 20)
    y = np.full_like(x, 7)
    scaled(x, y, 1.5, 3).compile().run()
    np.testing.assert_array_equal(y, np.where(x > 0.5, np.float32(1.5) * x + np.float32(3), -x))


def test_memory_that_does_not_lie_side_by_side() -> None:
    x, y = numbers(20, 10).T, np.zeros((10, 40), np.float32)[:, ::2]
    scaled(x, y, 1.0, 0).compile().run()
    np.testing.assert_array_equal(y, np.where(x > 0.5, x, -x))
    odd = np.zeros(10 * 20 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(10, 20)
    odd[...] = x
    z = np.zeros((10, 20), np.float32)
    scaled(odd, z, 1.0, 0).compile().run()
    np.testing.assert_array_equal(z, y)


def test_each_constant_is_a_kernel_of_its_own() -> None:
    x, y, z = numbers(4, 20), np.zeros((4, 20), np.float32), np.zeros((4, 20), np.float32)

    @workload
    def both(x, y, z):
        scale(x=x, s=1.0, n=1, y=y)
        scale(x=x, s=1.0, n=2, y=z)

    both(x, y, z).compile().run()
    np.testing.assert_array_equal(z[x > 0.5], x[x > 0.5] + np.float32(2))
    np.testing.assert_array_equal(y[x > 0.5], x[x > 0.5] + np.float32(1))


def test_costs() -> None:
    assert scale.cost(n=1) == 7 + 4 * 20 // 4 + 20
    program = scaled(numbers(10, 20), np.zeros((10, 20), np.float32), 1.0, 0).compile()
    program.run()
    assert program.stats.total_cycles == 7 + 4 * 20 // 4 + 20  # three tasks on four lanes
    pipes = scaled(numbers(4, 20), np.zeros((4, 20), np.float32), 1.0, 0).compile(arch="ascend_a2a3:pipes").run()
    assert pipes.stats.total_cycles == scale.cost("ascend_a2a3:pipes", n=0) == 47

    @kernel(cpp_src="y(0, 0) = 1;")
    def moved(y: Out[Tile[1, 1, F32]]): ...

    assert moved.cost() > 0


def test_half_precision_is_rounded_as_everywhere() -> None:
    @kernel(
        cpp_src="for (int j = 0; j < x.cols(); ++j) { h(0, j) = x(0, j); b(0, j) = x(0, j); y(0, j) = h(0, j) + b(0, j); }"
    )
    def halves(
        x: In[Tile[1, 64, F32]], h: Out[Tile[1, 64, F16]], b: Out[Tile[1, 64, BF16]], y: Out[Tile[1, 64, F32]]
    ): ...

    @workload
    def w(x, h, b, y):
        for i in P(x.tiles(1)):
            halves[i](x=x[i], h=h[i], b=b[i], y=y[i])

    bits = np.random.default_rng(1).integers(0, 2**32, 64 * 64, np.uint32)
    edges = [
        0,
        0x80000000,
        0x7F800000,
        0xFF800000,
        0x7FC00000,
        0x33000000,
        0x33000001,
        0x387FFFFF,
        0x477FEFFF,
        0x477FF000,
    ]
    bits[: len(edges)] = edges
    bits[64:2048] = 0x30000000 + bits[64:2048] % 0x18000000
    x = bits.view(np.float32).reshape(64, 64)
    h, b = np.zeros((64, 64), np.float16), np.zeros((64, 64), ml_dtypes.bfloat16)
    y = np.zeros((64, 64), np.float32)
    w(x, h, b, y).compile().run()
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(h, x.astype(np.float16))
        np.testing.assert_array_equal(b.astype(np.float32), x.astype(ml_dtypes.bfloat16).astype(np.float32))
        np.testing.assert_array_equal(y, h.astype(np.float32) + b.astype(np.float32))


def test_regions_of_any_length() -> None:
    @kernel(cpp_src="for (int k = 0; k < x.size(0); ++k) y(0, 0) += x(k, 1) * x(k, 0);", cost=lambda x: 10 + x.shape[0])
    def dot(x: In[Tensor[None, 2, F32]], y: InOut[Tile[1, 1, F32]]): ...

    @workload
    def dots(x, n, y):
        for i in P(x.shape[0]):
            dot[i](x=x[i, : n[i]], y=y[i])

    x, n, y = numbers(3, 9, 2), np.array([9, 0, 4], np.int32), np.ones((3, 1, 1), np.float32)
    program = dots(x, n, y).compile().run()
    for i in range(3):
        assert y[i, 0, 0] == pytest.approx(1 + float((x[i, : n[i], 0] * x[i, : n[i], 1]).sum()), rel=1e-5)
    assert program.stats.total_cycles == 19
    y[:] = 1
    dots(x, n, y).compile(check="numerics").run()


def test_bools_and_integers() -> None:
    @kernel(cpp_src="for (int j = 0; j < x.cols(); ++j) m(0, j) = x(0, j) % 2 == r;")
    def odd(x: In[Tile[1, 8, I32]], r: Scalar[I32], m: Out[Tile[1, 8, BOOL]]): ...

    @workload
    def w(x, m):
        odd(x=x, r=1, m=m)

    x, m = np.arange(8, dtype=np.int32).reshape(1, 8), np.zeros((1, 8), np.bool_)
    w(x, m).compile(check="all").run()
    np.testing.assert_array_equal(m, x % 2 == 1)


def test_the_evaluator_runs_the_same_function() -> None:
    x, y = numbers(3, 20), np.zeros((3, 20), np.float32)
    scale.evaluate(x=x, s=2.0, n=1, y=y)
    np.testing.assert_array_equal(y, np.where(x > 0.5, np.float32(2) * x + np.float32(1), -x))
    z = np.zeros((10, 20), np.float32)
    scaled(numbers(10, 20), z, 1.0, 0).compile(check="numerics").run()
    assert z.any()


def test_an_artifact_has_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = numbers(4, 20), np.zeros((4, 20), np.float32)
    w = scaled(x, y, 1.0, 5)
    assert show(parse(show(w.wir))) == show(w.wir)
    program = w.compile()
    program.save(tmp_path / "a.pto")
    monkeypatch.setenv("PTO_WSP_CACHE_DIR", str(tmp_path / "other"))
    Program.load(tmp_path / "a.pto").bind({"x": x, "y": y}).run()
    assert y.max() > 5
    monkeypatch.setenv("CXX", "/there/is/none")
    with pytest.raises(CompileError, match="PTO412"):
        Program.load(tmp_path / "a.pto")


def test_files_and_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/twice.hpp").write_text(
        '#pragma once\n#include "once.hpp"\ninline float twice(float x) { return 2 * once(x); }\n'
    )
    (tmp_path / "sub/once.hpp").write_text("#pragma once\ninline float once(float x) { return x; }\n")
    (tmp_path / "unit.cpp").write_text(
        '#include "sub/once.hpp"\n#include "sub/twice.hpp"\n#include <pto_wsp/cpp_kernel.hpp>\n'
        "void unit(const pto_wsp::Tile<const float, 1, 4>& x, std::int64_t n, const pto_wsp::Tile<float, 1, 4>& y) {\n"
        "  for (int j = 0; j < x.cols(); ++j) y(0, j) = twice(once(x(0, j))) + n;\n}\n"
    )
    (tmp_path / "body.cpp").write_text("for (int j = 0; j < x.cols(); ++j) y(0, j) = std::sqrt(twice(x(0, j)));\n")

    @kernel(cpp_tu_path=tmp_path / "unit.cpp")
    def unit(x: In[Tile[1, 4, F32]], n: Constexpr[int], y: Out[Tile[1, 4, F32]]): ...

    @kernel(cpp_body_path=str(tmp_path / "body.cpp"), cpp_includes=["<cmath>", str(tmp_path / "sub/twice.hpp")])
    def body(x: In[Tile[1, 4, F32]], y: Out[Tile[1, 4, F32]]): ...

    @workload
    def w(x, y, z):
        unit(x=x, n=3, y=y)
        body(x=x, y=z)

    x = numbers(1, 4)
    y, z = np.zeros_like(x), np.zeros_like(x)
    program = w(x, y, z).compile().run()
    np.testing.assert_array_equal(y, 2 * x + 3)
    np.testing.assert_array_equal(z, np.sqrt(2 * x))
    data = program.to_bytes()
    for path in (*tmp_path.glob("*.cpp"), *tmp_path.glob("sub/*")):
        path.unlink()
    Program.from_bytes(data).bind({"x": x, "y": z, "z": y}).run()  # all of it is in the artifact
    np.testing.assert_array_equal(z, 2 * x + 3)


def test_an_error_in_a_file_shows_its_line(tmp_path: Path) -> None:
    (tmp_path / "h.hpp").write_text("int broken = ;\n")
    (tmp_path / "unit.cpp").write_text('\n#include "h.hpp"\n\nvoid other() { nothing(); }\n')

    @kernel(cpp_tu_path=tmp_path / "unit.cpp")
    def unit(y: Out[Tile[1, 4, F32]]): ...

    @workload
    def w(y):
        unit(y=y)

    y = np.zeros((1, 4), np.float32)
    with pytest.raises(CompileError, match="PTO413") as caught:
        w(y).compile()
    assert "h.hpp:1" in str(caught.value)
    (tmp_path / "h.hpp").write_text("\n")
    with pytest.raises(CompileError, match="PTO413") as caught:
        w(y).compile()
    assert caught.value.loc is not None
    assert (caught.value.loc.file, caught.value.loc.line) == (str(tmp_path / "unit.cpp"), 4)
    assert "4 | void other() { nothing(); }\n  |                ^" in str(caught.value)
    (tmp_path / "unit.cpp").write_text("void other() {}\n")
    with pytest.raises(CompileError, match="PTO414") as caught:
        w(y).compile()
    assert "wanted: void unit(const pto_wsp::Tile<float, 1, 4>& y)" in str(caught.value)
    (tmp_path / "unit.cpp").write_text("void unit(int) {}\n")
    with pytest.raises(CompileError, match="PTO414"):
        w(y).compile()


def test_an_exception_of_any_type() -> None:
    @kernel(
        cpp_src="""
            struct Mute : std::exception { const char* what() const noexcept override { return nullptr; } };
            if (x(0, 0) == 1) throw std::runtime_error("no " + std::to_string(x.cols()));
            if (x(0, 0) == 2) throw 5;
            if (x(0, 0) == 3) throw Mute();
            y(0, 0) = 1;
        """,
        cpp_includes=["<string>"],
    )
    def k(x: In[Tile[1, 8, F32]], y: Out[Tile[1, 8, F32]]): ...

    @workload
    def w(x, y):
        for i in P(x.tiles(1)):
            k[i](x=x[i], y=y[i])

    x, y = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    program = w(x, y).compile()
    x[5, 0], x[6, 0] = 1, 2
    with pytest.raises(KernelError, match=r"(?s)its C\+\+ threw: no 8.*i=5"):
        program.run()
    assert y[:5, 0].all()
    x[5, 0] = 0
    with pytest.raises(KernelError, match=r"something that is no std::exception"):
        program.run()
    x[6, 0] = 3
    with pytest.raises(KernelError, match=r"an exception that says nothing"):
        program.run()
    x[6, 0] = 0
    program.run()
    with pytest.raises(KernelError, match="threw"):
        k.evaluate(x=np.full((1, 8), 2, np.float32), y=y[:1])


def test_a_kernel_of_cpp_is_not_fused() -> None:
    @workload
    def w(x, y, z):
        for i in P(x.tiles(4)):
            scale[i](x=x[i], s=1.0, n=0, y=y[i])
            scale[i](x=y[i], s=1.0, n=0, y=z[i])

    x = numbers(8, 20)
    with pytest.raises(ScheduleError, match="is C"):
        fuse(loop="i")(w(x, np.zeros_like(x), np.zeros_like(x)))


def test_a_wir_that_mixes_cpp_with_operations_is_refused() -> None:
    text = show(scaled(numbers(4, 20), np.zeros((4, 20), np.float32), 1.0, 5).wir)
    row = next(r for r in text.splitlines() if "cpp[" in r)
    for wrong in (f"{row}\n{row}", row.replace("writes=[2]", "writes=[0]"), row.replace(" x s y", " x s")):
        with pytest.raises(IRConversionError):
            verify(parse(text.replace(row, wrong)), "traced")


def test_a_compiler_that_is_a_command_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiler.compiler().command[0]
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'import os, sys; os.execv(sys.argv[1], sys.argv[1:])' {program}")
    x, y = numbers(4, 20), np.zeros((4, 20), np.float32)
    scaled(x, y, 1.0, 11).compile().run()
    assert y.max() > 11


def test_what_the_file_is_called_does_not_change_the_artifact() -> None:
    x, y = numbers(4, 20), np.zeros((4, 20), np.float32)
    assert str(HERE) not in scaled(x, y, 1.0, 5).compile().wir


@pytest.mark.parametrize("rest", ["y(0, 0) = 1; {", "y(0, 0) = 1; }"])
def test_braces_without_another_half_are_told_where_the_text_ends(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "body.cpp"
    path.write_text(f"int i = 0;\n(void)i;\n{rest}\n\n")

    @kernel(cpp_body_path=path)
    def body(y: Out[Tile[1, 4, F32]]): ...

    @workload
    def w(y):
        body(y=y)

    with pytest.raises(CompileError, match=r"PTO413.*has no other half") as caught:
        w(np.zeros((1, 4), np.float32)).compile()
    assert caught.value.loc is not None
    assert (caught.value.loc.file, caught.value.loc.line) == (str(path), 3)


@pytest.mark.parametrize("name", ["s", "n"])
def test_a_cost_takes_no_numbers(name: str) -> None:
    cost = {"s": lambda x, s: x.rows * s, "n": lambda x, n: x.rows * n}[name]

    @kernel(cpp_src="y(0, 0) = s * x(0, 0) + n;", cost=cost)
    def k(x: In[Tile[4, 20, F32]], s: Scalar[F32], n: Constexpr[int], y: Out[Tile[4, 20, F32]]): ...

    with pytest.raises(TraceError, match=f"cost takes {name}, which is a number") as caught:
        k.wir(n=3)
    assert (
        caught.value.fix
        == "name tiles and regions of the kernel: x, y; a cost knows their sizes, no scalars and no Constexpr"
    )
