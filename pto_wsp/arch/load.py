"""Arch files: JSON with exact numbers, checked field by field; `docs/costs.md` has the schema in words."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from pto_wsp.arch.model import COL_OPS, ROW_OPS, VECTOR_OPS, Arch, Cube, Fit, Instruction, Memory, Path, SyncDomain, Unit
from pto_wsp.errors import CompileError, here
from pto_wsp.ir.core import SHORT_DTYPES, DType

DEFAULT = "ascend_a2a3"
SCHEMA = 1

_FOLDER = FilePath(__file__).resolve().parent
_LARGEST = 2**40  # keeps every cost of a tile far inside 64 bits

T = TypeVar("T")


def names() -> tuple[str, ...]:
    """The machines of this package."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.json")))


def get(arch: str | os.PathLike[str] | Arch | None = None) -> Arch:
    """The machine of that name, of that JSON file, or `arch` itself. None means the default machine.

    A string with a path separator or the ending ".json" is a file. Raises CompileError PTO402.
    """
    if isinstance(arch, Arch):
        return arch
    if arch is None:
        arch = DEFAULT
    if not isinstance(arch, (str, os.PathLike)):
        raise CompileError("PTO402", f"an arch cannot be a {type(arch).__name__}", values={"arch": repr(arch)[:80]}, loc=here(), fix="give a name, the path of an arch file, or an Arch")
    if isinstance(arch, str) and not arch.endswith(".json") and os.sep not in arch:
        return _named(arch)
    return _build(_read(FilePath(arch), ()), str(arch))


def _named(name: str) -> Arch:
    if name not in names():
        raise CompileError("PTO402", f"there is no arch {name!r}", values={"there is": ", ".join(names())}, loc=here(), fix=_did_you_mean(name))
    return _packaged(name)


@cache
def _packaged(name: str) -> Arch:
    return _build(_read(_FOLDER / f"{name}.json", ()), name)


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(name, names(), 1)
    return f"did you mean {near[0]!r}?" if near else "use one of these, or give the path of an arch file"


def _fail(source: str, where: str, what: str, fix: str) -> NoReturn:
    raise CompileError("PTO402", f"arch {source}: {where} {what}", loc=here(), fix=fix)


