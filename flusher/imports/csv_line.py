"""Step 2 of an import: a line into its fields (RFC 4180), by Python's `csv`. Pure.

Why by `csv`, and each line on its own: docs/decisions/0020-imports.md.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

from flusher.imports.file_lines import LONGEST

COLUMNS: Final = ("id", "monthly_user_hash", "highest_role", "created_at")
SITE_COLUMN: Final = "site"

_SEPARATORS: Final = ",;\t|"
_HEX_DIGITS: Final = re.compile(r"[0-9a-fA-F]{64}")
_NAMES_SHOWN: Final = 200

Fields: TypeAlias = tuple[str, str, str, str, str]
"""The texts of a line: `COLUMNS` and then the site, which is empty if the file has no such column.
There may be spaces around them.
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the first line says: the separator, the number of fields, and which of them are used."""

    separator: str
    number: int
    has_sites: bool
    select: Callable[[Sequence[str]], Fields]
    """Takes the fields of a line, followed by an empty one."""

    def fields(self, line: str) -> Fields:
        """The fields of a line that are used.

        Raises:
            ValueError: what is wrong with the line, without its content.
        """
        if len(line) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST:,} characters")
        texts = _split(line, self.separator)
        if len(texts) != self.number:
            what = "has more or fewer fields than the first line" if line.strip() else "is empty"
            raise ValueError(f"it {what}")
        texts.append("")
        return self.select(texts)


def read_layout(first_line: str, separator: str | None = None) -> Layout:
    """Reads a file's first line. Without a separator it is detected.

    Names may be in upper case, may have spaces around them, and spaces or hyphens for underscores.

    Raises:
        ValueError: what is wrong with the line.
    """
    # The right separator is the one that gives the most of the known names.
    tried = [(_names(first_line, each), each) for each in separator or _SEPARATORS]
    names, found = max(tried, key=lambda each: len(set(each[0]) & {*COLUMNS}))
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(_why_missing(first_line, missing, names, found))
    for name in (*COLUMNS, SITE_COLUMN):
        if names.count(name) > 1:
            raise ValueError(f"its first line names {name} {names.count(name)} times: which is it?")
    has_sites = SITE_COLUMN in names
    places = [*map(names.index, COLUMNS), names.index(SITE_COLUMN) if has_sites else len(names)]
    return Layout(found, len(names), has_sites, itemgetter(*places))


def _names(line: str, separator: str) -> list[str]:
    try:
        return [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in _split(line, separator)]
    except ValueError:
        return []


def _why_missing(line: str, missing: Sequence[str], names: Sequence[str], separator: str) -> str:
    problem = f"its first line does not name {', '.join(missing)}"
    if _HEX_DIGITS.search(line):
        return f"{problem}: it is a session, and no line with the columns' names comes before it"
    if not line.strip():
        return f"{problem}: it is empty"
    if not line.isprintable() and "\t" not in line:
        return f"{problem}: it is not text"
    if not names:
        return f"{problem}: a quotation mark in it is not closed, or has something behind it"
    shown = ", ".join(names)[:_NAMES_SHOWN]
    how = "a tab" if separator == "\t" else repr(separator)
    return f"{problem}; separated by {how} (--separator) it names {shown}"


def _split(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split(separator)
    try:
        # Each line on its own, so that an open quotation mark does not swallow the next lines.
        (texts,) = csv.reader((line,), delimiter=separator, strict=True)
    except csv.Error:
        raise ValueError(
            "a quotation mark in it is not closed in the same line, or has something behind it"
        ) from None
    return texts
