"""An artifact: manifest, wir, plan and source locations of one compiled workload."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pto_wsp.artifact.container import Section, content_hash, damaged, pack, unpack
from pto_wsp.artifact.tables import tables_of
from pto_wsp.errors import ArtifactError, Location, PtoError, here
from pto_wsp.ir.core import Eqn, Region, Wir
from pto_wsp.ir.declarable import declarables
from pto_wsp.ir.dependence import analyse
from pto_wsp.ir.processes import pipelines
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify


@dataclass(frozen=True)
class Artifact:
    """Immutable, and shared by the programs made of it. `manifest` is plain JSON data; `wir` is the workload as it was
    scheduled, whose equations know where the user wrote them, and `wir_text` its text. `check_locations` says for each kernel
    where its checks of valid shapes stand."""

    manifest: dict[str, Any]
    wir: Wir
    wir_text: str
    plan: bytes
    check_locations: tuple[tuple[Location | None, ...], ...]
    others: tuple[Section, ...] = field(default=())

    def sections(self) -> list[Section]:
        places = {
            "origins": [_place(e.loc) for top in self.wir.body.eqns for e in top.walk()],
            "checks": [[_place(x) for x in row] for row in self.check_locations],
        }
        return [
            Section("manifest", _json(self.manifest)),
            Section("wir", self.wir_text.encode()),
            Section("plan", self.plan),
            Section("locations", _json(places), required=False),
            *self.others,
        ]

    def to_bytes(self) -> bytes:
        """The artifact as bytes; the same workload gives the same bytes, source locations aside."""
        return pack(self.sections())

    @property
    def hash(self) -> str:
        """Content hash: what the program is, not where its source stands."""
        return content_hash(self.sections())

    @staticmethod
    def from_bytes(data: bytes) -> Artifact:
        """The artifact in `data`. Raises ArtifactError for anything that is damaged, newer, or inconsistent."""
        parts = unpack(bytes(data))
        by_name = {s.name: s for s in parts}
        for name in ("manifest", "wir", "plan"):
            if name not in by_name:
                raise damaged(f"it has no {name}")
        try:
            manifest = json.loads(by_name["manifest"].data.decode())
            text = by_name["wir"].data.decode()
            places = (
                json.loads(by_name["locations"].data.decode())
                if "locations" in by_name
                else {"origins": [], "checks": []}
            )
            found = tuple(_location(x) for x in places["origins"])
            checks = tuple(tuple(_location(x) for x in row) for row in places["checks"])
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as e:
            raise damaged(f"its tables cannot be read ({type(e).__name__})") from e
        others = tuple(s for s in parts if s.name not in ("manifest", "wir", "plan", "locations"))
        try:
            wir = _located(parse(text), found)
            verify(wir, "traced")
        except PtoError as e:
            raise damaged(f"its wir breaks a rule: {e.what}") from e
        artifact = Artifact(manifest, wir, text, by_name["plan"].data, checks, others)
        artifact._check()
        return artifact

    def _check(self) -> None:
        """The manifest must say what the wir says."""
        m = self.manifest
        if (
            not isinstance(m, dict)
            or set(m) != set(_MANIFEST)
            or any(not isinstance(m[k], t) for k, t in _MANIFEST.items())
        ):
            raise damaged("its manifest lacks fields, or has wrong ones")
        want = tables_of(self.wir)
        wrong = [k for k, v in want.items() if m[k] != v]
        if wrong:
            raise damaged(f"its manifest and its wir differ in {', '.join(wrong)}")
        sizes: dict[str, Any] = m["sizes"]
        if any(n not in self.wir.symbols or not _is_count(v, 0) for n, v in sizes.items()):
            raise damaged("its manifest has wrong sizes")
        if not all(_is_count(m[k], 1) for k in ("lanes", "clock_khz")):
            raise damaged("its manifest has wrong numbers")
        # how the target that it was made for takes what it uses
        if set(m["capabilities"]) != set(declarables(self.wir)) or any(
            v not in _TAKEN for v in m["capabilities"].values()
        ):
            raise damaged("its manifest and its wir differ in what they use")
        if m["native"] not in (False, True, "auto"):
            raise damaged("its manifest has an unknown tier")
        if m["race_checks"] is not analyse(self.wir).depends_on_sizes:
            raise damaged("its manifest and its wir differ in what sizes decide")
        unproved: list[Any] = m["unproved"]
        some = [k for k, _ in enumerate(pipelines(self.wir)) if any(_is_count(n, 0) and n == k for n in unproved)]
        if unproved != some:
            raise damaged("its manifest names pipelines that its wir lacks")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artifact, whole or not at all; an existing file keeps its permissions, a link its target's name.

        Raises ArtifactError where it cannot be written.
        """
        try:
            replace_file(Path(os.path.realpath(path)), self.to_bytes())
        except (OSError, ValueError) as e:
            raise ArtifactError(
                "PTO603",
                f"cannot write {os.fspath(path)!r}",
                values={"because": e},
                loc=here(),
                fix="give the path of a file that can be written, on a disk with room",
            ) from e

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Artifact:
        """Read what `save` wrote. Raises ArtifactError."""
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as e:
            raise ArtifactError(
                "PTO603",
                f"cannot read {path}",
                values={"because": e},
                loc=here(),
                fix="give the path of a saved program",
            ) from e
        return Artifact.from_bytes(data)


