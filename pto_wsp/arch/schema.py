"""The schema of arch files: every field is checked, and no other is accepted. docs/costs.md has it in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pto_wsp.arch.fields import LARGEST, Fields
from pto_wsp.arch.model import (
    COL_OPS,
    CUBE_DTYPES,
    MODELS,
    ROW_OPS,
    VECTOR_OPS,
    Arch,
    Cube,
    Fit,
    Instruction,
    Memory,
    Path,
    SyncDomain,
    Unit,
)

SCHEMA = 1


def build(data: dict[str, Any], source: str) -> Arch:
    root = Fields(data, source, "$")
    if root.integer("schema", 1) != SCHEMA:
        root.fail("schema", f"is not {SCHEMA}", "use the schema of this version of pto_wsp")
    sources: dict[str, str] = {}

    def figure(name: str, least: int, most: int = LARGEST) -> int:
        entry = root.object(name)
        value = entry.integer("value", least, most)
        sources[name] = entry.text("source")
        entry.close()
        return value

    name, summary = root.text("name"), root.text("summary")
    model = root.text("model") if root.has("model") else MODELS[0]
    if model not in MODELS:
        root.fail("model", f"is {model!r}, which is not there", f"write one of {', '.join(MODELS)}")
    clock_khz, lanes = figure("clock_khz", 1), figure("lanes", 1, 65536)
    issue_cost, handover, read_cost = figure("issue_cost", 0), figure("handover", 0), figure("read_cost", 0)
    memories = tuple(root.table("memories", _memory).values())
    units = tuple(root.table("units", _unit).values())
    unit_names = {u.name for u in units}
    for u in units:
        for other in u.beside:
            if other not in unit_names:
                root.fail(
                    f"units.{u.name}.beside", f"names the unit {other!r}, which is not there", "name units of this file"
                )
    paths = tuple(_path(p, {m.name for m in memories}, unit_names) for p in root.objects("paths"))
    tables = digest({k: v for k, v in data.items() if k != "model"})
    granularity, transfers = _transfer(root.object("transfer"), paths, sources)
    vector = root.object("vector")
    sources["vector"] = vector.text("source")
    instructions = vector.table("instructions", _instruction)
    vector_ops = _prices(vector, "ops", instructions, VECTOR_OPS)
    arch = Arch(
        name=name,
        model=model,
        tables=tables,
        digest=digest({"arch": tables, "model": model}),
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


def digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def _memory(name: str, o: Fields) -> Memory:
    return Memory(name, o.integer("bytes", 1) if o.has("bytes") else None, o.integer("align", 1), o.text("source"))


def _unit(name: str, o: Fields) -> Unit:
    return Unit(name, o.text("core"), o.text("does"), o.strings("beside"))


def _sync(name: str, o: Fields) -> SyncDomain:
    return SyncDomain(name, o.text("scope"), o.integer("count", 1), o.text("source"))


def _path(o: Fields, memories: set[str], units: set[str]) -> Path:
    path = Path(o.text("from"), o.text("to"), o.number("gib_per_s", positive=True), o.text("unit"), o.text("source"))
    for field, value, known, what in (
        ("from", path.src, memories, "memory"),
        ("to", path.dst, memories, "memory"),
        ("unit", path.unit, units, "unit"),
    ):
        if value not in known:
            o.fail(field, f"names the {what} {value!r}, which is not there", f"name a {what} of this file")
    o.close()
    return path


def _transfer(o: Fields, paths: tuple[Path, ...], sources: dict[str, str]) -> tuple[int, Mapping[str, Path]]:
    out: dict[str, Path] = {}
    for kind in ("load", "store", "load_cube", "store_cube"):
        ends = o.strings(kind)
        found = [p for p in paths if (p.src, p.dst) == ends]
        if len(found) != 1:
            o.fail(kind, f"names {len(found)} paths of this file", "write [from, to] of one of $.paths")
        out[kind] = found[0]
    sources["transfer"] = o.text("source")
    granularity = o.integer("granularity", 1)
    o.close()
    return granularity, MappingProxyType(out)


def _instruction(name: str, o: Fields) -> Instruction:
    unaligned = o.integer("unaligned", 0) if o.has("unaligned") else 0
    out = Instruction(o.integer("head", 0), o.integer("slope", 0), o.integer("tail", 0), unaligned)
    if not out.head + out.slope + out.tail:
        o.fail("", "costs nothing", "an operation takes at least one cycle")
    return out


def _prices(
    o: Fields, field: str, instructions: Mapping[str, Instruction], needed: tuple[str, ...]
) -> Mapping[str, Mapping[str, int]]:
    """Which instructions an operation is made of, and how many of each."""

    def price(name: str, entry: Fields) -> Mapping[str, int]:
        if name not in VECTOR_OPS:
            entry.fail("", "is not an operation", "correct its name")
        out: dict[str, int] = {}
        for instruction in entry.left():
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


def _fits(o: Fields, needed: tuple[str, ...], sources: dict[str, str], name: str) -> Mapping[str, Fit]:
    def fit(op: str, entry: Fields) -> Fit:
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


def _cube(o: Fields, sources: dict[str, str]) -> Cube:
    slopes = o.object("slope")
    slope = {short: slopes.integer(short, 1) for short in CUBE_DTYPES}
    slopes.close()
    cube = Cube(
        o.integer("head", 0), o.integer("m", 1), o.integer("k_bytes", 1), o.integer("n", 1), MappingProxyType(slope)
    )
    sources["cube"] = o.text("source")
    _nearest(o, sources, "cube")
    o.close()
    return cube


def _nearest(o: Fields, sources: dict[str, str], name: str) -> None:
    """Operations without a published figure, and whose they take."""
    if not o.has("nearest"):
        return
    table = o.object("nearest")
    for op in table.left():
        sources[f"{name}.{op}"] = table.text(op)
    table.close()
