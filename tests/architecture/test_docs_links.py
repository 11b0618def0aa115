"""Every relative link of every document leads somewhere, down to the heading."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from project import files, place

FENCE = re.compile(r"^\s*(```|~~~)")
INLINE_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
DEFINED_LINK = re.compile(r"^\s*\[[^\]]+\]:\s*<?([^\s>]+)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
OUTSIDE = re.compile(r"^[a-z][a-z0-9+.-]*:")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of code blocks."""
    fence = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        mark = FENCE.match(line)
        if fence is None and mark is None:
            yield number, line
        elif fence is None and mark is not None:
            fence = mark[1]
        elif mark is not None and mark[1] == fence:
            fence = None


def links(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in prose(path):
        text = re.sub(r"`[^`]*`", "code", line)
        for pattern in (INLINE_LINK, DEFINED_LINK):
            for match in pattern.finditer(text):
                if not OUTSIDE.match(match[1]):
                    yield number, unquote(match[1])


def anchors(path: Path) -> set[str]:
    """The names headings are linked to by: lower case, no punctuation, hyphens for spaces, a count if repeated."""
    found: set[str] = set()
    for _, line in prose(path):
        heading = HEADING.match(line)
        if heading is None:
            continue
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "")
        name = base = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = 0
        while name in found:
            count += 1
            name = f"{base}-{count}"
        found.add(name)
    return found


def broken(path: Path, target: str) -> bool:
    file, _, anchor = target.partition("#")
    there = path.parent / file if file else path
    if not there.exists():
        return True
    return bool(anchor) and there.suffix == ".md" and anchor not in anchors(there)


def test_every_relative_link_resolves() -> None:
    wrong = [
        f"{place(path, line)}: {target}"
        for path in files(".md")
        for line, target in links(path)
        if broken(path, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_links_and_headings_are_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text(
        "# What `it` is: a [name](b.md)\n\n[here](#what-it-is-a-name) [twice](#twice-1) `[code](no.md)`\n"
        "[`text`](gone.md) [out](https://example.org)\n[def]: <also gone.md>\n"
        "```\n# not a heading [x](y.md)\n```\n## Twice\n## Twice\n"
    )
    assert anchors(document) == {"what-it-is-a-name", "twice", "twice-1"}
    found = [target for _, target in links(document)]
    assert found == ["b.md", "#what-it-is-a-name", "#twice-1", "gone.md", "also"]
    assert [target for target in found if broken(document, target)] == ["b.md", "gone.md", "also"]
