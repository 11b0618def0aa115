"""`@kernel(cpp_src=...)`: a kernel whose body is C++, compiled with the system's compiler.

The translation unit has the user's text between lines of ours. `#line` tells them apart, so that the compiler's errors name the
user's lines; headers that the user's own text includes are put in its place, so that an artifact has all of it.
"""

from __future__ import annotations

import ast
import dis
import inspect
import linecache
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pto_wsp.errors import Location, TraceError, here
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.ir.core import Direction, KernelParam, Param, RegionType, ScalarType, TileType, Var
from pto_wsp.ir.expr import Expr, const, to_expr, var
from pto_wsp.ops.cpp import ENTRY, INCLUDES, OURS, scalar_cpp
from pto_wsp.trace.annotations import ConstexprParam
from pto_wsp.trace.kernel import KernelFunction

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"\n]+)"', re.MULTILINE)
_ONCE = re.compile(r"^\s*#\s*pragma\s+once\b", re.MULTILINE)
_DEEPEST = 64
_KEYWORDS = re.findall(
    r"\w+",
    """
    alignas alignof asm auto bool catch char char8_t char16_t char32_t concept const consteval constexpr constinit
    const_cast decltype default delete do double dynamic_cast enum explicit export extern float friend goto inline int
    long mutable namespace new noexcept operator private protected public register reinterpret_cast requires short
    signed sizeof static static_assert static_cast struct switch template this thread_local throw true false try typedef
    typeid typename union unsigned using virtual void volatile wchar_t case break continue else for if return while
    """,
)


@dataclass(frozen=True)
class CppText:
    """The C++ of a kernel as the user gives it. is_unit: a whole translation unit, which defines a function of the kernel's name.

    text: given in Python; else `path` names its file. frame_file, folder: the Python file, and where relative paths begin.
    """

    text: str | None
    path: Path | None
    is_unit: bool
    includes: tuple[str, ...]
    cost: Any
    python: str
    loc: Location

    @property
    def unit(self) -> str:
        """What `#line` calls the text."""
        return "cpp_src" if self.path is None else self.path.name

    @property
    def folder(self) -> Path:
        return Path(self.python).parent


def cpp_text(frame: FrameType, src: Any, body_path: Any, tu_path: Any, includes: Any, cost: Any) -> CppText:
    """The options of `@kernel` as what they mean. Raises TraceError."""
    loc = Location.of_frame(frame)
    given = {"cpp_src": src, "cpp_body_path": body_path, "cpp_tu_path": tu_path}
    named = [n for n, x in given.items() if x is not None]
    if len(named) != 1:
        raise _wrong(
            f"{' and '.join(named) or 'cpp_includes or cost'} of one kernel",
            loc,
            "give one of cpp_src, cpp_body_path, cpp_tu_path",
        )
    if src is not None and (not isinstance(src, str) or not src.strip()):
        raise _wrong("cpp_src that is no text", loc, 'write cpp_src="""...""", the body of a C++ function', got=src)
    path = body_path if body_path is not None else tu_path
    if path is not None and not isinstance(path, (str, os.PathLike)):
        raise _wrong(f"{named[0]} that is no path", loc, "give the path of a C++ file", got=path)
    wrong = isinstance(includes, (str, bytes)) or not isinstance(includes, Sequence)
    if wrong or not all(isinstance(x, str) and x and "\n" not in x and '"' not in x for x in includes):
        raise _wrong(
            "cpp_includes that are no names of headers", loc, 'write cpp_includes=["<cmath>", "mine.hpp"]', got=includes
        )
    if cost is not None and not callable(cost) and not _is_cycles(cost):
        raise _wrong(
            "a cost that is no number of cycles",
            loc,
            "give an integer of 0 up to 2^63 - 1, or a function of the parameters: lambda x: 10 + x.rows * x.cols",
            got=cost,
        )
    python = frame.f_code.co_filename
    full = None if path is None else (Path(python).parent / path)
    return CppText(src, full, tu_path is not None, tuple(includes), cost, python, loc)


