"""Every example agrees with its golden reference, at odd sizes and at the sizes it has by default."""

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from project import ROOT
from pto_wsp import DType, Tile, Workload, jit
from pto_wsp.artifact import artifact
from pto_wsp.targets.cpu_sim import target as cpu_sim
from pto_wsp.tools import report
from pto_wsp.tools.report import Result, command_line

EXAMPLES = {
    path.parent.name: path
    for path in sorted((ROOT / "examples").glob("*/*_example.py"))
    if path.parent.name != "distributed_moe"  # starts processes, which interop/test_distributed.py looks at
}

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("quick_start", {"batch": 3, "tiles": 5}),
    ("validated_matmul", {"m": 1, "n": 1, "k": 1}),
    ("validated_matmul", {"m": 257, "n": 100, "k": 391}),
    ("validated_matmul", {"m": 128, "n": 129, "k": 256}),
    ("tensor_data", {"batch": 1, "rows": 1, "cols": 1}),
    ("tensor_data", {"batch": 2, "rows": 37, "cols": 130}),
    ("tensor_data", {"batch": 3, "rows": 32, "cols": 64}),
    ("rmsnorm", {"rows": 1, "cols": 1}),
    ("rmsnorm", {"rows": 300, "cols": 77}),
    ("bgemm", {"batch": 3, "m": 131, "n": 57, "k": 300}),
    ("bgemm", {"batch": 1, "m": 128, "n": 256, "k": 1}),
    ("softmax", {"rows": 1, "cols": 1}),
    ("softmax", {"rows": 13, "cols": 4099}),
    ("attention", {"lengths": (1,), "queries": 3, "heads": 3, "kv_heads": 1, "dim": 7}),
    ("attention", {"lengths": (0, 1, 63, 64, 65), "queries": 1, "heads": 4, "kv_heads": 2, "dim": 64}),
    ("attention", {"lengths": (0, 1, 63, 64, 65), "queries": 2, "heads": 2, "kv_heads": 1, "dim": 40, "causal": False}),
    ("attention", {"lengths": (0, 129, 63, 128), "queries": 65, "heads": 3, "kv_heads": 3, "dim": 33, "causal": False}),
    ("attention", {"lengths": (193, 1, 130, 64), "queries": 129, "heads": 6, "kv_heads": 3, "dim": 40}),
    ("decode_attention", {"lengths": (17, 1, 5, 1100), "heads": 2, "kv_heads": 2, "dim": 32}),
    ("decode_attention", {"lengths": (0, 1, 15, 16, 17), "heads": 4, "kv_heads": 2, "dim": 8}),
    ("decode_attention", {"lengths": (1, 16, 2049, 31), "heads": 3, "kv_heads": 1, "dim": 20, "bf16": True}),
    ("lightning_indexer", {"rows": 1, "top": 4, "scale": 4096}),
    ("lightning_indexer", {"rows": 33, "top": 16, "scale": 128}),
    ("moe", {"tokens": 1, "hidden": 1, "ffn": 1, "experts": 1, "top": 1}),
    ("moe", {"tokens": 3, "hidden": 8, "ffn": 5, "experts": 7, "top": 7, "swiglu": False}),
    ("moe", {"tokens": 197, "hidden": 33, "ffn": 20, "experts": 5, "top": 3}),
    (
        "deepseek_v3",
        {"tokens": 3, "hidden": 16, "width": 8, "experts": 5, "top": 2, "heads": 2, "scale": 64},
    ),
    ("placement", {"batch": 1, "stages": 1}),
    ("placement", {"batch": 5, "stages": 6}),
    ("csp_pipeline", {"tiles": 1}),
    ("csp_pipeline", {"tiles": 7}),
    ("work_queue", {"requests": 1}),
    ("work_queue", {"requests": 21}),
    (
        "megakernel",
        {"layers": 1, "heads": 1, "kv_heads": 1, "dim": 2, "ffn": 2, "length": 2, "vocabulary": 2},
    ),
    (
        "megakernel",
        {"layers": 2, "heads": 4, "kv_heads": 2, "dim": 8, "ffn": 48, "length": 32, "vocabulary": 32},
    ),
    (
        "decoder",
        {
            "layers": 2,
            "hidden": 24,
            "heads": 3,
            "ffn": 10,
            "vocabulary": 50,
            "page": 4,
            "lengths": (0, 9, 4),
            "prompts": (3, 1, 9, 8),
            "new": 4,
            "slots": 3,
            "rows": 5,
            "pages": 4,
            "moe": True,
        },
    ),
    (
        "decoder",
        {
            "layers": 1,
            "hidden": 2,
            "heads": 1,
            "ffn": 1,
            "vocabulary": 2,
            "page": 1,
            "lengths": (1,),
            "prompts": (1,),
            "new": 1,
            "slots": 1,
            "rows": 1,
            "pages": 1,
        },
    ),
    (
        "decoder",
        {
            "layers": 2,
            "hidden": 32,
            "heads": 2,
            "ffn": 48,
            "vocabulary": 97,
            "page": 4,
            "lengths": (5, 0, 33, 20),
            "prompts": (3, 1, 30, 9, 9),
            "new": 6,
            "slots": 3,
            "rows": 5,
            "pages": 10,
        },
    ),
    (
        "transformations",
        {"items": 1, "seq": 1, "hidden": 1, "ffn": 1, "lengths": (1,), "dim": 1},
    ),
    (
        "transformations",
        {"items": 3, "seq": 200, "hidden": 24, "ffn": 130, "lengths": (65, 0, 130, 1), "dim": 20},
    ),
    ("llama_block", {"seq": 1, "hidden": 8, "heads": 1, "kv_heads": 1, "dim": 2, "ffn": 1}),
    ("llama_block", {"layers": 3, "seq": 129, "hidden": 130, "heads": 6, "kv_heads": 3, "dim": 10, "ffn": 257}),
]
DEFAULTS: list[tuple[str, dict[str, Any]]] = [
    (name, {}) for name in EXAMPLES if name not in ("decoder", "deepseek_v3", "llama_block", "megakernel", "moe")
]
# whose float64 golden takes long: with --full
LONG: list[tuple[str, dict[str, Any]]] = [
    ("decoder", {}),  # in 9 GB of memory
    ("deepseek_v3", {}),
    ("llama_block", {}),
    ("moe", {}),
    ("moe", {"swiglu": False}),
    ("megakernel", {}),
    ("attention", {"causal": False}),
    ("decode_attention", {"bf16": True}),
    ("decode_attention", {"many": True}),
]