def _read(path: FilePath, seen: tuple[FilePath, ...]) -> dict[str, Any]:
    """The file's fields over those of the machine it extends; a field is replaced whole."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            twice = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
            _fail(str(path), f"the field {twice!r}", "stands twice in one object", "keep one of them")
        return out

    def no_number(text: str) -> NoReturn:
        _fail(str(path), text, "is not a number of JSON", "write a finite number")

    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"), parse_float=Fraction, parse_constant=no_number, object_pairs_hook=unique)
    except OSError as e:
        raise CompileError("PTO402", f"arch {path} cannot be read: {e.strerror}", values={"there is": ", ".join(names())}, loc=here(), fix="give the name of a machine or the path of an arch file") from e
    except (ValueError, RecursionError) as e:
        raise CompileError("PTO402", f"arch {path} is not JSON: {e}", loc=here(), fix="correct the file; pto_wsp/arch/ascend_a2a3.json is an example") from e
    if not isinstance(data, dict):
        _fail(str(path), "$", "is not an object", "write the fields in { }")
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        _fail(str(path), "$.extends", "is not a string", "name the machine whose fields this one takes over")
    parent = path.parent / base if base.endswith(".json") else _FOLDER / f"{base}.json"
    if parent.resolve() in (path.resolve(), *seen):
        _fail(str(path), "$.extends", f"leads back to {base}", "let a machine extend another one")
    if not base.endswith(".json") and base not in names():
        _fail(str(path), "$.extends", f"names {base!r}, which is not there", _did_you_mean(base))
    return _read(parent, (*seen, path.resolve())) | data


class _Object:
    """An object of the file: fields are taken one by one, and `close` refuses what is left over."""

    def __init__(self, value: Any, source: str, where: str) -> None:
        self._source, self._where = source, where
        if not isinstance(value, dict):
            self.fail("", "is not an object", "write the fields in { }")
        self._fields: dict[str, Any] = dict(value)

    def fail(self, field: str, what: str, fix: str) -> NoReturn:
        _fail(self._source, f"{self._where}.{field}" if field else self._where, what, fix)

    def take(self, field: str) -> Any:
        if field not in self._fields:
            self.fail(field, "is missing", "add the field")
        return self._fields.pop(field)

    def has(self, field: str) -> bool:
        return field in self._fields

    def text(self, field: str) -> str:
        value = self.take(field)
        if not isinstance(value, str) or not value.strip():
            self.fail(field, "is not a text", "write a string that is not empty")
        return value

    def integer(self, field: str, least: int, most: int = _LARGEST) -> int:
        value = self.take(field)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.fail(field, f"is not an integer from {least} to {most}", "write such a number")
        return value

    def number(self, field: str, *, positive: bool = False) -> Fraction:
        value = self.take(field)
        if not isinstance(value, (int, Fraction)) or isinstance(value, bool) or not 0 <= value <= _LARGEST or (positive and not value) or Fraction(value).denominator > 10**6:
            self.fail(field, f"is not a {'positive ' if positive else ''}number up to {_LARGEST} with at most six decimals", "write such a number")
        return Fraction(value)

    def array(self, field: str) -> list[Any]:
        value = self.take(field)
        if not isinstance(value, list):
            self.fail(field, "is not an array", "write it in [ ]")
        return value

    def strings(self, field: str) -> tuple[str, ...]:
        value = self.array(field)
        if not all(isinstance(v, str) for v in value):
            self.fail(field, "is not an array of texts", "write strings in [ ]")
        return tuple(value)

    def object(self, field: str) -> _Object:
        return _Object(self.take(field), self._source, f"{self._where}.{field}")

    def objects(self, field: str) -> Iterator[_Object]:
        for i, value in enumerate(self.array(field)):
            yield _Object(value, self._source, f"{self._where}.{field}[{i}]")

    def table(self, field: str, entry: Callable[[str, _Object], T]) -> Mapping[str, T]:
        """The object `field`, each of whose fields is an object that `entry` reads."""
        inner = self.object(field)
        out: dict[str, T] = {}
        for key in list(inner._fields):
            child = inner.object(key)
            out[key] = entry(key, child)
            child.close()
        return MappingProxyType(out)

    def close(self) -> None:
        for field in self._fields:
            self.fail(field, "is not a field of the schema", "remove it, or correct its name")


def _build(data: dict[str, Any], source: str) -> Arch:
    root = _Object(data, source, "$")
    if root.integer("schema", 1) != SCHEMA:
        root.fail("schema", f"is not {SCHEMA}", "use the schema of this version of pto_wsp")
    sources: dict[str, str] = {}

    def figure(name: str, least: int, most: int = _LARGEST) -> int:
        entry = root.object(name)
        value = entry.integer("value", least, most)
        sources[name] = entry.text("source")
        entry.close()
        return value

    name, summary = root.text("name"), root.text("summary")
    clock_khz, lanes = figure("clock_khz", 1), figure("lanes", 1, 65536)
    issue_cost, handover, read_cost = figure("issue_cost", 0), figure("handover", 0), figure("read_cost", 0)
    memories = tuple(root.table("memories", _memory).values())
    units = tuple(root.table("units", _unit).values())
    unit_names = {u.name for u in units}
    for u in units:
        for other in u.beside:
            if other not in unit_names:
                root.fail(f"units.{u.name}.beside", f"names the unit {other!r}, which is not there", "name units of this file")
    paths = tuple(_path(p, {m.name for m in memories}, unit_names) for p in root.objects("paths"))
    granularity, transfers = _transfer(root.object("transfer"), paths, sources)
    vector = root.object("vector")
    sources["vector"] = vector.text("source")
    instructions = vector.table("instructions", _instruction)
    vector_ops = _prices(vector, "ops", instructions, VECTOR_OPS)
    arch = Arch(
        name=name,
        digest=hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest(),
        summary=summary,
        clock_khz=clock_khz,
        lanes=lanes,
        issue_cost=issue_cost,
        handover=handover,
        read_cost=read_cost,
        sources=MappingProxyType(sources),
        memories=memories,
        paths=paths,
        units=units,
        sync=tuple(root.table("sync", _sync).values()),
        granularity=granularity,
        transfers=transfers,
        repeat_bytes=vector.integer("repeat_bytes", 1),
        instructions=instructions,
        vector_ops=vector_ops,
        scalar_ops=_prices(vector, "scalar_ops", instructions, ()),
        row_fits=_fits(root.object("rows"), ROW_OPS, sources, "rows"),
        col_fits=_fits(root.object("cols"), COL_OPS, sources, "cols"),
        cube=_cube(root.object("cube"), sources),
    )
    _nearest(vector, sources, "vector")
    vector.close()
    root.close()
    return arch


def _memory(name: str, o: _Object) -> Memory:
    size = o.take("bytes") if o.has("bytes") and o._fields["bytes"] is None else o.integer("bytes", 1)
    return Memory(name, size, o.integer("align", 1), o.text("source"))


def _unit(name: str, o: _Object) -> Unit:
    return Unit(name, o.text("core"), o.text("does"), o.strings("beside"))


def _sync(name: str, o: _Object) -> SyncDomain:
    return SyncDomain(name, o.text("scope"), o.integer("count", 1), o.text("source"))


def _path(o: _Object, memories: set[str], units: set[str]) -> Path:
    path = Path(o.text("from"), o.text("to"), o.number("gib_per_s", positive=True), o.text("unit"), o.text("source"))
    for field, value, known, what in (("from", path.src, memories, "memory"), ("to", path.dst, memories, "memory"), ("unit", path.unit, units, "unit")):
        if value not in known:
            o.fail(field, f"names the {what} {value!r}, which is not there", f"name a {what} of this file")
    o.close()
    return path


def _transfer(o: _Object, paths: tuple[Path, ...], sources: dict[str, str]) -> tuple[int, Mapping[str, Path]]:
    out: dict[str, Path] = {}
    for kind in ("load", "store"):
        ends = o.strings(kind)
        found = [p for p in paths if (p.src, p.dst) == ends]
        if len(found) != 1:
            o.fail(kind, f"names {len(found)} paths of this file", "write [from, to] of one of $.paths")
        out[kind] = found[0]
    sources["transfer"] = o.text("source")
    granularity = o.integer("granularity", 1)
    o.close()
    return granularity, MappingProxyType(out)


def _instruction(name: str, o: _Object) -> Instruction:
    unaligned = o.integer("unaligned", 0) if o.has("unaligned") else 0
    out = Instruction(o.integer("head", 0), o.integer("slope", 0), o.integer("tail", 0), unaligned)
    if not out.head + out.slope + out.tail:
        o.fail("", "costs nothing", "an operation takes at least one cycle")
    return out


def _prices(o: _Object, field: str, instructions: Mapping[str, Instruction], needed: tuple[str, ...]) -> Mapping[str, Mapping[str, int]]:
    """Which instructions an operation is made of, and how many of each."""

    def price(name: str, entry: _Object) -> Mapping[str, int]:
        if name not in VECTOR_OPS:
            entry.fail("", "is not an operation", "correct its name")
        out: dict[str, int] = {}
        for instruction in list(entry._fields):
            if instruction not in instructions:
                entry.fail(instruction, "is not one of $.vector.instructions", "correct its name, or add it there")
            out[instruction] = entry.integer(instruction, 1, 1000)
        if not out:
            entry.fail("", "names no instruction", "an operation takes at least one")
        return MappingProxyType(out)

    table = o.table(field, price)
    for name in needed:
        if name not in table:
            o.fail(f"{field}.{name}", "is missing", "add the field")
    return table


def _fits(o: _Object, needed: tuple[str, ...], sources: dict[str, str], name: str) -> Mapping[str, Fit]:
    def fit(op: str, entry: _Object) -> Fit:
        if op not in needed:
            entry.fail("", "is not an operation of this table", "correct its name")
        out = Fit(entry.number("bias"), entry.number("slope"), entry.number("next_bias"), entry.number("next_slope"))
        if not out.bias + out.slope:
            entry.fail("", "costs nothing", "an operation takes at least one cycle")
        return out

    sources[name] = o.text("source")
    table = o.table("fits", fit)
    for op in needed:
        if op not in table:
            o.fail(f"fits.{op}", "is missing", "add the field")
    _nearest(o, sources, name)
    o.close()
    return table


def _cube(o: _Object, sources: dict[str, str]) -> Cube:
    slopes = o.object("slope")
    known = {d.short: d for d in SHORT_DTYPES.values() if d is not DType.BOOL}
    slope = {dtype: slopes.integer(short, 1) for short, dtype in known.items()}
    slopes.close()
    cube = Cube(o.integer("head", 0), o.integer("m", 1), o.integer("k_bytes", 1), o.integer("n", 1), MappingProxyType(slope))
    sources["cube"] = o.text("source")
    _nearest(o, sources, "cube")
    o.close()
    return cube


def _nearest(o: _Object, sources: dict[str, str], name: str) -> None:
    """Operations without a published figure, and whose they take."""
    if not o.has("nearest"):
        return
    table = o.object("nearest")
    for op in list(table._fields):
        sources[f"{name}.{op}"] = table.text(op)
    table.close()
