"""Finding arch files, by name or path, and reading them: JSON with exact numbers."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from pto_wsp.arch.fields import fail
from pto_wsp.arch.model import MODELS, Arch
from pto_wsp.arch.schema import build, digest
from pto_wsp.errors import CompileError, here

DEFAULT = "ascend_a2a3"

_FOLDER = Path(__file__).resolve().parent


def names() -> tuple[str, ...]:
    """The machines of this package."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.json")))


def get(arch: str | os.PathLike[str] | Arch | None = None) -> Arch:
    """The machine of that name, of that JSON file, or `arch` itself. None means the default machine.

    A string with a path separator or the ending ".json" is a file. After a colon a string may name the model of costs:
    "ascend_a2a3:pipes". Raises CompileError PTO402.
    """
    if isinstance(arch, Arch):
        return arch
    if arch is None:
        arch = DEFAULT
    if not isinstance(arch, (str, os.PathLike)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompileError(
            "PTO402",
            f"an arch cannot be a {type(arch).__name__}",
            values={"arch": repr(arch)[:80]},
            loc=here(),
            fix="give a name, the path of an arch file, or an Arch",
        )
    if isinstance(arch, str) and re.search(r":\w*$", arch):
        machine, _, model = arch.rpartition(":")
        return with_model(get(machine), model)
    if isinstance(arch, str) and not arch.endswith(".json") and os.sep not in arch:
        return _named(arch)
    return build(_read(Path(arch), ()), str(arch))


def with_model(arch: Arch, model: str) -> Arch:
    """The machine with its costs made by "serial" or "pipes" (docs/costs.md). Raises CompileError PTO402."""
    if model not in MODELS:
        raise CompileError(
            "PTO402",
            f"there is no model of costs {model!r}",
            values={"there is": ", ".join(MODELS)},
            loc=here(),
            fix=f"write {arch.name}:{MODELS[0]} or {arch.name}:{MODELS[1]}",
        )
    return (
        arch
        if arch.model == model
        else replace(arch, model=model, digest=digest({"arch": arch.tables, "model": model}))
    )


def _named(name: str) -> Arch:
    if name not in names():
        raise CompileError(
            "PTO402",
            f"there is no arch {name!r}",
            values={"there is": ", ".join(names())},
            loc=here(),
            fix=_did_you_mean(name),
        )
    return _packaged(name)


@cache
def _packaged(name: str) -> Arch:
    return build(_read(_FOLDER / f"{name}.json", ()), name)


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(name, names(), 1)
    return f"did you mean {near[0]!r}?" if near else "use one of these, or give the path of an arch file"


def _exact(text: str) -> Fraction:
    if not re.fullmatch(r"-?\d{1,13}\.\d{1,6}", text):
        raise ValueError(f"{text[:40]} is not a number with at most 13 digits before the point and 6 behind it")
    return Fraction(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a field stands twice in one object: " + ", ".join(name for name, _ in pairs))
    return out


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The file's fields over those of the machine it extends; a field is replaced whole."""

    try:
        data: Any = json.loads(
            path.read_text(encoding="utf-8"), parse_float=_exact, parse_constant=_refuse, object_pairs_hook=_unique
        )
    except OSError as e:
        raise CompileError(
            "PTO402",
            f"arch {path} cannot be read: {e.strerror}",
            values={"there is": ", ".join(names())},
            loc=here(),
            fix="give the name of a machine or the path of an arch file",
        ) from e
    except (ValueError, RecursionError) as e:
        raise CompileError(
            "PTO402",
            f"arch {path} is not such JSON as it should be: {e}",
            loc=here(),
            fix="correct the file; pto_wsp/arch/ascend_a2a3.json is an example",
        ) from e
    if not isinstance(data, dict):
        fail(str(path), "$", "is not an object", "write the fields in { }")
    fields = cast(dict[str, Any], data)
    base = fields.pop("extends", None)
    if base is None:
        return fields
    if not isinstance(base, str):
        fail(str(path), "$.extends", "is not a string", "name the machine whose fields this one takes over")
    parent = path.parent / base if base.endswith(".json") else _FOLDER / f"{base}.json"
    if parent.resolve() in (path.resolve(), *seen):
        fail(str(path), "$.extends", f"leads back to {base}", "let a machine extend another one")
    if not base.endswith(".json") and base not in names():
        fail(str(path), "$.extends", f"names {base!r}, which is not there", _did_you_mean(base))
    return _read(parent, (*seen, path.resolve())) | fields
