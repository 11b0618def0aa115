"""Arch files: what is in them, and one clear error for each mistake."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp import arch
from pto_wsp.errors import CompileError

FOLDER = Path(arch.__file__).parent
BASE = json.loads((FOLDER / "ascend_a2a3.json").read_text())
Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(data: Any) -> Path:
        path = tmp_path / "machine.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        return path

    return to_file


def message(source: Any) -> str:
    with pytest.raises(CompileError) as e:
        arch.get(source)
    assert e.value.code == "PTO402"
    assert e.value.loc is not None
    assert e.value.loc.file == __file__
    return str(e.value)


def test_the_default_machine() -> None:
    a = arch.get()
    assert a is arch.get("ascend_a2a3") is arch.get(arch.DEFAULT) is arch.get(a)
    assert (a.lanes, a.issue_cost, a.handover, a.read_cost, a.clock_khz) == (4, 0, 0, 0, 1_850_000)
    assert {m.name: m.bytes for m in a.memories}["UB"] == 192 * 1024
    assert a.transfers["load"].gib_per_s == Fraction(1009, 10)
    assert {d.name: d.count for d in a.sync} == {"event": 8, "cross_core": 16}
    assert a.cube.m == a.cube.n == 16
    assert a.model == "serial"


def test_units_run_beside_each_other_both_ways() -> None:
    beside = {u.name: set(u.beside) for u in arch.get().units}
    assert all(name in beside[other] for name, others in beside.items() for other in others)
    assert {p.unit for p in arch.get().paths} <= set(beside)


def test_the_measured_machine_differs_in_scheduling_alone() -> None:
    a, m = arch.get(), arch.get("ascend_a2a3_measured")
    assert (m.lanes, m.issue_cost, m.handover, m.read_cost) == (24, 1388, 9805, 5550)
    assert (m.memories, m.paths, m.vector_ops, m.row_fits, m.cube) == (
        a.memories,
        a.paths,
        a.vector_ops,
        a.row_fits,
        a.cube,
    )
    assert m != a


@pytest.mark.parametrize("name", arch.names())
def test_every_figure_has_a_source(name: str) -> None:
    a = arch.get(name)
    assert all(x.source for x in (*a.memories, *a.paths, *a.sync))
    for figure in (
        "clock_khz",
        "lanes",
        "issue_cost",
        "handover",
        "read_cost",
        "transfer",
        "vector",
        "rows",
        "cols",
        "cube",
    ):
        assert a.sources[figure]


def test_a_machine_of_the_users(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write({"schema": 1, "extends": "ascend_a2a3", "name": "mine", "lanes": {"value": 7, "source": "made up"}})
    a = arch.get(path)
    assert (a.name, a.lanes) == ("mine", 7)
    assert arch.get(str(path)) == a
    assert hash(arch.get(path)) == hash(a)
    monkeypatch.chdir(path.parent)
    assert arch.get("machine.json") == a
    assert arch.get(write(BASE)) == arch.get()


def test_a_machine_extends_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    (tmp_path / "top.json").write_text(json.dumps({"extends": "base.json", "name": "top"}))
    assert arch.get(tmp_path / "top.json").name == "top"


def test_figures_are_exact(write: Write) -> None:
    data = copy.deepcopy(BASE)
    data["paths"][0]["gib_per_s"] = 0.1
    assert arch.get(write(data)).transfers["load"].gib_per_s == Fraction(1, 10)


def change(path: str, value: Any) -> Any:
    """BASE with the field at `path` (a/b/0) replaced, or removed where value is ...."""
    data = copy.deepcopy(BASE)
    *parents, last = path.split("/")
    at = data
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("schema", 2, "$.schema is not 1"),
        ("schema", ..., "$.schema is missing"),
        ("name", "", "$.name is not a text"),
        ("surprise", 1, "$.surprise is not a field of the schema"),
        ("clock_khz", 1850000, "$.clock_khz is not an object"),
        ("clock_khz/value", 0, "$.clock_khz.value is not an integer from 1"),
        ("clock_khz/source", ..., "$.clock_khz.source is missing"),
        ("lanes/value", 65537, "$.lanes.value is not an integer from 1 to 65536"),
        ("lanes/value", True, "$.lanes.value is not an integer"),
        ("issue_cost/value", -1, "$.issue_cost.value is not an integer from 0"),
        ("issue_cost/value", 1.5, "$.issue_cost.value is not an integer"),
        ("handover", ..., "$.handover is missing"),
        ("read_cost/why", "so", "$.read_cost.why is not a field"),
        ("memories", [], "$.memories is not an object"),
        ("memories/UB/bytes", "192K", "$.memories.UB.bytes is not an integer"),
        ("memories/UB/align", 0, "$.memories.UB.align is not an integer from 1"),
        ("memories/UB/colour", "red", "$.memories.UB.colour is not a field"),
        ("paths", {}, "$.paths is not an array"),
        ("paths/0/gib_per_s", 0, "$.paths[0].gib_per_s is not a positive number"),
        ("paths/0/gib_per_s", "fast", "$.paths[0].gib_per_s is not a positive number"),
        ("paths/0/gib_per_s", 2**41, "$.paths[0].gib_per_s is not a positive number"),
        ("paths/1/from", "L7", "$.paths[1].from names the memory 'L7', which is not there"),
        ("paths/1/unit", "X", "$.paths[1].unit names the unit 'X', which is not there"),
        ("units/V/beside", ["W"], "$.units.V.beside names the unit 'W', which is not there"),
        ("units/V/beside", [1], "$.units.V.beside is not an array of texts"),
        ("sync/event/count", 0, "$.sync.event.count is not an integer from 1"),
        ("transfer/load", ["UB", "L1"], "$.transfer.load names 0 paths"),
        ("transfer/granularity", 0, "$.transfer.granularity is not an integer from 1"),
        ("vector/repeat_bytes", 0, "$.vector.repeat_bytes is not an integer from 1"),
        ("vector/instructions/vadd/head", -1, "$.vector.instructions.vadd.head is not an integer from 0"),
        ("vector/instructions/vadd/latency", 3, "$.vector.instructions.vadd.latency is not a field"),
        ("vector/instructions/vadd", {"head": 0, "slope": 0, "tail": 0}, "$.vector.instructions.vadd costs nothing"),
        ("vector/ops/add", ..., "$.vector.ops.add is missing"),
        ("vector/ops/add", {}, "$.vector.ops.add names no instruction"),
        ("vector/ops/add", {"vaddd": 1}, "$.vector.ops.add.vaddd is not one of $.vector.instructions"),
        ("vector/ops/add/vadd", 0, "$.vector.ops.add.vadd is not an integer from 1"),
        ("vector/ops/plus", {"vadd": 1}, "$.vector.ops.plus is not an operation"),
        ("vector/scalar_ops/plus", {"vadd": 1}, "$.vector.scalar_ops.plus is not an operation"),
        ("rows/fits/rowsum", ..., "$.rows.fits.rowsum is missing"),
        ("rows/fits/rowsum/slope", -7, "$.rows.fits.rowsum.slope is not a number"),
        ("rows/fits/colsum", {}, "$.rows.fits.colsum is not an operation of this table"),
        (
            "cols/fits/colsum",
            {"bias": 0, "slope": 0, "next_bias": 0, "next_slope": 0},
            "$.cols.fits.colsum costs nothing",
        ),
        ("cube/slope/f32", 0, "$.cube.slope.f32 is not an integer from 1"),
        ("cube/slope/f128", 1, "$.cube.slope.f128 is not a field"),
        ("cube/slope/f64", ..., "$.cube.slope.f64 is missing"),
        ("model", "pipe", "$.model is 'pipe', which is not there"),
        ("transfer/load_cube", ["UB", "L1"], "$.transfer.load_cube names 0 paths"),
        ("cube/nearest/i32", 3, "$.cube.nearest.i32 is not a text"),
    ],
)
def test_a_wrong_field_is_named(write: Write, path: str, value: Any, where: str) -> None:
    assert where in message(write(change(path, value)))


def test_names_that_are_not_there() -> None:
    assert "did you mean 'ascend_a2a3'" in message("ascend_a2a4")
    assert "ascend_a2a3_measured" in message("zx81")
    assert "cannot be read" in message("no/such/file")
    assert "cannot be read" in message("nothing.json")
    assert "cannot be a int" in message(3)


def test_files_that_are_not_an_arch(write: Write) -> None:
    assert "is not such JSON" in message(write("{"))
    assert "is not such JSON" in message(write("[" * 100_000))
    assert "$ is not an object" in message(write([]))
    assert "stands twice in one object: name, name" in message(write('{"name": "a", "name": "b"}'))
    assert "1e999999999 is not a number" in message(write('{"lanes": 1e999999999}'))
    assert "NaN is not a number" in message(write('{"lanes": NaN}'))
    assert "$.extends names 'nobody'" in message(write({"extends": "nobody"}))
    assert "$.extends is not a string" in message(write({"extends": 1}))
    assert "$.extends leads back" in message(write({"extends": "machine.json"}))
    path = write("x")
    path.write_bytes(b"\xff\xfe")
    assert "is not such JSON" in message(path)


def places(data: Any, path: str = "") -> list[str]:
    """The path of every field of BASE, as `change` takes it."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for key, value in pairs for p in (f"{path}{key}", *places(value, f"{path}{key}/"))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(places(BASE)), JSON)
def test_any_other_value_is_refused_or_taken(path: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "machine.json")
        file.write_text(json.dumps(change(path, value)))
        try:
            arch.get(file)
        except CompileError as e:
            assert e.code == "PTO402"  # noqa: PT017 - loading may also succeed
