"""Nothing unfinished, swallowed, skipped in silence, or true on one machine only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from project import files, place

TEXT = (".py", ".pyi", ".cpp", ".hpp", ".h", ".inc", ".cmake", ".txt", ".md", ".toml", ".json")
# Put together from parts, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~$})>])/(home|work|tmp|root|Users)(?![\w.-])")


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{place(path, number)}: {line.strip()}"
        for path in files(*TEXT)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def nodes(*words: str) -> Iterator[tuple[Path, ast.AST]]:
    """Of the files that have one of the words: what is looked for has."""
    for path in files(".py"):
        text = path.read_text()
        if any(w in text for w in words):
            for node in ast.walk(ast.parse(text, str(path))):
                yield path, node


def swallows(node: ast.AST) -> bool:
    """`except:`, `except Exception:` or `except BaseException:` with nothing done about it."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    is_broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
    does_nothing = all(
        isinstance(line, ast.Pass | ast.Continue)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in node.body
    )
    return is_broad and does_nothing


def skips_in_silence(node: ast.AST) -> bool:
    """`skip` or `skipif` of pytest, called or as a bare mark, without a reason."""
    marks = ("pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail", "pytest.xfail")
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return any(ast.unparse(decorator) in marks for decorator in node.decorator_list)
    if not (isinstance(node, ast.Call) and ast.unparse(node.func) in marks):
        return False
    says_why = any(keyword.arg == "reason" for keyword in node.keywords)
    needs_keyword = node.func.attr != "skip" if isinstance(node.func, ast.Attribute) else True
    return not (says_why or (node.args and not needs_keyword))


def test_nothing_is_left_unfinished() -> None:
    assert not (found := lines_with(UNFINISHED)), "\n".join(found)


def test_no_path_of_one_machine() -> None:
    assert not (found := lines_with(MACHINE_PATH)), "\n".join(found)


def test_no_error_is_swallowed() -> None:
    wrong = [place(path, node.lineno) for path, node in nodes("except") if swallows(node)]
    assert not wrong, "\n".join(wrong)


def test_a_skipped_test_says_why() -> None:
    wrong = [place(path, node.lineno) for path, node in nodes("skip", "xfail") if skips_in_silence(node)]
    assert not wrong, "\n".join(wrong)
