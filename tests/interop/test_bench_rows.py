"""The rows of the benchmark that need jax: their figures, what they time, and what they say where something is missing."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pto_wsp import UnsupportedError
from pto_wsp.cxx.compiler import NoCompiler
from pto_wsp.tools.bench import __main__ as command
from pto_wsp.tools.bench import jax_calls, lowered, run

TINY: dict[str, dict[str, Any]] = {
    "jax_call": {"tile": [1, 8], "calls": 40},
    "jax_loop": {"tile": [1, 8], "iterations": 40},
    "jax_vmap": {"examples": 3, "calls": 2, "rmsnorm": [2, 8, 16], "attention": [[64, 16], [48, 16]]},
    "lowered_rmsnorm": {"rows": 9, "cols": 40},
    "lowered_softmax": {"rows": 9, "cols": 40},
    "lowered_attention": {"heads": 1, "s": 128, "causal": False},
    "lowered_prefill": {"heads": 1, "s": 256, "causal": True},
    "lowered_llama_block": {"layers": 1, "hidden": 16, "q_heads": 2, "kv_heads": 1, "head": 8, "ffn": 24, "s": 20},
    "lowered_decode": {"kv_lens": [5, 1100, 16], "heads": 2},
    "lowered_decode_contiguous": {"kv_lens": [5, 300, 16], "heads": 2},
}
FULL = ("lowered_softmax", "lowered_attention", "lowered_llama_block", "lowered_decode")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "of_lowering" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        names = [name for name in lowered.PAIRS if name in TINY]
        metafunc.parametrize("of_lowering", [name for name in names if full or name not in FULL])


def peers(name: str) -> list[str]:
    return next(row["peers"] for row in command.CASES["rows"] if row["name"] == name)


@pytest.mark.parametrize("name", ["jax_call", "jax_loop"])
def test_what_calls_cost(name: str) -> None:
    for threads in (1, 2):
        (row,) = run.run_row({"name": name, "shape": TINY[name]}, threads=threads, repeats=1)
        assert (row["name"], row["threads"], row["missing"]) == (name, threads, [])
        assert list(row["peers"]) == peers(name)
        assert row["us"] > 0 and min(row["peers"].values()) > 0
        assert row["us_above_empty"] == row["us"] - row["peers"][jax_calls.EMPTY]


def test_what_vmap_costs() -> None:
    (row,) = run.run_row({"name": "jax_vmap", "shape": TINY["jax_vmap"]}, threads=1, repeats=1)
    names = [f"{name}_{figure}" for name in ("rmsnorm", "attention") for figure in ("ms", "over_by_hand")]
    assert set(row) == {"name", "threads", "peers", "missing", *names}
    assert all(row[name] > 0 for name in names)


def test_both_ways_of_an_axis_compute_the_same() -> None:
    programs = jax_calls.vmap_programs(TINY["jax_vmap"], threads=2)
    exact = {
        "rmsnorm": lambda x: x / jnp.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6),
        "attention": lambda q, k, v: jax.nn.softmax(q @ k.mT / 4) @ v,
    }
    for name, f in exact.items():
        (by_vmap, given), (by_hand, same) = programs[name], programs[f"{name} by hand"]
        assert given is same
        got = by_vmap(*given)
        np.testing.assert_array_equal(got, by_hand(*given))
        np.testing.assert_allclose(got, f(*given), rtol=1e-4, atol=1e-5)


def test_a_workload_in_operations_of_jax_beside_the_same_by_hand(of_lowering: str) -> None:
    (row,) = run.run_row({"name": of_lowering, "shape": TINY[of_lowering]}, threads=1, repeats=1)
    assert set(row) == {"name", "threads", "ms", "by_hand_ms", "over_by_hand", "of_tolerance", "peers", "missing"}
    assert row["over_by_hand"] == row["ms"] / row["by_hand_ms"] > 0
    assert 0 < row["of_tolerance"] <= 1


def test_a_wrong_number_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: Any) -> Any:
        return 1.001 * lowered.rows.rmsnorm_of_jax(np, x)

    monkeypatch.setattr(lowered.rows, "exact_rmsnorm", wrong)
    with pytest.raises(SystemExit, match=r"lowered_rmsnorm, ours: the error is .* times what it may be"):
        lowered.lowered_row("lowered_rmsnorm", TINY["lowered_rmsnorm"], repeats=1)


def test_arms_compute_the_same_but_for_the_empty_one() -> None:
    bodies, missing = jax_calls._bodies(threads=1)
    assert missing == []
    x = jnp.arange(8, dtype=jnp.float32).reshape(1, 8)
    for name, body in bodies.items():
        y = jax.jit(body)(x)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        if name != jax_calls.EMPTY:
            np.testing.assert_array_equal(y, x + 1)


def test_without_a_compiler_the_empty_handler_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise NoCompiler("none")

    monkeypatch.setattr(jax_calls, "compiler", none)
    monkeypatch.setattr(jax_calls, "_empty_handler", jax_calls._empty_handler.__wrapped__)
    (row,) = run.run_row({"name": "jax_loop", "shape": TINY["jax_loop"]}, threads=1, repeats=1)
    assert set(row) == {"name", "threads", "us", "peers", "missing"}
    assert list(row["peers"]) == [jax_calls.CALLBACK]
    assert row["missing"] == ["C++ compiler, for the empty FFI handler"]


def test_without_the_handler_there_are_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise UnsupportedError("PTO880", "pto_wsp was built without the handler of XLA's custom calls", fix="")

    monkeypatch.setattr("pto_wsp_jax.register", refuse)
    (row,) = run.run_row({"name": "jax_call", "shape": TINY["jax_call"]}, threads=1, repeats=1)
    assert row == {"name": "jax_call", "threads": 1, "peers": {}, "missing": ["handler of pto_wsp_jax (PTO880)"]}