_TAKEN = ("enforced", "recorded")
_MANIFEST: dict[str, Any] = {
    "name": str,
    "target": str,
    "arch": str,
    "arch_hash": str,
    "model": str,
    "clock_khz": int,
    "lanes": int,
    "capabilities": dict,
    "sizes": dict,
    "race_checks": bool,
    "unproved": list,  # pipelines, by number, that what compiling proves leaves to the run
    "native": (bool, str),
    "symbols": list,
    "axes": dict,
    "data_axes": dict,
    "tensors": list,
    "kernels": list,
    "slots": dict,
    "returns": (str, list, type(None)),
    "schedules": list,
}


def replace_file(target: Path, data: bytes) -> None:
    """Write beside `target`, then rename. What a killed writer leaves behind has one name, which the next one takes over."""
    mode = None
    if target.exists():
        if not target.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(target))
        mode = target.stat().st_mode & 0o777
    temporary = target.with_name(f".{target.name}.part")
    while True:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        with os.fdopen(handle, "wb") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            if not temporary.exists() or not os.path.samestat(os.fstat(f.fileno()), temporary.stat()):
                continue  # another writer has renamed or removed this file meanwhile
            try:
                f.truncate(0)
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
                if mode is not None:
                    os.fchmod(f.fileno(), mode)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            return


def make(
    wir: Wir,
    plan: bytes,
    check_locations: tuple[tuple[Location | None, ...], ...],
    **manifest: Any,
) -> Artifact:
    """The artifact of a lowered workload; `manifest` gives the fields that do not follow from the wir."""
    return Artifact({**manifest, "native": False, **tables_of(wir)}, wir, show(wir), plan, check_locations)


def _located(wir: Wir, places: tuple[Location | None, ...]) -> Wir:
    """wir with these locations on its equations, in the order of the text."""
    left = iter(places)

    def visit(eqn: Eqn) -> Eqn:
        loc = next(left, None)
        return replace(
            eqn, loc=loc, regions=tuple(Region(r.params, tuple(visit(e) for e in r.eqns)) for r in eqn.regions)
        )

    return wir.with_body(*(visit(e) for e in wir.body.eqns))


def _is_count(x: object, least: int) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and least <= x < 2**63


def _json(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _place(x: Location | None) -> list[Any] | None:
    return None if x is None else [x.file, x.line, x.function, list(x.cols) if x.cols else None]


def _location(x: Any) -> Location | None:
    if x is None:
        return None
    file, line, function, cols = x
    if not (isinstance(file, str) and isinstance(line, int) and isinstance(function, str)):
        raise TypeError("a location of the wrong form")
    return Location(file, line, function, None if cols is None else (int(cols[0]), int(cols[1])))