class CppKernel(KernelFunction):
    """What `@kernel(cpp_src=...)` makes: a kernel as any other, whose work is C++. Its Python function has no body."""

    def __init__(self, fn: Callable[..., Any], label: str, frame: FrameType, text: CppText) -> None:
        super().__init__(fn, label, frame)
        self.text = text
        used = [i.opname for i in dis.get_instructions(fn) if i.opname not in _NOTHING]
        if used:
            raise _wrong(
                f"kernel {label} has a body in Python and one in C++", self._loc, "write ... as its body in Python"
            )
        for name in self.specs:
            if name in _KEYWORDS:
                raise _wrong(f"kernel {label}: parameter {name} is a keyword of C++", self._loc, "give it another name")
        if text.is_unit and (not label.isidentifier() or label in _KEYWORDS):
            raise _wrong(
                f"a C++ function cannot be called {label!r}",
                text.loc,
                "give the kernel the name of the function in the file",
            )

    def body(self, builder: KernelBuilder, given: Mapping[str, Any]) -> Any:
        """One equation that takes all parameters."""
        headers = _Headers()
        listed = [headers.listed(self.text, x) for x in self.text.includes]
        text, first = _read(self.text, self.label, headers)
        params = tuple(builder.params.values())
        constants = {n: given[n] for n, s in self.specs.items() if isinstance(s, ConstexprParam)}
        source = _translation_unit(self, params, constants, listed, text)
        eqn: dict[str, Param] = {
            "source": source,
            "unit": self.text.unit,
            "reads": tuple(i for i, p in enumerate(params) if _is_memory(p) and p.direction is not Direction.OUT),
            "writes": tuple(i for i, p in enumerate(params) if _is_memory(p) and p.direction is not Direction.IN),
        }
        cost = self._cycles(params)
        if cost is not None:
            eqn["cost"] = cost
        elif any(isinstance(p.type, RegionType) for p in params):
            raise _wrong(
                f"kernel {self.label} takes regions, and does not say what it costs",
                self.text.loc,
                "give cost=, in cycles: cost=lambda x: 10 + x.shape[0] * x.shape[1] // 16",
            )
        builder.emit("cpp", [Var(p.name, p.type) for p in params], eqn, first)
        for p in params:
            if p.direction is not Direction.IN:
                builder.written.add(p.name)
                builder.stored[p.name] = 1

    def _cycles(self, params: Sequence[KernelParam]) -> Expr | None:
        cost = self.text.cost
        if cost is None or isinstance(cost, int):
            return None if cost is None else const(cost)
        sizes = {p.name: _Sizes(p, self.text.loc) for p in params if _is_memory(p)}
        wanted = list(inspect.signature(cost).parameters)
        unknown = [n for n in wanted if n not in sizes]
        if unknown:
            is_number = unknown[0] in self.specs
            fix = f"name tiles and regions of the kernel: {', '.join(sizes)}"
            raise _wrong(
                f"kernel {self.label}: cost takes {unknown[0]}, which is {'a number, no tile or region' if is_number else 'no parameter'} of it",
                self.text.loc,
                f"{fix}; a cost knows their sizes, no scalars and no Constexpr" if is_number else fix,
            )
        result = cost(**{n: sizes[n] for n in wanted})
        if not _is_cycles(result):
            raise _wrong(
                f"kernel {self.label}: cost gives no number of cycles",
                self.text.loc,
                "give an integer expression of rows, cols and shape, of numbers of 64 bits, that is 0 or more",
                got=str(result) if isinstance(result, Expr) else result,
            )
        return to_expr(result)


_NOTHING = frozenset({"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"})


def _is_cycles(x: object) -> bool:
    """Whether x may be a cost: an integer, or an expression, of numbers of 64 bits; not a negative number."""
    if not isinstance(x, (Expr, int)) or isinstance(x, bool):
        return False
    e = to_expr(x)
    return e.fits_64_bits and not (e.is_const and e.const < 0)


