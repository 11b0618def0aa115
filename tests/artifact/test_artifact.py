"""Artifacts: the same bytes for the same program, and an error for anything else than what was written."""

import copy
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pto_wsp import (
    ArtifactError,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Program,
    PtoError,
    Tile,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.artifact.artifact import Artifact
from pto_wsp.artifact.container import SCHEMA, Section, pack, unpack
from pto_wsp.ir.scopes import origins

SOURCE = """
from pto_wsp import DenseDyn, DispatchPolicy, DType, In, Out, P, Tile, kernel, pto, workload

@kernel
def double(x: In[Tile[4, 8, DType.F32]], y: Out[Tile[4, 8, DType.F32]]):
    pto.store(y, x * 2.0)

@workload
def doubled(x, y):
    for b in P(DenseDyn(4, name="batch")):
        double[b](x=x[b], y=y[b])
"""


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


@kernel
def double(x: In[Tile[4, 8, DType.F32]], y: Out[Tile[4, 8, DType.F32]]):
    pto.store(y, x * 2.0)


@workload
def doubled(x, y):
    for b in P(DenseDyn(4, name="batch")):
        double[b](x=x[b], y=y[b])


def program() -> Program:
    return doubled(zeros(4, 4, 8), zeros(4, 4, 8)).dispatch(DispatchPolicy.round_robin(2)).compile()


DATA = program().to_bytes()


def from_source(text: str, file: str) -> Program:
    names: dict[str, Any] = {"__name__": "elsewhere"}
    exec(compile(text, file, "exec"), names)
    w = names["doubled"](zeros(4, 4, 8), zeros(4, 4, 8))
    return w.dispatch(DispatchPolicy.round_robin(2)).compile()


def changed(name: str, data: bytes | None = None, *, required: bool | None = None) -> bytes:
    """The artifact with one section replaced and every hash computed anew."""
    parts = [
        s
        if s.name != name
        else Section(name, s.data if data is None else data, s.required if required is None else required)
        for s in unpack(DATA)
    ]
    return pack(parts)


def section(name: str) -> bytes:
    return next(s.data for s in unpack(DATA) if s.name == name)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert program().to_bytes() == DATA
    assert program().hash == Program.from_bytes(DATA).hash


def test_the_same_program_in_another_process_gives_the_same_bytes() -> None:
    script = SOURCE + textwrap.dedent("""
        import sys, numpy as np
        x, y = (np.zeros((4, 4, 8), np.float32) for _ in "xy")
        p = doubled(x, y).dispatch(DispatchPolicy.round_robin(2)).compile()
        print(p.hash)
    """)
    hashes = set()
    for seed in ("0", "1"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-P", "-c", script], env=env, capture_output=True, text=True, check=True)
        hashes.add(done.stdout.strip())
    assert hashes == {program().hash}


def test_only_locations_depend_on_where_the_source_stands() -> None:
    here, there = from_source(SOURCE, "a.py"), from_source("\n\n" + SOURCE, "b.py")
    assert here.hash == there.hash == program().hash
    assert here.to_bytes() != there.to_bytes()
    differing = [a.name for a, b in zip(unpack(here.to_bytes()), unpack(there.to_bytes()), strict=True) if a != b]
    assert differing == ["locations"]


def test_another_program_has_another_hash() -> None:
    other = from_source(SOURCE.replace("2.0", "3.0"), "a.py")
    assert other.hash != program().hash
    assert from_source(SOURCE.replace('"batch"', '"lot"'), "a.py").hash != program().hash


def test_what_is_saved_loads_and_runs(tmp_path: Path) -> None:
    path = tmp_path / "a program $(x) é.pto"
    program().save(path)
    assert path.read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    loaded = Program.load(path)
    assert loaded.to_bytes() == DATA
    x, y = np.arange(96, dtype=np.float32).reshape(3, 4, 8), zeros(3, 4, 8)
    with pytest.raises(PtoError, match="shape"):
        loaded.bind({"x": x, "y": y})
    x, y = np.arange(128, dtype=np.float32).reshape(4, 4, 8), zeros(4, 4, 8)
    loaded.bind({"x": x, "y": y}).set_axis_sizes({"batch": 3}).run()
    assert (y[:3] == 2 * x[:3]).all()
    assert not y[3].any()


def test_saving_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"old")
    program().save(path)
    program().save(path)
    assert path.read_bytes() == DATA


def test_a_saved_file_has_the_usual_permissions(tmp_path: Path) -> None:
    program().save(tmp_path / "p")
    (tmp_path / "q").touch()
    assert (tmp_path / "p").stat().st_mode == (tmp_path / "q").stat().st_mode


def test_every_flipped_byte_is_an_error() -> None:
    for k in range(len(DATA)):
        for bits in (0x01, 0x80, 0xFF):
            damaged = bytearray(DATA)
            damaged[k] ^= bits
            with pytest.raises(ArtifactError):
                Artifact.from_bytes(bytes(damaged))


def test_every_truncation_and_every_addition_is_an_error() -> None:
    for k in range(len(DATA)):
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(DATA[:k])
    for more in (b"\0", b"x", DATA):
        with pytest.raises(ArtifactError, match="PTO601"):
            Artifact.from_bytes(DATA + more)


def test_a_newer_schema_is_refused_by_its_number() -> None:
    newer = bytearray(DATA)
    newer[8] = SCHEMA + 1
    with pytest.raises(ArtifactError, match=r"PTO602.*\n.*") as caught:
        Artifact.from_bytes(bytes(newer))
    assert f"schema {SCHEMA + 1}" in caught.value.what


def test_an_unknown_optional_section_is_kept() -> None:
    more = pack([*unpack(DATA), Section("notes", b"anything", required=False)])
    loaded = Program.from_bytes(more)
    assert loaded.to_bytes() == more


def test_an_unknown_required_section_is_refused() -> None:
    with pytest.raises(ArtifactError, match="PTO602"):
        Artifact.from_bytes(pack([*unpack(DATA), Section("new", b"", required=True)]))


def test_a_section_that_stands_twice_or_lacks_is_refused() -> None:
    parts = unpack(DATA)
    for wrong in ([*parts, parts[0]], [], *([s for s in parts if s.name != n] for n in ("manifest", "wir", "plan"))):
        with pytest.raises(ArtifactError, match="PTO601"):
            Artifact.from_bytes(pack(wrong))


def test_locations_may_be_left_out() -> None:
    loaded = Program.from_bytes(pack([s for s in unpack(DATA) if s.name != "locations"]))
    assert loaded.hash == program().hash
    loaded.bind({"x": zeros(4, 4, 8), "y": zeros(4, 4, 8)}).run()


@pytest.mark.parametrize(
    "replaced",
    [
        ("workload doubled {", "workload other {"),
        ("tensor x: f32[4,4,8]", "tensor x: f32[5,4,8]"),
        ("tensor y:", "tensor z:"),
        ("lanes=2", "lanes=3"),
        ("DenseDyn($batch)", "DenseDyn($batch + 1)"),
        ('"double"', '"triple"'),
        ("symbol $batch", "symbol $other"),
        ("f32<4x8>", "f32<4x9>"),
        ("}", ""),
    ],
)
def test_a_wir_that_the_manifest_contradicts_is_refused(replaced: tuple[str, str]) -> None:
    text = section("wir").decode()
    assert replaced[0] in text
    with pytest.raises(ArtifactError, match="PTO601"):
        Program.from_bytes(changed("wir", text.replace(*replaced, 1).encode()))


def places(x: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    inner = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ()
    for k, v in inner:
        yield from places(v, (*way, k))


def replaced(x: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    x = copy.deepcopy(x)
    inner = x
    for k in way[:-1]:
        inner = inner[k]
    inner[way[-1]] = value
    return x


ODD = [None, True, -1, 2**70, 1e308, float("inf"), float("nan"), "", "x", [], {}, [[1]], {"a": 1}]


def test_every_equation_keeps_its_place() -> None:
    @workload
    def w(x, y, n):
        for b in P(item(n[0])):
            for k in P(item(n[b])):
                double[b, k](x=x[k], y=y[item(n[k])])

    p = w(zeros(4, 4, 8), zeros(4, 4, 8), np.zeros(4, np.int32)).compile()
    before, after = (origins(a.wir) for a in (p._artifact, Artifact.from_bytes(p.to_bytes())))
    assert [e.prim for e in before] == ["item", "parallel_for", "item", "parallel_for", "item", "task"]
    assert [(e.prim, str(e.loc)) for e in before] == [(e.prim, str(e.loc)) for e in after]
    assert len({str(e.loc) for e in after}) == 3


@pytest.mark.parametrize("name", ["manifest", "locations"])
def test_odd_values_in_a_table_are_refused_or_harmless(name: str) -> None:
    table = json.loads(section(name))
    for way in places(table):
        for value in ODD:
            data = changed(name, json.dumps(replaced(table, way, value)).encode())
            try:
                loaded = Program.from_bytes(data)
            except ArtifactError:
                continue
            loaded.bind({"x": zeros(4, 4, 8), "y": zeros(4, 4, 8)}).set_axis_sizes({"batch": 4}).run()
            assert loaded.to_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "gpu"),
        ("name", "other"),
        ("race_checks", True),
        ("unproved", [0]),
        ("unproved", [-1]),
        ("unproved", ["0"]),
        ("sizes", {"batch": -1}),
        ("sizes", {"other": 1}),
        ("lanes", 0),
        ("axes", {}),
        ("tensors", []),
        ("kernels", []),
        ("schedules", []),
        ("symbols", []),
        ("capabilities", {"a": 1}),
        ("data_axes", {"seq": ["Ragged", "4", ["x"], None]}),
        ("slots", {"3": "i64"}),
        ("returns", "y"),
        ("extra", 1),
    ],
)
def test_a_manifest_that_contradicts_is_refused(field: str, value: Any) -> None:
    manifest = {**json.loads(section("manifest")), field: value}
    with pytest.raises(ArtifactError):
        Program.from_bytes(changed("manifest", json.dumps(manifest).encode()))


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["manifest", "wir", "plan", "locations"])
def test_sections_that_are_none_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(ArtifactError, match="PTO601"):
        Program.from_bytes(changed(name, data))


