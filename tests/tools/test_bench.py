"""The benchmark: each row computes what it says, its figures are those that are promised, and a wrong result shows."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from pto_wsp import DType
from pto_wsp.tools.bench import __main__ as command
from pto_wsp.tools.bench import arms, attention, lowered, pipelines, run, scheduling, table, tasks
from pto_wsp.tools.bench.arms import Arms

ULP = {"rmsnorm": 4, "rmsnorm_odd": 4, "softmax": 12, "softmax_odd": 12}  # other rows: units of n * eps, at most 1
TINY: dict[str, dict[str, Any]] = {
    "matmul_f32": {"shape": {"m": 32, "n": 48, "k": 16}, "flops": 49_152},
    "matmul_f32_odd": {"shape": {"m": 33, "n": 7, "k": 19}, "flops": 8_778},
    "matmul_bf16": {"shape": {"m": 32, "n": 48, "k": 16}, "flops": 49_152},
    "matmul_f16": {"shape": {"m": 32, "n": 48, "k": 16}, "flops": 49_152},
    "bmm_f32": {"shape": {"batch": 3, "m": 8, "n": 8, "k": 8}, "flops": 3_072},
    "rmsnorm": {"shape": {"rows": 64, "cols": 32}, "bytes": 16_384},
    "rmsnorm_odd": {"shape": {"rows": 61, "cols": 7}, "bytes": 3_416},
    "softmax": {"shape": {"rows": 64, "cols": 32}, "bytes": 16_384},
    "softmax_odd": {"shape": {"rows": 61, "cols": 7}, "bytes": 3_416},
    "decode_attention": {"shape": {"kv_lens": [1, 16, 300, 129], "heads": 2}},
    "decode_attention_many": {"shape": {"kv_lens": [17, 128, 15], "heads": 1}},
    "prefill_attention": {"shape": {"heads": 2, "s": 256}, "flops": 33_685_504},
    "moe_two_matmul": {"shape": {"tokens": 40, "hidden": 16, "ffn": 24, "experts": 4, "top": 2}, "flops": 122_880},
    "llama_block": {"shape": {"layers": 2, "hidden": 64, "q_heads": 4, "kv_heads": 2, "head": 16, "ffn": 48, "s": 96}},
}


SPECIAL = {
    "tasks_1us",
    "tasks_directives",
    "tasks_8_threads",
    "execute_100",
    "simulate",
    "simulate_processes",
    "tokens",
    "pipeline_20us",
    "jax_call",
    "jax_loop",
    "jax_vmap",
    "compile",
}


def case(name: str) -> dict[str, Any]:
    return {"name": name} | TINY[name]


@pytest.fixture
def no_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms.importlib.util, "find_spec", lambda name: None)


def allowed(row: dict[str, Any]) -> float:
    return ULP.get(row["name"], 1.0)


def test_cases_are_complete() -> None:
    assert "medians" in command.CASES["rules"]
    assert set(TINY) == set(run.ARMS)
    assert set(command.NAMES) == set(run.ARMS) | set(tasks.MAKERS) | set(lowered.PAIRS) | SPECIAL


@pytest.mark.usefixtures("no_jax")
@pytest.mark.parametrize("name", TINY)
def test_a_row_computes_what_it_says(name: str) -> None:
    (row,) = run.run_row(case(name), threads=1, repeats=1)
    assert set(row) == {"name", "threads", "ms", "limit_ms", "peers", "missing", "error"}
    assert (row["name"], row["threads"]) == (name, 1)
    assert row["ms"] > 0 and row["limit_ms"] > 0
    assert row["error"]["unit"] == ("ulp" if name in ULP else "n*eps")
    assert 0 < row["error"]["max"] <= allowed(row)
    # Peers are those of the case's list, in its words; what is not installed is named.
    stated = next(r["peers"] for r in command.CASES["rows"] if r["name"] == name)
    assert {*row["peers"], *row["missing"]} == set(stated)
    assert row["missing"] == [p for p in stated if "jax" in p]
    assert all(ms > 0 for ms in row["peers"].values())


@pytest.mark.usefixtures("no_jax")
@pytest.mark.parametrize("name", TINY)
def test_a_wrong_result_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = run.ARMS[name]

    def nothing(c: Any, n: int) -> Arms:
        return dataclasses.replace(make(c, n), ours=lambda: None)

    monkeypatch.setitem(run.ARMS, name, nothing)
    (row,) = run.run_row(case(name), threads=1, repeats=1)
    assert not row["error"]["max"] <= allowed(row)


def test_errors_in_their_units() -> None:
    one = np.ones((2, 2))
    for dtype in (DType.F32, DType.F16):
        narrow = one.astype(dtype.numpy)
        off = narrow.copy()
        off[1, 0] += 3 * np.finfo(dtype.numpy).eps
        assert arms.in_ulp(narrow, one) == (0, "ulp")
        assert arms.in_ulp(off, one) == (3, "ulp")
    eps = float(np.finfo(np.float32).eps)
    assert arms.in_n_eps(one + 8 * eps, one, 4, 2 * one) == (1, "n*eps")
    assert math.isnan(arms.in_n_eps(one * np.nan, one, 4, one)[0])
    assert math.isnan(arms.in_ulp((one * np.nan).astype(np.float32), one)[0])


def test_arms_run_in_turn_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    durations = iter([5.0, 1.0, 4.0, 9.0, 3.0, 2.0])
    monkeypatch.setattr(arms, "seconds", lambda call: (call(), next(durations))[1])
    figures = arms.medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * (arms.WARM_UP + 3)
    assert figures == {"a": 4.0, "b": 2.0}


def test_the_limit_is_the_larger_of_operations_and_bytes() -> None:
    def limit(**work: int) -> float:
        return arms.time_arms(Arms(lambda: None, lambda: (0.0, "ulp"), **work), threads=1, repeats=3).limit

    assert limit(flops=10**12) > 100 * limit(flops=10**9) > 0
    assert limit(bytes=2**26) > limit(bytes=2**12)
    assert limit(flops=10**12, bytes=2**12) > 100 * limit(bytes=2**12)


def test_paged_caches_are_what_the_peers_get() -> None:
    table_of = np.array([[2, 0], [1, 0]], np.int32)
    cache = np.arange(3 * 2 * attention.PAGE * attention.DIM, dtype=np.float32)
    cache = cache.reshape(3, 2, attention.PAGE, attention.DIM)
    first, second = attention._contiguous(cache, table_of, [attention.PAGE + 3, 5])
    assert first.shape == (2, attention.PAGE + 3, attention.DIM)
    np.testing.assert_array_equal(first[1, attention.PAGE :], cache[0, 1, :3])
    np.testing.assert_array_equal(second, cache[1, :, :5])


@pytest.mark.parametrize("name", tasks.MAKERS)
def test_rows_of_tasks(name: str) -> None:
    given = {"name": name, "shape": {"n": [400, 40_000]}, "peers": ["another 29 ns"]}
    (row,) = run.run_row(given, threads=1, repeats=3)
    each = tasks.MAKERS[name][1]
    assert {"ns_per_task", "us_fixed", f"us_of_{400 * each}", f"us_of_{40_000 * each}"} < set(row)
    assert 0 < row["ns_per_task"] < 1e6
    assert row["peers"] == {} and row["quoted"] == ["another 29 ns"]


def test_the_row_of_compile_times() -> None:
    (row,) = run.run_row({"name": "compile"}, threads=1, repeats=1)
    assert row["ms"] == max(row["each"].values())
    assert len(row["each"]) >= 10 and min(row["each"].values()) > 0
    assert run.run_row({"name": "compile"}, threads=2, repeats=1) == []
    assert run.run_row({"name": "tasks_1us"}, threads=1, repeats=1) == []


def test_json_of_a_whole_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json", "--threads=1", "--rows=bmm_f32,compile", "--repeats=1"]) == 0
    whole = json.loads(capfd.readouterr().out)
    assert set(whole) == {"machine", "rows"}
    machine = whole["machine"]["1 threads"]
    assert {"isa", "fma_gflops", "read_gb_per_s", "copy_gb_per_s"} == set(machine)
    product, compiling = whole["rows"]
    assert {"name", "threads", "ms", "limit_ms", "peers", "error"} <= set(product)
    assert set(product["error"]) == {"max", "unit"} and product["error"]["max"] <= 1
    assert (compiling["name"], compiling["threads"]) == ("compile", 1)


def figures(name: str, threads: int, ms: float, limit: float, **more: Any) -> dict[str, Any]:
    row = {"name": name, "threads": threads, "ms": ms, "limit_ms": limit, "peers": {}, "missing": []}
    return row | {"error": {"max": 0.25, "unit": "ulp"}} | more


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        figures("rmsnorm", 1, 8.0, 4.0, peers={"numpy in place": 12.0}, missing=["jax.jit"]),
        figures("rmsnorm_odd", 1, 4.0, 1.0),
        figures("rmsnorm", 2, 5.0, 4.0),
        {"name": "tasks_chain", "threads": 1, "ns_per_task": 20.5, "us_fixed": 3.0, "quoted": ["another 60 ns"]},
        {"name": "jax_call", "threads": 1, "us": 4.0, "peers": {"jax.jit": 3.0}, "missing": ["empty"]},
    ]
    table.show({"machine": {"processors": 2}, "rows": rows})
    head, _, one, odd, two, chain, quoted, call, peer, missing = capsys.readouterr().out.splitlines()
    assert head == "processors: 2"
    assert one.split()[:7] == ["rmsnorm", "1", "8.000", "4.000", "2.00", "0.25", "ulp"]
    assert "numpy in place 12 (1.50); jax.jit: not installed" in one
    assert "0.50 of the efficiency of rmsnorm" in odd
    assert "1.60 x one thread" in two
    assert "ns_per_task 20.5, us_fixed 3" in chain
    assert quoted.strip() == "for comparison, not run here: another 60 ns"
    assert call.split() == ["jax_call", "1", "us", "4"]
    assert (peer.strip(), missing.strip()) == ("jax.jit: 3 us (0.75 x ours)", "empty: not installed")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--rows=matmul", "there is no row 'matmul'; there are matmul_f32,"),
        ("--rows=", "there is no row ''"),
        ("--threads=0", "'0' is no list of positive integers"),
        ("--threads=1,two", "'1,two' is no list of positive integers"),
        ("--threads=-1", "is no list of positive integers"),
        ("--repeats=0", "--repeats is at least 1"),
        ("--repeats=many", "invalid int value"),
    ],
)
def test_what_the_command_line_refuses(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        command.main([option])
    assert status.value.code == 2
    assert message in capsys.readouterr().err


def test_more_threads_than_processors_are_left_out_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--threads=100000", "--rows=compile"]) == 0
    assert "100000 threads are left out" in capsys.readouterr().err


def test_a_run_that_fails_gives_its_status(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command.sys, "executable", "false")
    with pytest.raises(SystemExit) as status:
        command.main(["--threads=1", "--rows=compile"])
    assert status.value.code == 1
    assert capfd.readouterr().out == ""


def test_rows_of_the_scheduler() -> None:
    """Each gives the figures it names, for the threads it is about."""
    (row,) = run.run_row({"name": "tasks_directives", "shape": {"n": [10, 200]}}, threads=2, repeats=1)
    assert set(row) == {"name", "threads", *scheduling.DIRECTIVES}
    (row,) = run.run_row({"name": "tasks_8_threads", "shape": {"n": 200}}, threads=2, repeats=1)
    assert row["threads"] == 8 and row["independent_8_over_2"] > 0 and row["two_loops_8_over_2"] > 0
    assert run.run_row({"name": "tasks_8_threads", "shape": {"n": 200}}, threads=1, repeats=1) == []
    (row,) = run.run_row({"name": "execute_100", "shape": {"n": 100}}, threads=1, repeats=1)
    assert row["us"] > 0
    (row,) = run.run_row({"name": "simulate", "shape": {"n": 1000}}, threads=1, repeats=1)
    assert row["independent_s"] > 0 and row["dependent_s"] > 0
    assert run.run_row({"name": "simulate", "shape": {"n": 1000}}, threads=2, repeats=1) == []
    given = {"name": "simulate_processes", "shape": {"n": 1000, "ring": 10}}
    (row,) = run.run_row(given, threads=1, repeats=1)
    assert set(row) == {"name", "threads", "depth_0_s", "depth_1_s", "depth_8_s", "ring_10_s"}
    assert run.run_row(given, threads=2, repeats=1) == []


@pytest.mark.usefixtures("no_jax")
def test_rows_that_need_jax_say_that_it_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """What they give with it is tested beside the rest of what needs jax."""
    for name in ("jax_call", "jax_loop", "jax_vmap", *lowered.PAIRS):
        (row,) = run.run_row({"name": name, "shape": {}}, threads=2, repeats=1)
        assert row == {"name": name, "threads": 2, "peers": {}, "missing": ["jax"]}
        table.show({"machine": {}, "rows": [row]})
        assert capsys.readouterr().out.splitlines()[-1].strip() == "jax: not installed"


def test_rows_of_pipelines() -> None:
    """A token more at each depth, on any number of threads; stages on two threads over one."""
    given = {"name": "tokens", "shape": {"n": [10, 2000], "depths": [8, 0]}, "peers": ["another 600 ns"]}
    for threads in (1, 2):
        (row,) = run.run_row(given, threads=threads, repeats=3)
        assert set(row) == {"name", "threads", "depth_8_ns", "depth_0_ns", "peers", "quoted"}
        assert row["threads"] == threads and row["quoted"] == ["another 600 ns"]
    given = {"name": "pipeline_20us", "shape": {"n": 20, "depth": 2}}
    (row,) = run.run_row(given, threads=2, repeats=1)
    assert row["threads"] == 2 and min(row["us_per_kernel"], row["ms"], row["speed_up"]) > 0
    assert run.run_row(given, threads=1, repeats=1) == []


def test_what_the_rows_of_pipelines_compute() -> None:
    """Each token has its two kernels; a buffer is written again only once it has been used."""
    program = pipelines.tokens(30, depth=1).compile(threads=2)
    assert program.run().stats.task_count == 60
    x, buffers = np.arange(-1.0, 1.0, 0.1, np.float32).reshape(4, 1, 5), [np.zeros((3, 1, 5), np.float32) for _ in "ab"]
    out, exact = np.zeros((40, 1, 1), np.float32), x.astype(np.float64)
    pipelines.three_stages(x, *buffers, out, 1).compile(threads=2).run()
    for _ in range(3):
        exact = np.vectorize(math.erf)(np.tanh(np.exp(exact)))
    np.testing.assert_allclose(out, np.tile(exact.sum(axis=2, keepdims=True), (10, 1, 1)), rtol=1e-5)
