"""The container of an artifact: named sections behind a table of hashes.

    file    := "PTOWSPAR" schema:u32 count:u32 {entry} digest of all before:32 bytes, then the sections
    entry   := length of name:u8 name required:u8 size:u64 digest of the section:32 bytes

Integers are little-endian, digests SHA-256. Sections follow in the order of the table. An unknown section is kept when it is
optional and refused when it is required.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from pto_wsp.errors import ArtifactError, here

MAGIC = b"PTOWSPAR"
SCHEMA = 2
KNOWN = ("manifest", "wir", "plan", "locations")
# what says where a program came from, not what it is: outside of the content hash
UNHASHED = ("locations",)
_MAX_SECTIONS = 64


@dataclass(frozen=True)
class Section:
    name: str
    data: bytes
    required: bool = True


def content_hash(sections: list[Section]) -> str:
    """Hex digest of what the artifact means: every section but the source locations."""
    h = hashlib.sha256()
    for s in sections:
        if s.name not in UNHASHED:
            h.update(len(s.name).to_bytes(1, "little") + s.name.encode() + hashlib.sha256(s.data).digest())
    return h.hexdigest()


def pack(sections: list[Section]) -> bytes:
    """The bytes of a container; the same sections give the same bytes."""
    head = bytearray(MAGIC + struct.pack("<II", SCHEMA, len(sections)))
    for s in sections:
        name = s.name.encode()
        head += (
            struct.pack("<B", len(name))
            + name
            + struct.pack("<BQ", s.required, len(s.data))
            + hashlib.sha256(s.data).digest()
        )
    return bytes(head) + hashlib.sha256(head).digest() + b"".join(s.data for s in sections)


def damaged(why: str) -> ArtifactError:
    """The error for bytes that no version of pto_wsp wrote."""
    return ArtifactError("PTO601", f"the artifact is damaged, or none: {why}", loc=here(), fix="save the program again")


def unpack(data: bytes) -> list[Section]:
    """The sections of a container. Raises ArtifactError for damage, a newer schema, or an unknown required section."""
    if data[: len(MAGIC)] != MAGIC:
        raise damaged("it does not begin as one")
    try:
        schema, count = struct.unpack_from("<II", data, len(MAGIC))
        pos = len(MAGIC) + 8
        if schema != SCHEMA:
            raise ArtifactError(
                "PTO602",
                f"the artifact has schema {schema}",
                values={"this version reads": SCHEMA},
                loc=here(),
                fix="use the version of pto_wsp that wrote it, or save the program again",
            )
        if count > _MAX_SECTIONS:
            raise damaged(f"{count} sections")
        table: list[tuple[str, bool, int, bytes]] = []
        for _ in range(count):
            (n,) = struct.unpack_from("<B", data, pos)
            name = data[pos + 1 : pos + 1 + n].decode("ascii")
            required, size = struct.unpack_from("<BQ", data, pos + 1 + n)
            pos += 1 + n + 9
            table.append((name, bool(required), size, data[pos : pos + 32]))
            pos += 32
    except (struct.error, UnicodeDecodeError) as e:
        raise damaged("its table of sections breaks off") from e
    if hashlib.sha256(data[:pos]).digest() != data[pos : pos + 32]:
        raise damaged("its table of sections does not match its hash")
    pos += 32
    out: list[Section] = []
    for name, required, size, digest in table:
        part = data[pos : pos + size]
        pos += size
        if len(part) != size or hashlib.sha256(part).digest() != digest:
            raise damaged(f"section {name!r} does not match its hash")
        if name not in KNOWN and required:
            raise ArtifactError(
                "PTO602",
                f"the artifact needs a part called {name!r}",
                loc=here(),
                fix="use the version of pto_wsp that wrote it",
            )
        out.append(Section(name, part, required))
    if pos != len(data):
        raise damaged("bytes follow its end")
    if len({s.name for s in out}) != len(out):
        raise damaged("a section stands twice")
    return out
