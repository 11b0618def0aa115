"""Results of searches on disk: a file for each workload, arch and kind of cost.

    <folder>/<key>.json   {"schema", "key", "trials": {configuration: result}, "digest"}
    <folder>/<key>.lock   held by whoever writes that file

A file is written under another name and then renamed, and only with what it holds already: being killed at any moment loses the
trial that runs, and processes that search at once add to each other's results.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pto_wsp.artifact.artifact import replace_file
from pto_wsp.cxx.cache import locked
from pto_wsp.errors import ArtifactError, here

SCHEMA = 1
_FILE = "remove the file, which is then made anew, or give another folder as cache="
_FOLDER = "give as cache= a folder that can be written, on a disk with room"
Entry = dict[str, Any]


class Store:
    """The results of one file. Every method raises ArtifactError where it cannot be read or written, or is damaged."""

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        self._key = key
        self._path = Path(folder) / f"{key}.json"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise self._unusable("cannot be written", e, _FOLDER) from e
        self._entries = self._read()

    def get(self, config: str) -> Entry | None:
        """What is known of a configuration."""
        return self._entries.get(config)

    def add(self, config: str, entry: Entry) -> None:
        """Remember what was found, on disk too."""
        try:
            with locked(self._path.with_suffix(".lock")):
                self._entries = {**self._read(), config: entry}
                self._write()
        except OSError as e:
            raise self._unusable("cannot be written", e, _FOLDER) from e

    def _read(self) -> dict[str, Entry]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as e:
            raise self._unusable("cannot be read", e) from e
        try:
            data = json.loads(text)
            trials: dict[str, Entry] = data["trials"]
            good = (data["schema"], data["key"], data["digest"]) == (SCHEMA, self._key, _digest(trials))
        except (ValueError, TypeError, KeyError, RecursionError) as e:
            raise self._unusable("is damaged", e) from e
        if not good:
            raise self._unusable("is damaged, or of another version", "its digest, key or schema is another one")
        return trials

    def _write(self) -> None:
        data = {"schema": SCHEMA, "key": self._key, "trials": self._entries, "digest": _digest(self._entries)}
        replace_file(self._path, json.dumps(data, indent=1).encode())

    def _unusable(self, why: str, because: object, fix: str = _FILE) -> ArtifactError:
        return ArtifactError(
            "PTO432",
            f"the file of results {self._path} {why}",
            values={"folder": self._path.parent, "because": because},
            loc=here(),
            fix=fix,
        )


def _digest(trials: dict[str, Entry]) -> str:
    return hashlib.sha256(json.dumps(trials, sort_keys=True).encode()).hexdigest()