class _Sizes:
    """What a cost sees of a parameter: valid `rows` and `cols` of a tile, `shape` of either."""

    def __init__(self, p: KernelParam, at: Location) -> None:
        self._name, self._at = p.name, at
        if isinstance(p.type, TileType):
            self.rows, self.cols = var(f"{p.name}.rows"), var(f"{p.name}.cols")
            self.shape = (self.rows, self.cols)
        else:
            assert isinstance(p.type, RegionType)
            self.shape = tuple(var(f"{p.name}.{k}") if n is None else const(n) for k, n in enumerate(p.type.shape))

    def __getattr__(self, name: str) -> Any:
        there_is = ", ".join(n for n in vars(self) if not n.startswith("_"))
        raise _wrong(
            f"cost takes {self._name}.{name}, which is not there",
            self._at,
            "use shape of tiles and regions; rows and cols are those of tiles",
            there_is=there_is,
        )


def _is_memory(p: KernelParam) -> bool:
    return not isinstance(p.type, ScalarType)


# the translation unit


def _translation_unit(
    k: CppKernel, params: Sequence[KernelParam], constants: Mapping[str, Any], headers: Sequence[str], text: str
) -> str:
    """The user's text, with the function around it (or called after it) that the runtime knows."""
    name = k.label if k.text.is_unit else "body"
    constexprs = {n: _constant(k, n, x) for n, x in constants.items()}
    head = ["#include <pto_wsp/cpp_kernel.hpp>"]
    if headers:
        head += [f'#line 1 "{INCLUDES}"', *headers]
    views = [_view(p, i) for i, p in enumerate(params)]
    passed = {p.name: given for p, (_, given) in zip(params, views, strict=True)}
    order = [n for n in k.specs if n in passed or (k.text.is_unit and n in constexprs)]
    call = f"{name}({', '.join(passed.get(n, n) for n in order)});"
    known = [f"  constexpr {kind} {n} = {value};" for n, (kind, value) in constexprs.items()]
    user = [f'#line 1 "{k.text.unit}"', text, f'#line 1 "{OURS}"']
    if k.text.is_unit:
        kinds = {p.name: kind for p, (kind, _) in zip(params, views, strict=True)}
        kinds |= {n: kind for n, (kind, _) in constexprs.items()}
        rows = [*head, *user, f"// wanted: void {name}({', '.join(f'{kinds[n]} {n}' for n in order)})"]
        call = "".join(f"constexpr {kind} {n} = {value}; " for n, (kind, value) in constexprs.items()) + "::" + call
    else:
        takes = ", ".join(f"[[maybe_unused]] {kind} {p.name}" for p, (kind, _) in zip(params, views, strict=True))
        rows = [*head, f'#line 1 "{OURS}"', f"static void {name}({takes}) {{", *known, *user, "}"]
    return "\n".join(
        [
            *rows,
            f'extern "C" [[gnu::visibility("default")]] int {ENTRY}(const pto_wsp::Argument* args, char* text, std::size_t size) noexcept {{',
            f"  return pto_wsp::guarded(text, size, [&] {{ {call} }});",
            "}",
            "",
        ]
    )


def _view(p: KernelParam, i: int) -> tuple[str, str]:
    """How the function takes a parameter, and what makes it of argument i."""
    kind = scalar_cpp(p.type)
    if isinstance(p.type, ScalarType):
        return kind, f"pto_wsp::scalar_of<{kind}>(args[{i}])"
    element = f"const {kind}" if p.direction is Direction.IN else kind
    if isinstance(p.type, TileType):
        view = f"pto_wsp::Tile<{element}, {p.type.rows}, {p.type.cols}>"
    else:
        view = f"pto_wsp::Region<{element}, {len(p.type.shape)}>"
    return f"const {view}&", f"{view}(args[{i}])"


