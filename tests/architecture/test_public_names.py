"""What the package exports is what it says it exports, and all of it is documented and typed."""

import __future__

import importlib.resources
import inspect
from collections.abc import Iterator

import pto_wsp


def is_by_the_way(name: str, value: object) -> bool:
    """Names that a module holds without exporting them: its submodules and `annotations`."""
    is_submodule = inspect.ismodule(value) and name not in pto_wsp.__all__
    return is_submodule or isinstance(value, __future__._Feature)


def documented(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A public object and what is public in it."""
    yield name, value
    members = vars(value).items() if inspect.isclass(value) or inspect.ismodule(value) else ()
    for member, inner in members:
        function = inner.fget if isinstance(inner, property) else getattr(inner, "__func__", inner)
        is_own = str(getattr(function, "__module__", "")).partition(".")[0] == "pto_wsp"
        if not member.startswith("_") and is_own and inspect.isroutine(function):
            yield f"{name}.{member}", function


def test_all_names_exactly_what_is_exported() -> None:
    exported = {
        name for name, value in vars(pto_wsp).items() if not name.startswith("_") and not is_by_the_way(name, value)
    }
    assert exported == {name for name in pto_wsp.__all__ if not name.startswith("_")}
    assert len(pto_wsp.__all__) == len(set(pto_wsp.__all__))
    for name in pto_wsp.__all__:
        getattr(pto_wsp, name)


def test_every_public_function_and_class_says_what_it_does() -> None:
    silent = []
    for name in pto_wsp.__all__:
        for path, value in documented(name, getattr(pto_wsp, name)):
            if not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            text = inspect.getdoc(value) or ""
            written_by_dataclass = text.startswith(f"{getattr(value, '__name__', '')}(")
            if not text or written_by_dataclass:
                silent.append(path)
    assert not silent, "without a docstring: " + ", ".join(silent)


def test_the_types_are_shipped() -> None:
    assert (importlib.resources.files("pto_wsp") / "py.typed").is_file()