UNCHECKED = (
    "csp_pipeline",
    "decoder",
    "megakernel",
    "transformations",
    "work_queue",
)  # programs with pipelines, and in JAX, have no check=

each_small = pytest.mark.parametrize(("name", "sizes"), SMALL)


@cache
def example(name: str) -> ModuleType:
    sys.path.insert(0, str(EXAMPLES[name].parent))  # as for a script
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES[name])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(name: str, **options: Any) -> list[Result]:
    """What a run of an example gives, one result or several."""
    given = example(name).run(**options)
    return [given] if isinstance(given, Result) else given


def test_every_example_is_here() -> None:
    assert {name for name, _ in SMALL} == set(EXAMPLES)
    assert all(path.name == f"{name}_example.py" for name, path in EXAMPLES.items())


@each_small
def test_small_sizes_agree_with_the_golden_reference(name: str, sizes: dict[str, Any]) -> None:
    for result in results(name, **sizes):
        assert not result.failures
        assert result.tasks > 0
        assert result.cycles > 0


@each_small
def test_the_number_of_threads_changes_no_bit(name: str, sizes: dict[str, Any]) -> None:
    ones, *others = (results(name, **sizes, threads=threads) for threads in (1, 2, 8))
    for one, other in ((a, b) for many in others for a, b in zip(ones, many, strict=True)):
        assert [x.tobytes() for x in other.outputs] == [x.tobytes() for x in one.outputs]
        assert (other.tasks, other.cycles) == (one.tasks, one.cycles)


