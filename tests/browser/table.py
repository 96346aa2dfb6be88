"""The table in beacon/README.md of what each engine does: the tests write it, and compare with it.

`make beacon-table` writes it; every other run compares.
"""

import os
import re
from pathlib import Path

_TABLE = re.compile(r"(?<=<!-- made by `make beacon-table` -->\n).*?(?=<!-- end -->)", re.DOTALL)
_IS_WRITTEN = os.environ.get("BEACON_TABLE") == "write"
_CORNER = "what was done"


class Table:
    """Rows by what was done, and in each what was seen by engine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = _TABLE.search(path.read_text())
        assert found, f"{path} has no place for the table"
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()
        ]
        head = lines[0] if lines else [_CORNER]
        engines = [name.rpartition(" ") for name in head[1:]]
        self._versions = {name: version for name, _, version in engines}
        self._known = {
            what: dict(zip(self._versions, cells, strict=True)) for what, *cells in lines[2:]
        }
        self._seen: dict[str, dict[str, str]] = {}

    def compare(self, what: str, engine: str, version: str, seen: str) -> None:
        """Compares what was seen with the table, or keeps it to be written there."""
        known = self._known.get(what, {})
        if _IS_WRITTEN:
            self._versions[engine] = ".".join(version.split(".")[:2])
            # The cells of an engine that is missing here stay as they are.
            self._seen.setdefault(what, dict(known))[engine] = seen
        else:
            say = f"beacon/README.md, {what!r}, {engine}: `make beacon-table` writes it anew"
            assert known.get(engine) == seen, say

    def write(self) -> None:
        """Into its place, if it is to be written: the rows of this run, in its order."""
        if not _IS_WRITTEN:
            return
        head = [_CORNER, *(f"{name} {version}" for name, version in self._versions.items())]
        lines = [head, ["---"] * len(head)]
        for what, cells in self._seen.items():
            lines.append([what, *(cells.get(engine, "") for engine in self._versions)])
        text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        self._path.write_text(_TABLE.sub(lambda _: text, self._path.read_text()))
