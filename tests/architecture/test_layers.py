"""A layer imports from the layers to its left, one target never from another, and only the runtime from C++."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from project import ROOT, files, place

PACKAGE = ROOT / "pto_wsp"
# The public names (`pto_wsp` itself) stand between what users hold and the tools that use it as they would.
LAYERS = (
    *("errors", "ir", "arch", "cxx", "ops", "passes", "trace", "csp", "transforms", "proofs"),
    *("artifact", "targets", "runtime", "api", "search", "", "tools"),
)
SHARED_BY_TARGETS = ("", "base", "capabilities")


def module_name(path: Path) -> tuple[str, ...]:
    """The parts of a file's module name after `pto_wsp`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def exists(parts: tuple[str, ...]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").exists()


@cache
def imports(path: Path) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Line and full module name of everything a file imports, anywhere in it."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    package = ("pto_wsp", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                inner = (*module, alias.name)
                is_module = module[0] == "pto_wsp" and (exists(inner[1:]) or alias.name == "_core")
                yield node.lineno, inner if is_module else module


def package_imports() -> Iterator[tuple[Path, int, tuple[str, ...]]]:
    for path in files(".py"):
        if path.is_relative_to(PACKAGE):
            for line, module in imports(path):
                yield path, line, module


def own_imports() -> Iterator[tuple[Path, int, tuple[str, ...], tuple[str, ...]]]:
    """Imports inside the package: file, line, the importing module and the imported one."""
    for path, line, module in package_imports():
        if module[0] == "pto_wsp" and module[1:2] != ("_core",):
            yield path, line, module_name(path), module[1:]


def layer(module: tuple[str, ...]) -> str:
    return module[0] if module else ""


def test_every_module_belongs_to_a_layer() -> None:
    modules = [module_name(path) for path in PACKAGE.rglob("*.py")]
    assert modules
    assert {layer(module) for module in modules} <= set(LAYERS)


def test_imports_go_to_the_left() -> None:
    wrong = [
        f"{place(path, line)}: {layer(user) or 'pto_wsp'} imports {layer(used) or 'pto_wsp'}"
        for path, line, user, used in own_imports()
        if LAYERS.index(layer(used)) > LAYERS.index(layer(user))
    ]
    assert not wrong, "\n".join(wrong)


def test_a_target_imports_no_other_target() -> None:
    def target(module: tuple[str, ...]) -> str:
        return module[1] if len(module) > 1 else ""

    wrong = [
        f"{place(path, line)}: {target(user)} imports {target(used)}"
        for path, line, user, used in own_imports()
        if layer(user) == layer(used) == "targets"
        and target(user)
        and target(used) not in (target(user), *SHARED_BY_TARGETS)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_runtime_imports_the_core() -> None:
    wrong = [
        place(path, line)
        for path, line, module in package_imports()
        if module[:2] == ("pto_wsp", "_core") and layer(module_name(path)) != "runtime"
    ]
    assert not wrong, "\n".join(wrong)


def test_the_package_never_imports_jax() -> None:
    wrong = [place(path, line) for path, line, module in package_imports() if module[0] in ("jax", "jaxlib", "flax")]
    assert not wrong, "\n".join(wrong)


def test_the_core_knows_no_python() -> None:
    include = re.compile(r'\s*#\s*include\s*[<"](pybind11|Python\.h)')
    wrong = [
        place(path, number)
        for path in files(".hpp", ".cpp", ".h", ".inc")
        if path.is_relative_to(ROOT / "csrc") and not path.is_relative_to(ROOT / "csrc" / "bindings")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if include.match(line)
    ]
    assert not wrong, "\n".join(wrong)