@pytest.mark.parametrize(("name", "sizes"), [small for small in SMALL if small[0] not in UNCHECKED])
def test_checks_find_nothing(name: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Workload.compile
    monkeypatch.setattr(Workload, "compile", lambda w, *args, **options: compiled(w, *args, **options, check="all"))
    monkeypatch.setattr(report, "timed", lambda run: [run(), 0.0][1])
    for result in results(name, **sizes):
        assert not result.failures


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "options" in metafunc.fixturenames:
        metafunc.parametrize(("name", "options"), [*DEFAULTS, *(LONG if metafunc.config.getoption("--full") else [])])


def test_default_sizes_take_the_stated_cycles(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "timed", lambda run: [run(), 0.0][1])
    for result in results(name, **options):
        assert result.expected_cycles is not None
        assert not result.failures


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_wrong_number_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = next(sizes for n, sizes in reversed(SMALL) if n == name)
    golden = example(name).golden

    def wrong_somewhere(*inputs: Any) -> np.ndarray:
        want = golden(*inputs)
        want.flat[want.size // 2] += 0.01 * np.abs(want).max()
        return want

    monkeypatch.setattr(example(name), "golden", wrong_somewhere)
    assert any("of its bound" in failure for result in results(name, **sizes) for failure in result.failures)


def test_nan_and_other_cycles_are_failures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    softmax = example("softmax")
    monkeypatch.setattr(softmax, "ROWS", 5)
    monkeypatch.setattr(softmax, "COLS", 6)
    monkeypatch.setattr(softmax, "golden", lambda x: np.full(x.shape, np.nan))
    assert command_line(softmax.run, softmax.__doc__, ["--rows", "5", "--cols", "6"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED softmax 5x6: the error is nan of its bound" in printed
    assert f"but {softmax.CYCLES} are expected" in printed


@pytest.mark.parametrize("size", [0, -3])
def test_sizes_are_positive(size: int) -> None:
    with pytest.raises(ValueError, match=f"cols is {size}, but must be at least 1"):
        example("rmsnorm").run(rows=4, cols=size)


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "four"])
def test_the_command_line_refuses_what_is_no_size(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    rmsnorm = example("rmsnorm")
    with pytest.raises(SystemExit) as status:
        command_line(rmsnorm.run, rmsnorm.__doc__, [f"--rows={text}"])
    assert status.value.code == 2
    assert "is not a positive integer" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs_from_any_directory(name: str, tmp_path: Path) -> None:
    sizes = next(sizes for n, sizes in SMALL if n == name)
    options = [
        text
        for key, value in sizes.items()
        if not isinstance(value, bool)
        for text in (f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,)))
    ]
    done = subprocess.run(
        [sys.executable, EXAMPLES[name], *options, "--threads=2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    head, row, *more = done.stdout.splitlines()
    assert head.startswith("workload")
    assert row.startswith(name)
    assert all(line.startswith(("  ", name)) for line in more)
    assert max(map(len, (head, row, *more))) <= 100


@pytest.mark.parametrize("causal", [True, False])
def test_one_artifact_attends_over_any_length(causal: bool) -> None:
    attention = example("attention")
    tile, heads = attention.TILE, 2
    program = attention.compiled(heads, 1, 24, causal, None)
    compiled = program.to_bytes()
    rounds = [((n,), (n,)) for n in (0, 1, tile - 1, tile, tile + 1)]
    rounds += [((2 * tile + 1, tile, 5), (tile + 1, 1, 4)), ((), ()), ((200, 0), (70, 0))]
    for keys, queries in rounds:
        arrays = attention.inputs(keys, queries, heads, 1, 24)
        attention.bind(program, arrays, keys, queries)
        program.run()
        assert attention.compared(arrays, keys, queries, causal)[1] <= 1
        assert program.stats.task_count == heads * sum(-(-m // tile) for m in queries)  # one for each tile of queries
    assert program.to_bytes() == compiled


def test_one_artifact_decodes_any_batch() -> None:
    decode = example("decode_attention")
    heads, kv_heads, page, step = 4, 2, decode.PAGE, decode.PAGE * decode.STEP
    program = decode.compiled(heads, kv_heads, 24, DType.F32, None)
    compiled = program.to_bytes()
    tails = (0, 1, page - 1, page, page + 1, step - 1, step, step + 1, step + page)
    for lengths in ((5, 0, 33), (2100,), (0,), (), tails, tuple(decode.PIECE + n for n in (-1, 0, 1))):
        batch = decode.Batch.random(lengths, heads, kv_heads, 24, np.dtype(np.float32))
        out = np.full((len(lengths), heads, 24), np.nan, np.float32)
        decode.bind(program, batch, out)
        program.run()
        assert decode.compared(batch, out)[1] <= 1
        pieces = sum(-(-n // decode.PIECE) for n in lengths)
        assert program.stats.task_count == kv_heads * (pieces + len(lengths))
    assert program.to_bytes() == compiled


def test_placements_take_the_cycles_that_the_readme_derives(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = example("placement")
    cold, warm = placement.unpack.cost("ascend_a2a3"), placement.apply.cost("ascend_a2a3")
    assert (cold, warm) == (placement.COLD, placement.WARM)
    monkeypatch.setattr(report, "timed", lambda run: [run(), 0.0][1])
    rows, columns = placement.run()
    assert rows.cycles == 8 * (cold + warm)  # 8 items of 4 stages on 4 lanes
    assert columns.cycles == cold + 11 * warm  # the last of 8 items leaves the last of 4 stages
    np.testing.assert_array_equal(rows.outputs[0], columns.outputs[0])
    readme = (ROOT / "examples" / "placement" / "README.md").read_text()
    assert all(f"{n:,}" in readme for n in (cold, warm, rows.cycles, columns.cycles))
    assert f"{rows.cycles / columns.cycles:.2f} times" in readme
    assert columns.notes[0].endswith(f"{rows.cycles / columns.cycles:.2f} times")
    assert "\n".join(columns.notes[1:]) in readme
    few = placement.run(batch=4, stages=4)
    assert [r.cycles for r in few] == [4 * (cold + warm), cold + 7 * warm]


def test_transformations_change_cycles_as_the_readme_derives(monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("transformations")
    monkeypatch.setattr(report, "timed", lambda run: [run(), 0.0][1])

    def wide(rows: int, cols: int) -> Any:
        return Tile[rows, cols, DType.F32]

    x, y = wide(64, 512), wide(64, 128)
    norm = module.norm.cost(module.ARCH, x=x, weight=wide(1, 512), out=x)
    project = module.project.cost(module.ARCH, x=x, w=wide(512, 128), out=y)
    swish = module.swish.cost(module.ARCH, gate=y, up=y, out=y)
    runs = module.run()
    swiglu, attention = ({r.name.split()[-1]: r for r in runs[k : k + 7]} for k in (0, 7))
    fused = (swiglu["fuse"].cycles - 4 * norm) // 44
    assert {n: r.cycles for n, r in swiglu.items()} == {
        "given": 4 * (norm + 11 * (2 * project + swish)),  # 4 tiles of rows, 11 of columns
        "fuse": 4 * (norm + 11 * fused),
        "vmap": 16 * (norm + 11 * fused),  # 4 items
        "tile": 16 * (norm + 11 * fused),
        "dispatch": 4 * (norm + 11 * fused),  # 4 lanes
        "auto": 4 * (norm + 11 * fused),
        "pipeline": norm + 2 * 11 * fused,  # the first of two tiles of rows alone is not beside a product
    }
    assert attention["auto"].cycles < attention["dispatch"].cycles < attention["tile"].cycles
    readme = (ROOT / "examples" / "transformations" / "README.md").read_text()
    assert all(f"{n:,}" in readme for n in (norm, project, swish, fused))
    tables = [runs[k].notes[-7 - 4 * (k == 13) :][:7] for k in (6, 13)]
    assert all("\n".join(table) in readme for table in tables)
    refused = runs[13].notes[-4:]
    assert refused[0] == "refused:"
    assert [note.partition("[")[2][:6] for note in refused[1:]] == ["PTO408", "PTO409", "PTO404"]
    assert "\n".join(refused) in readme


def test_a_step_that_changed_a_bit_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("transformations")
    monkeypatch.setattr(module, "jit", lambda f: lambda **given: np.nextafter(jit(f)(**given), np.float32(9)))
    with pytest.raises(AssertionError, match="given changed results of swiglu"):
        module.run(items=1, seq=1, hidden=1, ffn=1, lengths=(1,), dim=1)


def test_placements_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    example("placement").run(batch=2, stages=2, svg=True)
    assert {p.name for p in tmp_path.iterdir()} == {"placement_rows.svg", "placement_columns.svg"}


@pytest.mark.parametrize(
    "name", ["decode_attention", "decoder", "moe", "lightning_indexer", "deepseek_v3", "llama_block"]
)
def test_plans_of_dynamic_work_are_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    make = artifact.make
    monkeypatch.setattr(
        cpu_sim, "make", lambda wir, plan, *rest, **more: sizes.append(len(plan)) or make(wir, plan, *rest, **more)
    )
    results(name, **next(sizes for n, sizes in SMALL if n == name))
    assert sizes
    assert max(sizes) < 65_536