def _constant(k: CppKernel, name: str, x: Any) -> tuple[str, str]:
    """The C++ type and value of a Constexpr."""
    if isinstance(x, bool):
        return "bool", str(x).lower()
    if isinstance(x, int) and -(2**63) < x < 2**63:
        return "std::int64_t", str(x)
    if isinstance(x, float):
        if math.isfinite(x):
            return "double", x.hex()
        return "double", '__builtin_nan("")' if math.isnan(x) else f"{'-' * (x < 0)}__builtin_inf()"
    if isinstance(x, str):
        octal = "".join(f"\\{b:03o}" for b in x.encode())
        return "const char*", f'"{octal}"'
    raise _wrong(
        f"kernel {k.label}: Constexpr {name} has no form in C++",
        here(),
        "give an int of 64 bits, a float, a bool or a str",
        got=x,
    )


# the user's text


def _read(given: CppText, label: str, headers: _Headers) -> tuple[str, Location]:
    """The text with the headers it includes in their places, and where its first line stands."""
    if given.path is None:
        assert given.text is not None
        return headers.text(given.text, given.folder, given.unit), _literal(given, label)
    text = _file(given.path, given.loc)
    return headers.text(text, given.path.parent, given.unit), Location(str(given.path), 1, label)


def _file(path: Path, loc: Location) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise TraceError(
            "PTO198",
            f"cannot read the C++ file {path}",
            values={"because": e},
            loc=loc,
            fix="give the path of a text file, from the folder of the Python file",
        ) from e


class _Headers:
    """Puts headers of the user's in the place of what includes them."""

    def __init__(self) -> None:
        self.inside: list[Path] = []
        self.once: set[Path] = set()

    def listed(self, given: CppText, name: str) -> str:
        """A header of `cpp_includes`: in its place where it is the user's, else for the compiler to find."""
        if name.startswith("<"):
            return f"#include {name}"
        path = given.folder / name
        if not path.is_file():
            return f"#include <{name}>"
        return f'{self.content(path, given.loc)}\n#line 1 "{INCLUDES}"'

    def content(self, path: Path, loc: Location) -> str:
        """What a header holds; nothing, where it was there before and is to be read once."""
        real = path.resolve()
        if real in self.once or real in self.inside:
            return ""
        text = _file(path, loc)
        if _ONCE.search(text):
            self.once.add(real)
        self.inside.append(real)
        try:
            return f'#line 1 "{path.name}"\n{self.text(text, path.parent, path.name)}'
        finally:
            self.inside.pop()

    def text(self, text: str, folder: Path, unit: str) -> str:
        """`text` with `#include "..."` of files that are there replaced by what they hold."""

        def put(found: re.Match[str]) -> str:
            path = folder / found[1]
            if not path.is_file() or len(self.inside) > _DEEPEST:
                return found[0]
            line = text.count("\n", 0, found.end()) + 2
            return f'{self.content(path, Location(str(path), 1, unit))}\n#line {line} "{unit}"'

        return _ONCE.sub("", _INCLUDE.sub(put, text))


def _literal(given: CppText, label: str) -> Location:
    """Where the first line of a text stands in the Python file: in the literal it was written as, else where @kernel is."""
    try:
        tree = ast.parse("".join(linecache.getlines(given.python)))
    except (SyntaxError, ValueError):
        return given.loc
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node.end_lineno is None:
            continue
        value = node.value
        stripped = value[: len(value) - len(value.lstrip())].count("\n")
        forms = (
            (value, 0),
            (textwrap.dedent(value), 0),
            (value.strip(), stripped),
            (inspect.cleandoc(value), stripped),
        )
        for form, before in forms:
            if form == given.text and node.end_lineno - node.lineno == value.count("\n"):
                line = node.lineno + before
                end = node.end_col_offset if line == node.end_lineno else None
                start = 0 if before else node.col_offset
                length = len(linecache.getline(given.python, line).rstrip().encode())
                return Location(given.python, line, label, (start, end or max(length, start + 1)))
    return given.loc


def _wrong(what: str, loc: Location, fix: str, **values: object) -> TraceError:
    shown = {k: repr(v)[:80] for k, v in values.items()}
    return TraceError("PTO197", what, values=shown, loc=loc, fix=fix)