def test_the_plan_of_another_program_is_refused() -> None:
    renamed = from_source(SOURCE.replace("def double(x", "def twice(x").replace("double[b]", "twice[b]"), "a.py")
    plan = next(s.data for s in unpack(renamed.to_bytes()) if s.name == "plan")
    with pytest.raises(ArtifactError, match="PTO601"):
        Program.from_bytes(changed("plan", plan))


def fails(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    p = program()
    monkeypatch.setattr(os if step == "fsync" else Path, step, fails)
    with pytest.raises(ArtifactError, match=r"PTO603.*\n.*No space left") as caught:
        p.save(tmp_path / "p")
    assert caught.value.loc is not None
    assert Path(caught.value.loc.file) == Path(__file__)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program().save(tmp_path / "p")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ArtifactError):
        program().save(tmp_path / "p")
    monkeypatch.undo()
    assert [f.read_bytes() for f in tmp_path.iterdir()] == [DATA]


def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    script = SOURCE + textwrap.dedent("""
        import os, signal, sys, numpy as np
        x, y = (np.zeros((4, 4, 8), np.float32) for _ in "xy")
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        doubled(x, y).compile().save(sys.argv[1])
    """)
    done = subprocess.run([sys.executable, "-P", "-c", script, str(tmp_path / "p")], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("path", ["", "no/such/folder/p", ".", "a\0b", "n" * 300])
def test_paths_that_cannot_be_written_or_read(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    p = program()
    use: Callable[[str], object]
    for use in (p.save, Program.load):
        with pytest.raises(ArtifactError, match="PTO603"):
            use(path)
    assert not list(tmp_path.iterdir())


def test_saving_over_a_link_writes_its_target_and_keeps_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "target.pto", tmp_path / "link.pto"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    program().save(link)
    assert link.is_symlink()
    assert target.read_bytes() == DATA
    assert target.stat().st_mode & 0o777 == 0o640


def test_saving_to_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(ArtifactError) as refused:
            program().save(path)
        assert refused.value.code == "PTO603"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_killed_writer_leaves_one_file_that_the_next_takes_over(tmp_path: Path) -> None:
    (tmp_path / ".a.pto.part").write_bytes(b"half of something, longer than an artifact" * 10_000)
    program().save(tmp_path / "a.pto")
    assert [p.name for p in tmp_path.iterdir()] == ["a.pto"]
    assert (tmp_path / "a.pto").read_bytes() == DATA
